"""qGOFT (Ma et al., ICML 2024, arXiv:2404.04316): GOFT's tree with a free 2 x 2 matrix in place of each rotation.

Only quasi-orthogonal, as the q says: nothing holds the matrices to rotations. Stored is their difference from the
identity, zero at the start, so that weight decay pulls towards no change.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Feature
from ..compose import part
from ..insertion import Site, zeros
from .givens import turn
from .turned import Turn, Turning


class Pairs(Turn):
    """M x - x with M the tree of the matrices 1 + free."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.free = zeros(site.linear.weight, site.linear.in_features - 1, 2, 2)

    def turned(self, x: Tensor) -> Tensor:
        return turn(x, torch.eye(2, device=self.free.device, dtype=self.free.dtype) + self.free)


@part("qgoft")
class QGOFT(Turning):
    """qGOFT: the input of every linear layer changed by a tree of free 2 x 2 matrices."""

    title = "qGOFT"
    paper = "Ma et al., ICML 2024, arXiv:2404.04316"
    ours = ("without the paper's penalty on what is not orthogonal, as in the authors' code; the tree as in goft; "
            "decayed towards the identity; the settings of its published figures are not in the code")
    formula = "4 L (7 d - 4); where: attn 4 (2 d - 2), qkv 4 (d - 1) per block"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    search = {"lr": (3e-4, 3e-2, "log"), "weight_decay": (1e-4, 1e-2)}
    recipe_from = "figures for VTAB-1k are printed, but the authors' code holds no settings for them"

    where: Annotated[Literal["all", "attn", "qkv"], "the layers whose input is changed"] = "all"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        return self.weave(backbone, classes, self.where, Pairs)
