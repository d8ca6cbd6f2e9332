"""Side networks: a frozen backbone that is only read, and a small network beside it that trains.

`early(x)` runs the frozen part under no_grad in eval mode and returns the tapped states; nothing in it depends on a
trained weight, so its result can be stored per image and handed back to the model in place of the images. `late`
goes from states to logits. Calling `train()` reaches the side network only: the backbone stays in eval mode, whatever
DropPath or BatchNorm it holds. The state dict holds the side network and the head, never the backbone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .compose import new_head
from .face import Context, Face
from .families import face_of
from .vit import freeze, head_width

States = dict[int, Tensor]  # 0: embedded tokens (B, K, D); i: output of block i, counted from 1
IMAGE = -1  # the state that is the image itself
BESIDE = {"mask": -2, "share": -3, "real": -4}  # of a batch's context, where it has them: a stored state is complete


class SideNetwork(nn.Module):
    """Base of the side networks: subclasses make their modules and say what `tokens` or `pooled` are."""

    def __init__(self, backbone: nn.Module, taps: Iterable[int], classes: int) -> None:
        super().__init__()
        backbone.reset_classifier(0)  # type: ignore[operator]
        freeze(backbone)
        like = next(backbone.parameters())
        self.backbone = backbone.eval()
        self.taps = tuple(sorted(taps))
        self.num_features = head_width(backbone)
        self.head = new_head(self.num_features, classes).to(device=like.device, dtype=like.dtype)
        self.register_state_dict_post_hook(_without_backbone)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_backbone_is_elsewhere)  # type: ignore[no-untyped-call]

    @property
    def face(self) -> Face:
        """Of the backbone."""
        return face_of(self.backbone)

    def context(self, states: States) -> Context:
        """What belongs to the batch of these states, and to every batch."""
        return self.face.context()._replace(**{name: states[key] for name, key in BESIDE.items() if key in states})

    def settle(self) -> None:
        """Called last by the subclass: side modules to the backbone's device and type."""
        like = next(self.backbone.parameters())
        self.to(device=like.device, dtype=like.dtype)

    def train(self, mode: bool = True) -> SideNetwork:
        super().train(mode)
        self.backbone.eval()
        return self

    def early(self, x: Tensor) -> States:
        """(B, 3, H, W) -> the tapped states, constants for autograd."""
        with torch.no_grad():
            return self.read(x)

    def read(self, x: Tensor) -> States:
        """(B, 3, H, W) -> tapped states of a transformer; runs no block behind the last tap."""
        face = self.face
        chain = face.blocks()
        states = {IMAGE: x} if IMAGE in self.taps else {}
        tokens, context = face.embed(x)
        states |= {key: t for name, key in BESIDE.items() if (t := getattr(context, name)) is not None}
        for i in range(self.taps[-1] + 1):
            tokens = face.through(chain[i - 1], tokens, context) if i else tokens
            if i in self.taps:
                states[i] = tokens
        return states

    def tokens(self, states: States) -> Tensor:
        """Tapped states -> (B, K, D), ready to be pooled."""
        raise TypeError(f"{type(self).__name__} has no tokens")

    def pooled(self, states: States) -> Tensor:
        """Tapped states -> (B, D), the head's input."""
        return self.face.pooled(self.tokens(states), self.context(states))

    def late(self, states: States) -> Tensor:
        """Tapped states -> (B, C) logits."""
        return self.head(self.pooled(states))

    def forward(self, x: Tensor | States) -> Tensor:
        """Images (B, 3, H, W), or states that `early` gave, -> (B, C)."""
        return self.late(x if isinstance(x, dict) else self.early(x))

    def forward_features(self, x: Tensor | States) -> Tensor:
        """-> (B, K, D): the tokens in front of the pooling."""
        return self.tokens(x if isinstance(x, dict) else self.early(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    @property
    def patch_embed(self) -> nn.Module:
        return self.backbone.patch_embed  # type: ignore[return-value]

    def cache_spec(self, image: tuple[int, int, int]) -> dict[int, tuple[int, ...]]:
        """(3, H, W) -> shape of each state of one image; what a cache of `early` stores."""
        like = next(self.backbone.parameters())
        states = self.early(torch.zeros(1, *image, device=like.device, dtype=like.dtype))
        return {i: tuple(t.shape[1:]) for i, t in states.items()}


def _without_backbone(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [k for k in state if k.startswith(f"{prefix}backbone.")]:
        del state[key]


def _backbone_is_elsewhere(module: nn.Module, problems: Any) -> None:
    problems.missing_keys[:] = [k for k in problems.missing_keys if "backbone." not in k]


def every(last: int, step: int) -> tuple[int, ...]:
    """State `last` and every step-th one before it."""
    return tuple(range(last, -1, -step))[::-1]


def real_tokens(backbone: nn.Module, t: Tensor) -> Tensor:
    """(B, K, D) -> without register tokens: the class token, where there is one, and the patches."""
    prefix = face_of(backbone).prefix
    if prefix <= 1:
        return t
    first = 1 if getattr(backbone, "cls_token", None) is not None else 0
    return torch.cat([t[:, :first], t[:, prefix:]], dim=1)


def class_query(block: nn.Module, x: Tensor) -> Tensor:
    """A plain block's output for the class token alone: (B, K, D) -> (B, 1, D). Keys and values of all tokens."""
    b: Any = block
    attn, n1 = b.attn, b.norm1(x)
    batch, count, _ = x.shape
    width = attn.num_heads * attn.head_dim
    bias = attn.qkv.bias
    q = F.linear(n1[:, :1], attn.qkv.weight[:width], None if bias is None else bias[:width])
    kv = F.linear(n1, attn.qkv.weight[width:], None if bias is None else bias[width:])
    q = q.reshape(batch, 1, attn.num_heads, attn.head_dim).transpose(1, 2)
    k, v = kv.reshape(batch, count, 2, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    a = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v)
    a = attn.norm(a.transpose(1, 2).reshape(batch, 1, width))
    a = a if attn.gate is None else a * attn.gate(n1[:, :1]).sigmoid()
    x1 = x[:, :1] + b.drop_path1(b.ls1(attn.proj_drop(attn.proj(a))))
    out: Tensor = x1 + b.drop_path2(b.ls2(b.mlp(b.norm2(x1))))
    return out
