"""CVPT (Huang et al., 2024, arXiv:2408.14961): prompts are read by cross-attention and never join the sequence.

Between attention and MLP of every block x becomes x + CA(x, P): queries from x as it stands, without a norm, keys and
values from the block's prompts P, all by the block's own frozen projections. The authors' code leaves CA's output
projection at its random start, frozen; the weight sharing that the paper speaks of copies the block's (`proj`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import blocks, empty, require
from ..vit import freeze, replace_head


class CrossAttention(Delta):
    """What the tokens read from the prompts, (B, N, D) -> (B, N, D)."""

    projection: Tensor | None

    def __init__(self, attn: nn.Module, depth: int, prompts: nn.Parameter, dropout: float, proj: str) -> None:
        super().__init__()
        self.depth, self.prompts, self.dropout = depth, prompts, nn.Dropout(dropout)
        self._of_block: list[Any] = [attn]  # frozen; in a list, so that torch does not register it here as well
        drawn = None
        if proj == "random":  # a buffer: part of the function, so it is stored, and never trained
            drawn = nn.init.trunc_normal_(empty(attn.proj.weight, *attn.proj.weight.shape), std=0.02).data  # type: ignore
        self.register_buffer("projection", drawn)

    def forward(self, x: Tensor) -> Tensor:
        attn = self._of_block[0]
        wide, heads = attn.num_heads * attn.head_dim, (attn.num_heads, attn.head_dim)
        weight, bias = attn.qkv.weight, attn.qkv.bias
        q = F.linear(x, weight[:wide], None if bias is None else bias[:wide]).reshape(*x.shape[:-1], *heads)
        kv = F.linear(self.dropout(self.prompts), weight[wide:], None if bias is None else bias[wide:])
        k, v = kv.reshape(-1, 2, *heads).transpose(0, 2).unbind(1)  # (heads, p, width of a head)
        q, k = attn.q_norm(q.transpose(1, 2)), attn.k_norm(k)
        out = (((q * attn.scale) @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(-2)
        if self.projection is not None:
            return F.linear(attn.norm(out), self.projection)
        return F.linear(attn.norm(out), attn.proj.weight, attn.proj.bias)


class CrossPromptedBlock(Block):
    """timm's block with a reading of prompts between its two branches."""

    cross: CrossAttention

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)))
        x = x + self.cross(x)
        out: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return out


@part("cvpt")
class CVPT(Adapter):
    """CVPT: trained prompts read by cross-attention between attention and MLP."""

    title = "CVPT"
    paper = "Huang et al., 2024, arXiv:2408.14961"
    ours = ("the block's own output projection in the cross-attention (proj='copied'); the authors' code has a random "
            "one, frozen (proj='random', without bias); what is read from the prompts is never dropped by DropPath, "
            "and one draw of dropout serves a whole batch")
    formula = "L prompts d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "tokens"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "cvpt.prompts": (10, 1, 20, 50)}
    recipe = {"lr": 1e-3, "weight_decay": 0.05, "epochs": 100, "batch_size": 32, "drop_path": 0.1}
    recipe_from = ("the authors' code for VTAB-1k; high: their batch is 16 or 32 and their seed another by task, the "
                   "warm-up was not read and is the suite's")

    prompts: Annotated[int, ">= 1", "prompts per block"] = 10
    proj: Annotated[Literal["copied", "random"], "the frozen output projection of the cross-attention"] = "copied"
    dropout: Annotated[float, ">= 0, < 1", "on the prompts while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        chain = blocks(backbone)
        for depth, block in enumerate(chain):
            attn: Any = block.attn
            prompts = empty(attn.qkv.weight, self.prompts, attn.qkv.in_features)
            bound = math.sqrt(6.0 / ((self.prompts + len(chain)) * attn.qkv.in_features))  # Xavier's of (L, p, D)
            nn.init.uniform_(prompts, -bound, bound)
            block.__class__ = CrossPromptedBlock
            block.cross = CrossAttention(attn, depth, prompts, self.dropout, self.proj).train(block.training)
        return replace_head(backbone, classes)
