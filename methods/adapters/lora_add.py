"""lora_add, PACE's additive base adapter (Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137).

W + P Q and b + d on every linear layer of the backbone, without alpha; patch embedding and head excepted.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from ..base import Feature
from ..compose import part
from .residual_linear import Residual, weave


@part("lora_add")
class LoraAdd(Residual):
    """lora_add: an additive low-rank change and a free bias on every linear layer."""

    title = "lora_add"
    paper = "Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137"
    formula = "L (16 d rank + 9 d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    mergeable = True
    search = {"lr": (1e-4, 3e-2, "log"), "weight_decay": (1e-4, 1e-2)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 300, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # PACE's
    recipe_from = "PACE's code for VTAB-1k; high: written there for lora_mul_vpt_add, of which this is a part"

    rank: Annotated[int, ">= 1", "rank of each update"] = 10

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        return weave(self, backbone, classes, self.rank, "add", "none")
