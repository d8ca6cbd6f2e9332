"""Adapter+ (Steitz, Roth, CVPR 2024, arXiv:2406.06820): one bottleneck behind the whole block, scaled per channel.

x' = x2 + c * drop_path(up(gelu(down(x2)))) with a learned c per channel that starts at 1; both projections start
normal with deviation 0.01 cut at two deviations. No dropout and no norm inside.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import adapt_blocks, require, stream, width
from ..vit import freeze, replace_head
from .bottleneck import Bottleneck, neutral


class ChannelScaled(Bottleneck):
    """c * drop_path(up(gelu(down(u))))."""

    def __init__(self, like: Tensor, width: int, hidden: int, depth: int, drop_path: float) -> None:
        super().__init__(like, width, hidden, depth, start="houlsby")
        self.drop_path = DropPath(drop_path)
        self.channel_scale = nn.Parameter(torch.ones(width, device=like.device, dtype=like.dtype))

    def forward(self, u: Tensor) -> Tensor:
        added: Tensor = self.channel_scale * self.drop_path(super().forward(u))
        return added


@part("adapter_plus")
class AdapterPlus(Adapter):
    """Adapter+: one bottleneck behind every block, scaled per channel."""

    title = "Adapter+"
    paper = "Steitz, Roth, CVPR 2024, arXiv:2406.06820"
    formula = "L (2 d bottleneck + bottleneck + 2 d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    at_start = "near"
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": False, "schedule": "cosine", "normalise": "native", "precision": "bf16"}  # the authors'
    recipe_from = "the authors' code, one setting for all of VTAB-1k; certain"

    bottleneck: Annotated[int, ">= 1", "width of the bottleneck"] = 8
    drop_path: Annotated[float, ">= 0, < 1", "rate at which the adapter is skipped per image while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)

        def make(depth: int, block: nn.Module) -> dict[str, Delta]:
            like = stream(block)
            return {"post_block": ChannelScaled(like, width(block), self.bottleneck, depth,  # type: ignore[arg-type]
                                                self.drop_path)}

        adapt_blocks(backbone, make)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)
