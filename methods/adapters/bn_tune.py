"""Batch norm tuning: scale and shift of every batch norm train (Frankle, Schwab, Morcos, ICLR 2021, arXiv:2003.00152).

They train from pre-trained values here, not beside random features as in that study. The running statistics stay, so
training starts at the pre-trained function (see `batch_norm`). Networks of layer norms: `ln_tune`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..batch_norm import batch_norms
from ..compose import part
from ..grammar import MethodError
from ..insertion import require
from ..vit import freeze, replace_head


@part("bn_tune", "bn")
class BNTune(Adapter):
    """Batch norm tuning: scale and shift of every batch norm train."""

    title = "Batch norm tuning"
    paper = "as in Frankle, Schwab, Morcos, ICLR 2021, arXiv:2003.00152"
    ours = "our own choice: pre-trained weights, and running statistics that stay as pre-training left them"
    formula = "two for each channel of every batch norm"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"resnet", "efficientnet", "mobilenet"})
    mergeable = True
    recipe_from = "a control without a recipe of its own for transfer: the paper trains from scratch"
    search = {"lr": (1e-4, 5e-2, "log")}

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        found = require(self, backbone)
        freeze(backbone)
        norms = batch_norms(backbone)
        if not norms:
            raise MethodError(f"'bn_tune': this {found} has no batch norm; tune what it has with 'bitfit'")
        for norm in norms:
            norm.requires_grad_(True)
        return replace_head(backbone, classes)
