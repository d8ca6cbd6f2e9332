"""LayerNorm tuning (the affine weights of every LayerNorm; for ViTs as a baseline in OSU's study, arXiv:2409.16434)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..grammar import MethodError
from ..insertion import require
from ..vit import freeze, replace_head


@part("ln_tune", "ln")
class LNTune(Adapter):
    """LayerNorm tuning: weight and bias of every LayerNorm train."""

    title = "LayerNorm tuning"
    paper = "as in Mai et al., CVPR 2025, arXiv:2409.16434"
    formula = "2 d (2 L + 1)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "convnext"})
    mergeable = True
    search = {"lr": (1e-4, 5e-2, "log")}
    recipe_from = ("Mai et al. choose among rates of 1e-3 and 1e-2 and decays of 1e-4 and 1e-3 per task; no one "
                   "setting is theirs")

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)
        if not any(p.requires_grad for p in backbone.parameters()):
            raise MethodError("'ln_tune' finds no LayerNorm in this backbone and would train the head alone, which is "
                              "'linear'; 'lora' adapts it")
        return replace_head(backbone, classes)
