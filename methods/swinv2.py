"""The face of timm's Swin-v2: norms behind the branches, cosine attention, biases of q and v beside the fused layer.

A point `par_attn` reads what attention reads, which here is the stream itself; `par_mlp` and `par_norm2` both read the
stream in front of the MLP. What is behind a branch stands behind its norm.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block, WindowAttention
from torch import Tensor, nn

from .face import Site
from .swin import SwinFace


class SwinV2Face(SwinFace):
    """Swin-v2."""

    family = "swinv2"

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, SwinTransformerV2)

    def linears(self) -> list[Site]:
        """As Swin's; the small network of relative positions is none of them."""
        for block in self.blocks():
            block.attn.qkv_bias_separate = True  # type: ignore[union-attr, assignment]
        return super().linears()

    def biases(self) -> list[nn.Parameter]:
        return [p for b in self.blocks() for p in (b.attn.q_bias, b.attn.v_bias)  # type: ignore[union-attr, misc]
                if p is not None]

    def adapt(self, block: nn.Module) -> None:
        block.__class__ = AdaptedSwinV2Block

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        """Prompts join every window of the block as they are: attention here reads the stream, not a norm of it."""
        attn = block.attn
        attn.__class__ = PromptedWindowAttention  # type: ignore[union-attr, assignment]
        attn.register_parameter("prompts", prompts)  # type: ignore[union-attr, operator]
        attn.prompt_dropout = nn.Dropout(dropout).train(block.training)  # type: ignore[union-attr, assignment]


class AdaptedSwinV2Block(SwinTransformerV2Block):
    """timm's block with adapters at the points of `face.POINTS`, outside the window partition."""

    points: nn.ModuleDict

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        at, read = self.points, x
        a = self.norm1(self._attn(x))
        a = a + at["in_attn"](a) if "in_attn" in at else a
        a = self.drop_path1(a)
        a = a + at["post_attn"](a) if "post_attn" in at else a
        x = x + a
        x = x + at["par_attn"](read) if "par_attn" in at else x
        m = self.norm2(self.mlp(x))
        m = m + at["in_mlp"](m) if "in_mlp" in at else m
        m = self.drop_path2(m)
        m = m + at["post_mlp"](m) if "post_mlp" in at else m
        out: Tensor = x + m
        out = out + at["par_mlp"](x) if "par_mlp" in at else out
        out = out + at["par_norm2"](x) if "par_norm2" in at else out
        return out + at["post_block"](out) if "post_block" in at else out


class PromptedWindowAttention(WindowAttention):
    """timm's cosine attention with prompts as further keys and values, in every window, without position or mask."""

    prompts: nn.Parameter
    prompt_dropout: nn.Dropout

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(windows B, N, C), mask (windows, N, N) -> (windows B, N, C)."""
        every, tokens, channels = x.shape
        bias = None if self.q_bias is None else torch.cat([self.q_bias, self.k_bias, self.v_bias])  # type: ignore[list-item]
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(every, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        extra = self.prompt_dropout(self.prompts)
        count = len(extra)
        pair = F.linear(extra, self.qkv.weight[channels:], None if bias is None else bias[channels:])
        extra_k, extra_v = pair.reshape(count, 2, self.num_heads, -1 if count else q.shape[-1]).permute(1, 2, 0, 3)
        k = torch.cat([extra_k.expand(every, -1, -1, -1), k], dim=2)
        v = torch.cat([extra_v.expand(every, -1, -1, -1), v], dim=2)
        scale = torch.clamp(self.logit_scale, max=math.log(100.0)).exp()
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
        scores = scores + F.pad(self._positions(), (count, 0))
        if mask is not None:
            wide = F.pad(mask, (count, 0))[None, :, None]  # (1, windows, 1, N, p + N)
            scores = (scores.reshape(-1, len(mask), *scores.shape[1:]) + wide).flatten(0, 1)
        mixed = self.attn_drop(self.softmax(scores)) @ v
        out: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(every, tokens, -1)))
        return out

    def _positions(self) -> Tensor:
        """(1, heads, N, N): 16 times the sigmoid of what the small network makes of relative coordinates."""
        table: Tensor = self.cpb_mlp(self.get_buffer("relative_coords_table")).view(-1, self.num_heads)
        area = self.window_size[0] * self.window_size[1]
        bias = table[self.get_buffer("relative_position_index").view(-1)].view(area, area, -1).permute(2, 0, 1)
        return 16 * torch.sigmoid(bias.contiguous())[None]
