"""The narrow face of a backbone: all that adapters, side networks and the frozen prefix may ask of it.

One subclass per family (`vit.py`, `swin.py`, `resnet.py`, ...) answers from timm's insides; `families.face_of` finds
it. An adapter asks for blocks, a point, the linear layers of a role or a prompt's place, and never for a class; so a
new family is one file. What a batch needs beside its tokens travels as a `Context` (attention mask, rotary position,
share of each token in the pooled feature), so that whoever passes tokens through single blocks passes them right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

# Where a block can be entered; each holds a Delta. n1 = norm1(x), a and m are the two branches' outputs.
#   par_attn   reads n1, adds to the stream after attention     post_attn  reads and adds to the dropped branch a
#   par_mlp    reads the stream x1 before norm2                 post_mlp   reads and adds to the dropped branch m
#   par_norm2  reads n2 = norm2(x1)                             in_attn, in_mlp: the same, before DropPath
#   post_block reads and adds to the block's output
POINTS = ("par_attn", "in_attn", "post_attn", "par_mlp", "par_norm2", "in_mlp", "post_mlp", "post_block")


class Context(NamedTuple):
    """What belongs to a batch beside its tokens."""

    mask: Tensor | None = None  # for attention: bool, True where a key may be read, or float, added to the scores
    share: Tensor | None = None  # (B, K) of each token in the pooled feature, rows sum to 1; None: as the model pools
    real: Tensor | None = None  # (B, K) bool, False for padding; None: there is none
    position: Tensor | None = None  # rotary position or relative bias, as the family's blocks take it


class Site(NamedTuple):
    """A linear layer of the backbone."""

    path: str  # from the model
    linear: nn.Linear
    depth: int  # of its block; patch merging counts with the block that follows
    role: str  # qkv, or q, k, v; proj; fc1, fc2; gate (of a gated MLP); reduction


class Face:
    """What is known of any model that has a head; families say more.

    `family` is the word in `Adapter.families`; `stages` whether width and grid change on the way; `points` where a
    Delta can enter a block.
    """

    family: ClassVar[str] = ""
    stages: ClassVar[bool] = False
    points: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        """Whether the model is of this family."""
        return True

    def other_form(self) -> str:
        """Why its blocks do not follow the family's formula, as 'whose ...'; empty where they do."""
        return "whose insides are not known"

    def blocks(self) -> list[nn.Module]:
        """The blocks in order of depth."""
        raise TypeError(f"the blocks of a {type(self.model).__name__} are not known")

    def linears(self) -> list[Site]:
        """Every linear layer of the backbone in order of depth; the patch embedding is a convolution, the head new."""
        raise TypeError(f"the layers of a {type(self.model).__name__} are not known")

    def norms(self) -> list[tuple[nn.Module, int]]:
        """Every norm in front of the final one, with its depth."""
        return [(n, depth) for depth, b in enumerate(self.blocks()) for n in (b.norm1, b.norm2)]  # type: ignore[misc]

    def biases(self) -> list[nn.Parameter]:
        """Biases of linear layers that are kept beside them, as attention's q and v biases in some families."""
        return []

    def final_norms(self) -> list[nn.Module]:
        """The norm before the head: `norm`, or `fc_norm` behind the pooling; the other one is an identity."""
        both = [getattr(self.model, name, None) for name in ("norm", "fc_norm")]
        return [m for m in both if m is not None and any(True for _ in m.parameters())]

    def between(self, first: int) -> list[nn.Module]:
        """What lies between blocks behind block `first`: Swin's patch mergings."""
        return []

    def adapt(self, block: nn.Module) -> None:
        """Let a block use the Deltas in its `points`, in place: its modules, names and buffers stay."""
        raise TypeError(f"a {type(self.model).__name__} has no points")

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        """Let prompts enter before the block, behind all prefix tokens, and `dropped` of them leave behind it.

        `inside`: how many are in the sequence while it passes the block, whether they entered here or before.
        """
        raise TypeError(f"a {type(self.model).__name__} has no place for prompts")

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches: class token, registers."""
        return int(getattr(self.model, "num_prefix_tokens", 0))

    def context(self) -> Context:
        """What of a context does not depend on the batch."""
        return Context()

    def embed(self, x: Tensor) -> tuple[Tensor, Context]:
        """Inputs -> the tokens in front of the first block (B, K, D), and their context."""
        raise TypeError(f"how a {type(self.model).__name__} embeds is not known")

    def through(self, block: nn.Module, t: Tensor, context: Context) -> Tensor:
        """Tokens through one block."""
        out: Tensor = block(t)
        return out

    def final(self, t: Tensor) -> Tensor:
        """The tokens behind the final norm."""
        out: Tensor = self.model.norm(t)
        return out

    def pooled(self, t: Tensor, context: Context) -> Tensor:
        """Final tokens (B, K, D) -> (B, D), without whatever norm may follow."""
        out: Tensor = self.model.pool(t) if context.share is None else torch.einsum("bk,bkd->bd", context.share, t)
        return out

    def features(self, t: Tensor, context: Context) -> Tensor:
        """Final tokens -> what the head reads (B, D)."""
        if context.share is None:
            out: Tensor = self.model.forward_head(t, pre_logits=True)
            return out
        return self.model.head_drop(self.model.fc_norm(self.pooled(t, context)))  # type: ignore[no-any-return]

    def front(self) -> list[tuple[str, nn.Module]] | None:
        """The modules in front of the first block; None where tokens cannot be stored between blocks."""
        return None

    def attention(self) -> tuple[int, int, int] | None:
        """(heads, tokens, width of a head) of every block; None where they differ or are not known."""
        return None

    def patches(self, features: Tensor) -> Tensor:
        """What forward_features gives -> (B, N, D): patch tokens, prefix tokens removed by position.

        Of a map the tokens are its positions: (B, H, W, D) where there is a patch embedding, else (B, D, H, W).
        """
        if features.ndim == 4:
            return features.flatten(1, 2) if hasattr(self.model, "patch_embed") else features.flatten(2).mT
        count = int(self.model.patch_embed.num_patches)
        return features[:, features.shape[1] - count:]


def sites(model: nn.Module, blocks: list[nn.Module], layers: Mapping[str, str]) -> list[Site]:
    """The linear layers of all blocks in order of depth; `layers` maps a path in a block to its role, where it is."""
    path_of = {id(module): path for path, module in model.named_modules()}
    found = []
    for depth, block in enumerate(blocks):
        for inner, role in layers.items():
            linear = _submodule(block, inner)
            if isinstance(linear, nn.Linear):
                found.append(Site(path_of[id(linear)], linear, depth, role))
    return found


def _submodule(module: nn.Module, path: str) -> object:
    """What stands at the path; None where there is nothing, or a place that is empty."""
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def has_linears(block: nn.Module, paths: tuple[str, ...]) -> bool:
    """Whether all of these are linear layers of the block."""
    return all(isinstance(_submodule(block, p), nn.Linear) for p in paths)
