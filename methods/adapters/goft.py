"""GOFT (Ma et al., ICML 2024, arXiv:2404.04316): the input of a layer is rotated by a tree of Givens rotations.

W' = W R with R the product of i - 1 rotations in planes of two coordinates (see givens.py), each by pi tanh(angle),
angles zero at the start; optionally W' = W R diag(1 + stretch), which is orthogonal no more.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Feature
from ..compose import part
from ..insertion import Site, zeros
from .givens import turn
from .turned import Turn, Turning


class Rotations(Turn):
    """R diag(1 + stretch) x - x."""

    def __init__(self, site: Site, stretched: bool) -> None:
        super().__init__(site)
        wide = site.linear.in_features
        self.angles = zeros(site.linear.weight, wide - 1)
        self.stretch = zeros(site.linear.weight, wide) if stretched else None

    def turned(self, x: Tensor) -> Tensor:
        angles = math.pi * self.angles.tanh()
        cos, sin = angles.cos(), angles.sin()
        pairs = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
        return turn(x if self.stretch is None else x + self.stretch * x, pairs)


@part("goft")
class GOFT(Turning):
    """GOFT: the input of every linear layer turned by a tree of Givens rotations."""

    title = "GOFT"
    paper = "Ma et al., ICML 2024, arXiv:2404.04316"
    ours = ("the dense product of the rotations, not the authors' fast form, which is not orthogonal; their scale "
            "of each input is an option, stretch; angles and scale are not decayed; their code has no recipe")
    formula = "L (7 d - 4); stretch: + 7 d L; where: attn 2 d - 2, qkv d - 1 per block"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe_from = "figures for VTAB-1k are printed, but the authors' code holds no settings for them"

    where: Annotated[Literal["all", "attn", "qkv"], "the layers in front of which is turned"] = "all"
    stretch: Annotated[bool, "a trained scale of each input before it is turned (not orthogonal)"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        return self.weave(backbone, classes, self.where, Rotations, self.stretch)
