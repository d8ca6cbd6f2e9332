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
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    search = {"lr": (1e-5, 3e-3, "log")}
    recipe = {"lr": 1e-4, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": False, "schedule": "cosine", "normalise": "native", "precision": "bf16"}  # Adapter+'s
    recipe_from = ("Adapter+'s code, its run of full fine-tuning; high: the rate is read there, the rest is its one "
                   "setting for all")

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        backbone.requires_grad_(True)
        return replace_head(backbone, classes)
