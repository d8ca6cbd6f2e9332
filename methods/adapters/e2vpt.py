"""E2VPT (Han et al., ICCV 2023, arXiv:2307.13770), first stage: prompts before every block, and keys and values of own.

Beside VPT-deep's prompts every block has `kv` trained tokens per head that join its keys and, the same tensor, its
values behind the projections; queries stay, so the sequence does not grow. They start Kaiming-uniform over kv times a
head's width. The second stage, pruning prompts by the gradient of masks and training again, is a procedure of two runs
and not here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..families import face_of
from ..insertion import empty, require
from ..vit import freeze, replace_head
from .vpt_deep import new_prompts


class ExtendedAttention(Attention):
    """timm's attention with trained keys and values in front of those of the tokens."""

    prompts: nn.Parameter  # (heads, p, width of a head): keys and values alike
    prompt_dropout: nn.Dropout

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D). Raises ValueError for a mask, which would not reach the trained keys."""
        if attn_mask is not None or is_causal:
            raise ValueError("e2vpt's trained keys and values have no place in a masked attention")
        batch, count, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        extra = self.prompts.to(k.dtype).expand(batch, -1, -1, -1)
        k, v = torch.cat([self.prompt_dropout(extra), k], 2), torch.cat([self.prompt_dropout(extra), v], 2)
        if self.fused_attn:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)
        else:
            out = self.attn_drop(((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)) @ v
        out = self.norm(out.transpose(1, 2).reshape(batch, count, -1))
        out = out if self.gate is None else out * self.gate(x).sigmoid()
        answer: Tensor = self.proj_drop(self.proj(out))
        return answer


def extend(attn: nn.Module, count: int, dropout: float) -> None:
    """Give an attention `count` trained keys and values per head."""
    prompts = empty(attn.qkv.weight, attn.num_heads, count, attn.head_dim)  # type: ignore[union-attr, arg-type]
    nn.init.kaiming_uniform_(prompts)
    attn.__class__ = ExtendedAttention
    attn.register_parameter("prompts", prompts)
    attn.prompt_dropout = nn.Dropout(dropout).train(attn.training)


@part("e2vpt")
class E2VPT(Adapter):
    """E2VPT, first stage: trained prompts before every block, trained keys and values inside it."""

    title = "E2VPT, without pruning"
    paper = "Han et al., ICCV 2023, arXiv:2307.13770"
    ours = ("the first stage alone: nothing is pruned, so published figures, which are of pruned prompts, are not of "
            "this; 5 prompts and 5 keys and values for every data set, where the authors search them per task")
    formula = "L d (prompts + kv)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "e2vpt.prompts": (5, 1, 10, 50), "e2vpt.kv": (5, 1, 10)}
    recipe_from = ("the authors search VPT's grid of rates per task (SGD, decay 1e-4, batch 64, 100 epochs), and the "
                   "lengths too")

    prompts: Annotated[int, ">= 0", "prompt tokens per block"] = 5
    kv: Annotated[int, ">= 0", "trained keys and values per head and block"] = 5
    dropout: Annotated[float, ">= 0, < 1", "on prompts, keys and values while training"] = 0.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        face = face_of(backbone)
        for block in face.blocks():
            face.prompt(block, new_prompts(backbone, block, self.prompts), self.prompts, self.prompts, self.dropout)
        for block in face.blocks() if self.kv else []:
            extend(block.attn, self.kv, self.dropout)  # type: ignore[arg-type]
        return replace_head(backbone, classes)
