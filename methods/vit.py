"""The only file that knows timm's ViT insides: blocks, tokens, the head, and the points where an adapter may enter."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from .compose import new_head

# Where a block can be entered; each holds a Delta. n1 = norm1(x), a and m are the two branches' outputs.
#   par_attn   reads n1, adds to the stream after attention     post_attn  reads and adds to the dropped branch a
#   par_mlp    reads the stream x1 before norm2                 post_mlp   reads and adds to the dropped branch m
#   par_norm2  reads n2 = norm2(x1)                             in_attn, in_mlp: the same, before DropPath
#   post_block reads and adds to the block's output
POINTS = ("par_attn", "in_attn", "post_attn", "par_mlp", "par_norm2", "in_mlp", "post_mlp", "post_block")


def freeze(model: nn.Module) -> None:
    """No weight of the model trains."""
    model.requires_grad_(False)


def replace_head(model: nn.Module, classes: int) -> nn.Module:
    """Put the new classification head in, trainable; on ViT it is `head`, on Swin `head.fc`, on ResNet `fc`."""
    width = int(model.num_features)  # type: ignore[arg-type]
    like = next(model.parameters())
    model.reset_classifier(classes)  # type: ignore[operator]
    head = model.get_classifier()  # type: ignore[operator]
    fresh = new_head(width, classes).to(device=like.device, dtype=like.dtype)
    for path, module in list(model.named_modules()):
        if module is head:
            model.set_submodule(path, fresh)
    return model


def head_names(model: nn.Module) -> frozenset[str]:
    """The names of the head's parameters."""
    head = model.get_classifier()  # type: ignore[operator]
    inside = {id(p) for p in head.parameters()}
    return frozenset(n for n, p in model.named_parameters() if id(p) in inside)


def patch_tokens(model: nn.Module, x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, N, D): patch tokens after the final norm, prefix tokens removed by position.

    Prompts left before the final norm. On Swin and ResNet the tokens are the positions of the last map.
    """
    features: Tensor = model.forward_features(x)  # type: ignore[operator]
    if features.ndim == 4:  # Swin has (B, H, W, D), ResNet (B, D, H, W)
        return features.flatten(1, 2) if hasattr(model, "patch_embed") else features.flatten(2).mT
    patches = int(model.patch_embed.num_patches)  # type: ignore[union-attr, arg-type]
    return features[:, features.shape[1] - patches:]


def is_vit(model: nn.Module) -> bool:
    """A plain pre-norm ViT with a fused qkv and one head: other block forms share the names but not the formula."""
    return (isinstance(model, VisionTransformer) and not hasattr(model, "head_dist")
            and all(isinstance(b, Block) and _is_plain(b) for b in model.blocks))


def _is_plain(block: nn.Module) -> bool:
    paths = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    try:
        return all(isinstance(block.get_submodule(p), nn.Linear) for p in paths)
    except AttributeError:
        return False


class AdaptedBlock(Block):
    """timm's block with adapters at named points; an absent one costs nothing and leaves every bit as it was."""

    points: nn.ModuleDict

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        at = self.points
        n1 = self.norm1(x)
        a = self.ls1(self.attn(n1, attn_mask=attn_mask, is_causal=is_causal))
        a = a + at["in_attn"](a) if "in_attn" in at else a
        a = self.drop_path1(a)
        a = a + at["post_attn"](a) if "post_attn" in at else a
        x = x + a
        x = x + at["par_attn"](n1) if "par_attn" in at else x
        n2 = self.norm2(x)
        m = self.ls2(self.mlp(n2))
        m = m + at["in_mlp"](m) if "in_mlp" in at else m
        m = self.drop_path2(m)
        m = m + at["post_mlp"](m) if "post_mlp" in at else m
        out: Tensor = x + m
        out = out + at["par_mlp"](x) if "par_mlp" in at else out
        out = out + at["par_norm2"](n2) if "par_norm2" in at else out
        return out + at["post_block"](out) if "post_block" in at else out


class PromptedBlock(Block):
    """timm's block with prompts in the sequence: `prompts` (p, D) enter behind the first `prefix` tokens.

    `dropped` prompt tokens leave behind the block. Prompts that enter and leave in the same block are VPT-deep, which
    replaces them before each block anyway; entering at the first and leaving at the last is VPT-shallow. The final
    norm, the pooling and everything after it therefore never see a prompt.
    """

    prompts: nn.Parameter | None
    prompt_dropout: nn.Dropout
    prefix: int
    dropped: int

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N + entered - dropped, D)."""
        if self.prompts is not None:
            prompts = self.prompt_dropout(self.prompts.to(x.dtype).expand(x.shape[0], -1, -1))
            x = torch.cat([x[:, :self.prefix], prompts, x[:, self.prefix:]], dim=1)
        x = super().forward(x, attn_mask=attn_mask, is_causal=is_causal)
        if self.dropped:
            x = torch.cat([x[:, :self.prefix], x[:, self.prefix + self.dropped:]], dim=1)
        return x
