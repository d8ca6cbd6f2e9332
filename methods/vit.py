"""The face of timm's VisionTransformer, the only file that knows its insides; and the head, as all families have it."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from .batch_norm import hold_statistics
from .face import POINTS, Context, Face, Site, has_linears, sites
from .two_heads import head_like


def freeze(model: nn.Module) -> None:
    """No weight of the model trains, and no running statistics move (see `batch_norm`)."""
    model.requires_grad_(False)
    hold_statistics(model)


def head_width(model: nn.Module) -> int:
    """D of what the head reads: of the last map, or of what lies between the pooling and the classifier."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]


def replace_head(model: nn.Module, classes: int) -> nn.Module:
    """Put the new classification head in, trainable; on ViT it is `head` (both, where DeiT has two), on Swin
    `head.fc`, on ResNet `fc`."""
    width = head_width(model)
    like = next(model.parameters())
    model.reset_classifier(classes)  # type: ignore[operator]
    head = model.get_classifier()  # type: ignore[operator]
    fresh = head_like(head, width, classes).to(device=like.device, dtype=like.dtype)
    for path, module in list(model.named_modules()):
        if module is head:
            model.set_submodule(path, fresh)
    return model


def head_names(model: nn.Module) -> frozenset[str]:
    """The names of the head's parameters."""
    head = model.get_classifier()  # type: ignore[operator]
    inside = {id(p) for p in head.parameters()}
    return frozenset(n for n, p in model.named_parameters() if id(p) in inside)


class VitFace(Face):
    """A plain pre-norm ViT with a fused qkv: class token or none, registers, any pooling, LayerScale, norms of q and k,
    and DeiT's two heads.

    Other block forms share the names but not the formula.
    """

    family = "vit"
    points = POINTS
    layers = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer)

    def other_form(self) -> str:
        plain = all(isinstance(b, Block) and has_linears(b, tuple(self.layers)) for b in self.model.blocks)
        if any("Parallel" in type(b).__name__ for b in self.model.blocks):
            return "whose blocks run attention and MLP side by side"
        return "" if plain and not hasattr(self.model, "head_dist") else "whose blocks are of another form"

    def blocks(self) -> list[nn.Module]:
        return list(self.model.blocks)

    def linears(self) -> list[Site]:
        return sites(self.model, self.blocks(), self.layers)

    def adapt(self, block: nn.Module) -> None:
        block.__class__ = AdaptedBlock

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        block.__class__ = PromptedBlock
        block.register_parameter("prompts", prompts)
        block.prompt_dropout = nn.Dropout(dropout).train(block.training)
        block.prefix, block.dropped = self.prefix, dropped  # type: ignore[assignment]

    def embed(self, x: Tensor) -> tuple[Tensor, Context]:
        net = self.model
        return net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x)))), self.context()

    def through(self, block: nn.Module, t: Tensor, context: Context) -> Tensor:
        out: Tensor = block(t) if context.mask is None else block(t, attn_mask=context.mask)
        return out

    def front(self) -> list[tuple[str, nn.Module]] | None:
        if self.model.grad_checkpointing:
            return None
        return [(n, getattr(self.model, n)) for n in ("patch_embed", "pos_drop", "patch_drop", "norm_pre")]

    def attention(self) -> tuple[int, int, int] | None:
        heads = int(self.model.blocks[0].attn.num_heads)
        return heads, int(self.model.patch_embed.num_patches) + self.prefix, int(self.model.embed_dim) // heads


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
