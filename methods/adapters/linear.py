"""Linear probe: only a new head trains, every feature stays as pre-training left it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..vit import freeze, replace_head


@part("linear")
class Linear(Adapter):
    """Linear probe: a new head on frozen features."""

    title = "Linear probe"
    formula = "0"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    frozen_backbone = True
    search = {"lr": (1e-3, 1e-1, "log")}
    recipe_from = ("VPT searches ten rates and four decays per task with SGD and batches of 1,024; no one setting is "
                   "printed")

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        freeze(backbone)
        return replace_head(backbone, classes)

    def frozen_blocks(self, model: nn.Module) -> int:
        return len(model.blocks) + 1 if hasattr(model, "blocks") else 0  # type: ignore[arg-type]
