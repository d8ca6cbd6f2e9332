"""Full fine-tuning: every weight of the backbone trains, with a new head."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..vit import replace_head


@part("full")
class Full(Adapter):
    """Full fine-tuning: everything trains."""

    title = "Full fine-tuning"
    formula = "all weights of the backbone"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin", "resnet"})
    mergeable = True

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        backbone.requires_grad_(True)
        return replace_head(backbone, classes)
