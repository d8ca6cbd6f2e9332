"""The face of timm's Eva (EVA-02, DINOv3, PE and their kin): rotary positions, gated MLPs, q, k, v fused or apart.

Where q, k and v are fused their bias is kept beside the layer; from the moment the layers are asked for, timm adds it
behind the layer's own product (`qkv_bias_separate`), so that an adapter of the layer is passed. Prompts are held out of
the rotation as class token and registers are.
"""

from __future__ import annotations

import torch
from timm.models.eva import Eva, EvaBlock
from torch import Tensor, nn

from .face import POINTS, Context, Face, Site, has_linears, sites

LAYERS = {"attn.qkv": "qkv", "attn.q_proj": "q", "attn.k_proj": "k", "attn.v_proj": "v", "attn.proj": "proj",
          "mlp.fc1": "fc1", "mlp.fc1_g": "fc1", "mlp.fc1_x": "fc1", "mlp.fc2": "fc2"}


class EvaFace(Face):
    """Eva with norms in front of its branches."""

    family = "eva"
    points = POINTS

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, Eva)

    def other_form(self) -> str:
        if any(not isinstance(b, EvaBlock) for b in self.model.blocks):
            return "whose norms stand behind attention and MLP"
        plain = all(has_linears(b, ("attn.proj", "mlp.fc2")) for b in self.model.blocks)
        return "" if plain else "whose blocks are of another form"

    def blocks(self) -> list[nn.Module]:
        return list(self.model.blocks)

    def linears(self) -> list[Site]:
        for block in self.model.blocks:
            block.attn.qkv_bias_separate = True
        return sites(self.model, self.blocks(), LAYERS)

    def norms(self) -> list[tuple[nn.Module, int]]:
        """Beside the two of a block those inside attention and MLP, where there are any."""
        inner = [(m.norm, depth) for depth, b in enumerate(self.model.blocks) for m in (b.attn, b.mlp)]
        return [*super().norms(), *inner]

    def biases(self) -> list[nn.Parameter]:
        return [p for b in self.model.blocks for p in (getattr(b.attn, "q_bias", None), getattr(b.attn, "v_bias", None))
                if p is not None]

    def adapt(self, block: nn.Module) -> None:
        block.__class__ = AdaptedEvaBlock

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        block.__class__ = PromptedEvaBlock
        block.register_parameter("prompts", prompts)
        block.prompt_dropout = nn.Dropout(dropout).train(block.training)
        block.prefix, block.dropped = self.prefix, dropped  # type: ignore[assignment]
        block.attn.num_prefix_tokens = self.prefix + inside  # type: ignore[union-attr, assignment]

    def context(self) -> Context:
        rope = self.model.rope
        if rope is None:
            return Context()
        grid = {} if hasattr(rope, "feat_shape") else {"shape": self.model.patch_embed.grid_size}
        return Context(position=rope.get_embed(**grid))

    def embed(self, x: Tensor) -> tuple[Tensor, Context]:
        t, rope = self.model._pos_embed(self.model.patch_embed(x))
        return self.model.norm_pre(t), Context(position=rope)

    def through(self, block: nn.Module, t: Tensor, context: Context) -> Tensor:
        rope = context.position
        if rope is not None and self.model.rope_mixed:  # one for each block
            rope = rope[next(i for i, b in enumerate(self.model.blocks) if b is block)]
        out: Tensor = block(t, rope=rope, attn_mask=context.mask)
        return out

    def front(self) -> list[tuple[str, nn.Module]] | None:
        if self.model.grad_checkpointing or self.model.patch_drop is not None:
            return None
        return [(n, m) for n in ("patch_embed", "pos_drop", "rope", "norm_pre")
                if (m := getattr(self.model, n)) is not None]

    def attention(self) -> tuple[int, int, int] | None:
        attn = self.model.blocks[0].attn
        return int(attn.num_heads), int(self.model.patch_embed.num_patches) + self.prefix, int(attn.head_dim)


class AdaptedEvaBlock(EvaBlock):
    """timm's block with adapters at named points, as `vit.AdaptedBlock`."""

    points: nn.ModuleDict

    def forward(self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        at = self.points
        n1 = self.norm1(x)
        a = self.attn(n1, rope=rope, attn_mask=attn_mask, is_causal=is_causal)
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


class PromptedEvaBlock(EvaBlock):
    """timm's block with prompts in the sequence, as `vit.PromptedBlock`; its attention rotates patches alone."""

    prompts: nn.Parameter | None
    prompt_dropout: nn.Dropout
    prefix: int
    dropped: int

    def forward(self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N + entered - dropped, D)."""
        if self.prompts is not None:
            prompts = self.prompt_dropout(self.prompts.to(x.dtype).expand(x.shape[0], -1, -1))
            x = torch.cat([x[:, :self.prefix], prompts, x[:, self.prefix:]], dim=1)
        x = super().forward(x, rope=rope, attn_mask=attn_mask, is_causal=is_causal)
        if self.dropped:
            x = torch.cat([x[:, :self.prefix], x[:, self.prefix + self.dropped:]], dim=1)
        return x
