"""The face of timm's BEiT (v1, v2): a relative position bias in every block, q and v biases beside the fused layer.

Its bias is added behind the layer's own product from the moment the layers are asked for, as in `eva.py`. Prompts have
no relative position: their rows and columns of the bias are zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.beit import Attention, Beit, Block
from torch import Tensor, nn

from .face import POINTS, Context, Face, Site, has_linears, sites

LAYERS = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc1_g": "fc1", "mlp.fc1_x": "fc1",
          "mlp.fc2": "fc2"}


class BeitFace(Face):
    """BEiT."""

    family = "beit"
    points = POINTS

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, Beit)

    def other_form(self) -> str:
        plain = all(has_linears(b, ("attn.qkv", "attn.proj", "mlp.fc2")) for b in self.model.blocks)
        return "" if plain else "whose blocks are of another form"

    def blocks(self) -> list[nn.Module]:
        return list(self.model.blocks)

    def linears(self) -> list[Site]:
        for block in self.model.blocks:
            block.attn.qkv_bias_separate = True
        return sites(self.model, self.blocks(), LAYERS)

    def biases(self) -> list[nn.Parameter]:
        return [p for b in self.model.blocks for p in (b.attn.q_bias, b.attn.v_bias) if p is not None]

    def adapt(self, block: nn.Module) -> None:
        block.__class__ = AdaptedBeitBlock

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        block.__class__ = PromptedBeitBlock
        block.register_parameter("prompts", prompts)
        block.prompt_dropout = nn.Dropout(dropout).train(block.training)
        block.prefix, block.dropped, block.inside = self.prefix, dropped, inside  # type: ignore[assignment]
        block.attn.__class__ = PromptedAttention  # type: ignore[assignment]
        block.attn.prefix, block.attn.inside = self.prefix, inside  # type: ignore[union-attr, assignment]

    def context(self) -> Context:
        shared = self.model.rel_pos_bias
        return Context(position=None if shared is None else shared())

    def embed(self, x: Tensor) -> tuple[Tensor, Context]:
        net = self.model
        t = net.patch_embed(x)
        t = torch.cat((net.cls_token.expand(t.shape[0], -1, -1), t), dim=1)
        t = t if net.pos_embed is None else t + net.pos_embed
        return net.pos_drop(t), self.context()

    def through(self, block: nn.Module, t: Tensor, context: Context) -> Tensor:
        out: Tensor = block(t, shared_rel_pos_bias=context.position)
        return out

    def pooled(self, t: Tensor, context: Context) -> Tensor:
        return t[:, self.prefix:].mean(dim=1) if self.model.global_pool == "avg" else t[:, 0]

    def front(self) -> list[tuple[str, nn.Module]] | None:
        if self.model.grad_checkpointing:
            return None
        return [(n, m) for n in ("patch_embed", "pos_drop", "rel_pos_bias")
                if (m := getattr(self.model, n)) is not None]

    def attention(self) -> tuple[int, int, int] | None:
        heads = int(self.model.blocks[0].attn.num_heads)
        return heads, int(self.model.patch_embed.num_patches) + self.prefix, int(self.model.embed_dim) // heads


class AdaptedBeitBlock(Block):
    """timm's block with adapters at named points, as `vit.AdaptedBlock`."""

    points: nn.ModuleDict

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        at = self.points
        n1 = self.norm1(x)
        a = self.attn(n1, shared_rel_pos_bias=shared_rel_pos_bias)
        a = a if self.gamma_1 is None else self.gamma_1 * a
        a = a + at["in_attn"](a) if "in_attn" in at else a
        a = self.drop_path1(a)
        a = a + at["post_attn"](a) if "post_attn" in at else a
        x = x + a
        x = x + at["par_attn"](n1) if "par_attn" in at else x
        n2 = self.norm2(x)
        m = self.mlp(n2)
        m = m if self.gamma_2 is None else self.gamma_2 * m
        m = m + at["in_mlp"](m) if "in_mlp" in at else m
        m = self.drop_path2(m)
        m = m + at["post_mlp"](m) if "post_mlp" in at else m
        out: Tensor = x + m
        out = out + at["par_mlp"](x) if "par_mlp" in at else out
        out = out + at["par_norm2"](n2) if "par_norm2" in at else out
        return out + at["post_block"](out) if "post_block" in at else out


class PromptedAttention(Attention):
    """timm's attention over a sequence that holds `inside` prompts behind the first `prefix` tokens."""

    prefix: int
    inside: int

    def _get_rel_pos_bias(self) -> Tensor:
        """(1, heads, N + inside, N + inside)."""
        return widened(super()._get_rel_pos_bias(), self.prefix, self.inside)


class PromptedBeitBlock(Block):
    """timm's block with prompts in the sequence, as `vit.PromptedBlock`."""

    prompts: nn.Parameter | None
    prompt_dropout: nn.Dropout
    prefix: int
    dropped: int
    inside: int

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N + entered - dropped, D)."""
        if self.prompts is not None:
            prompts = self.prompt_dropout(self.prompts.to(x.dtype).expand(x.shape[0], -1, -1))
            x = torch.cat([x[:, :self.prefix], prompts, x[:, self.prefix:]], dim=1)
        shared = None if shared_rel_pos_bias is None else widened(shared_rel_pos_bias, self.prefix, self.inside)
        x = super().forward(x, shared_rel_pos_bias=shared)
        if self.dropped:
            x = torch.cat([x[:, :self.prefix], x[:, self.prefix + self.dropped:]], dim=1)
        return x


def widened(bias: Tensor, prefix: int, count: int) -> Tensor:
    """(..., N, N) -> (..., N + count, N + count): zero in the rows and columns of the prompts."""
    if not count:
        return bias
    rows = torch.cat([bias[..., :prefix, :], F.pad(bias[..., :0, :], (0, 0, 0, count)), bias[..., prefix:, :]], dim=-2)
    return torch.cat([rows[..., :prefix], F.pad(rows[..., :0], (0, count)), rows[..., prefix:]], dim=-1)
