"""The face of timm's Swin, the only file that knows its insides: blocks by stage, patch merging, prompts in windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from torch import Tensor, nn

from .face import POINTS, Face, Site, sites


class SwinFace(Face):
    """Swin: the blocks of all stages are counted in one row."""

    family = "swin"
    stages = True
    points = POINTS
    layers = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, SwinTransformer)

    def other_form(self) -> str:
        return ""

    def blocks(self) -> list[nn.Module]:
        return [block for stage in self.model.layers for block in stage.blocks]

    def mergings(self) -> list[tuple[int, nn.Module]]:
        """(depth of its stage's first block, patch merging): the merging comes before that block."""
        found, depth = [], 0
        for stage in self.model.layers:
            if isinstance(getattr(stage.downsample, "reduction", None), nn.Linear):
                found.append((depth, stage.downsample))
            depth += len(stage.blocks)
        return found

    def linears(self) -> list[Site]:
        path_of = {id(module): path for path, module in self.model.named_modules()}
        merging = [Site(path_of[id(m.reduction)], m.reduction, depth, "reduction")  # type: ignore[arg-type]
                   for depth, m in self.mergings()]
        return sorted([*merging, *sites(self.model, self.blocks(), self.layers)], key=lambda s: s.depth)

    def norms(self) -> list[tuple[nn.Module, int]]:
        return [*super().norms(), (self.model.patch_embed.norm, 0),
                *((m.norm, depth) for depth, m in self.mergings())]  # type: ignore[misc]

    def between(self, first: int) -> list[nn.Module]:
        return [m for depth, m in self.mergings() if depth > first]

    def adapt(self, block: nn.Module) -> None:
        block.__class__ = AdaptedSwinBlock

    def prompt(self, block: nn.Module, prompts: nn.Parameter | None, inside: int, dropped: int,
               dropout: float) -> None:
        """Prompts join every window of the block; nothing of them leaves it."""
        attn = block.attn
        attn.__class__ = PromptedWindowAttention  # type: ignore[union-attr, assignment]
        attn.register_parameter("prompts", prompts)  # type: ignore[union-attr, operator]
        attn.prompt_dropout = nn.Dropout(dropout).train(block.training)  # type: ignore[union-attr, assignment]
        attn.norm_of_block = [block.norm1]  # type: ignore[union-attr, assignment]

    @property
    def prefix(self) -> int:
        return 0


class AdaptedSwinBlock(SwinTransformerBlock):
    """timm's Swin block with adapters at the points of `face.POINTS`, outside the window partition."""

    points: nn.ModuleDict

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        at = self.points
        n1 = self.norm1(x)
        a = self._attn(n1)  # type: ignore[no-untyped-call]
        a = a + at["in_attn"](a) if "in_attn" in at else a
        a = self.drop_path1(a)
        a = a + at["post_attn"](a) if "post_attn" in at else a
        x = x + a
        x = x + at["par_attn"](n1) if "par_attn" in at else x
        n2 = self.norm2(x)
        m = self.mlp(n2)
        m = m + at["in_mlp"](m) if "in_mlp" in at else m
        m = self.drop_path2(m)
        m = m + at["post_mlp"](m) if "post_mlp" in at else m
        out: Tensor = x + m
        out = out + at["par_mlp"](x) if "par_mlp" in at else out
        out = out + at["par_norm2"](n2) if "par_norm2" in at else out
        return out + at["post_block"](out) if "post_block" in at else out


class PromptedWindowAttention(WindowAttention):
    """timm's window attention with prompts as further keys and values, the same in every window.

    VPT-deep throws a block's prompt outputs away before the next, so their queries and their way through the MLP need
    not be computed; they carry no relative position and no shift mask.
    """

    prompts: nn.Parameter
    prompt_dropout: nn.Dropout
    norm_of_block: list[nn.Module]  # norm1, in a list so that it is not registered twice

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(windows B, N, C), mask (windows, N, N) -> (windows B, N, C)."""
        every, tokens, channels = x.shape
        q, k, v = self.qkv(x).reshape(every, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        extra = self.norm_of_block[0](self.prompt_dropout(self.prompts))
        bias = None if self.qkv.bias is None else self.qkv.bias[channels:]
        count = len(extra)
        pair = F.linear(extra, self.qkv.weight[channels:], bias).reshape(count, 2, self.num_heads, q.shape[-1])
        extra_k, extra_v = pair.permute(1, 2, 0, 3).unbind(0)  # (heads, p, width of a head)
        k = torch.cat([extra_k.expand(every, -1, -1, -1), k], dim=2)
        v = torch.cat([extra_v.expand(every, -1, -1, -1), v], dim=2)
        scores = (q * self.scale) @ k.transpose(-2, -1) + F.pad(self._get_rel_pos_bias(), (count, 0))
        if mask is not None:
            wide = F.pad(mask, (count, 0))[None, :, None]  # (1, windows, 1, N, p + N)
            scores = (scores.unflatten(0, (-1, mask.shape[0])) + wide).flatten(0, 1)
        mixed = self.attn_drop(self.softmax(scores)) @ v
        out: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(every, tokens, -1)))
        return out
