"""SNELL (Shen et al., NeurIPS 2024, arXiv:2411.01800): kernelised low-rank updates, of which the large entries stay.

D = 0.1 (dist(V1, U1) - dist(V2, U2)), Euclidean distances between the rows of V (o x q/2) and U (i x q/2). Entries of
magnitude below the quantile `rho` of |D| are dropped and the others multiplied by their own magnitude, which takes no
gradient: what is added is D |D| 1[|D| > t], as in the authors' code; their text speaks of a threshold alone. With
rho = 0 it is D itself. What leads to the update is made anew in backward, as the authors do: one o x i matrix is kept.

Each of q, k and v has its own; the class token trains too. Two random distances differ, so the start is not the
pre-trained function. It is the anchor: U2 = U1 and V2 = V1 at the values that the latter begin with.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..base import Adapter, Feature
from ..compose import part
from ..insertion import Site, empty, fold_linears, linears, require
from ..vit import freeze, replace_head
from .lowrank import ROLE, TARGETS, LoraLinear, rows_of

SCALE = 0.1
TINY = 1e-12  # of a squared distance: at zero a distance has no gradient


def distances(v: Tensor, u: Tensor) -> Tensor:
    """(o, n) and (i, n) -> (o, i)."""
    squared = v.square().sum(1)[:, None] + u.square().sum(1) - 2 * v @ u.mT
    return squared.clamp_min(TINY).sqrt()


def update(u1: Tensor, v1: Tensor, u2: Tensor, v2: Tensor, rho: float) -> Tensor:
    """What is added to the weight, (o, i); never in half precision."""
    with torch.autocast(u1.device.type, enabled=False):
        d = SCALE * (distances(v1, u1) - distances(v2, u2))
        if rho == 0:
            return d
        size = d.detach().abs()
        return d * torch.where(size > torch.quantile(size, rho), size, 0.0)


class KernelUpdate(nn.Module):
    """drop_path(D dropout(x)) on the rows of one target: (..., i) -> (..., o)."""

    u1: nn.Parameter
    v1: nn.Parameter
    u2: nn.Parameter
    v2: nn.Parameter

    def __init__(self, site: Site, rows: slice, rank: int, rho: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.rows, self.rho = [rows], rho
        for name, size in (("u", site.linear.in_features), ("v", rows.stop - rows.start)):
            for number in (1, 2):
                factor = empty(site.linear.weight, size, rank // 2)
                nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
                self.register_parameter(f"{name}{number}", factor)
        self.dropout, self.drop_path = nn.Dropout(dropout), DropPath(drop_path)

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i)."""
        return update(self.u1, self.v1, self.u2, self.v2, self.rho)

    def forward(self, x: Tensor) -> Tensor:
        factors = (self.u1, self.v1, self.u2, self.v2)  # handed over, for functional calls swap them back
        d = checkpoint(update, *factors, self.rho, use_reentrant=False, preserve_rng_state=False)
        return self.drop_path(F.linear(self.dropout(x), d))  # type: ignore[no-any-return]


@part("snell")
class SNELL(Adapter):
    """SNELL: sparse updates from distances between low-rank factors."""

    title = "SNELL"
    paper = "Shen et al., NeurIPS 2024, arXiv:2411.01800"
    ours = ("our choice: rho, which the authors set for each task; their code's |D| as the factor of what is kept; the "
            "anchor at which both distances are equal")
    formula = "18 d L rank + d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    mergeable = True
    at_start = "never"
    checks: ClassVar[dict[str, str]] = {"rank % 2 == 0": "rank is even: half of it for each distance"}
    search = {"lr": (1e-4, 1e-2, "log"), "snell.rho": (0.9, 0.0, 0.4)}
    recipe_from = ("the authors set batch (8 or 16) and sparsity per task (1e-3, decay 1e-2, 200 epochs); no one "
                   "setting is theirs")

    rank: Annotated[int, ">= 2", "columns of both factors of a side together"] = 32
    rho: Annotated[float, ">= 0, < 1", "share of an update's entries that is dropped; 0 keeps it as it is"] = 0.9
    dropout: Annotated[float, ">= 0, < 1", "on the update's input while training"] = 0.1
    drop_path: Annotated[float, ">= 0, < 1", "how often an image does without an update while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for site in linears(backbone):
            pairs = {t: KernelUpdate(site, rows_of(t, site), self.rank, self.rho, self.dropout, self.drop_path)
                     for t in TARGETS if ROLE[t] == site.role}
            backbone.set_submodule(site.path, LoraLinear(site.linear, pairs))
        if isinstance(backbone.cls_token, nn.Parameter):
            backbone.cls_token.requires_grad_(True)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return {f"{path}.{side}{number}": getattr(m, f"{side}1").detach().clone()
                for path, m in model.named_modules() if isinstance(m, KernelUpdate)
                for side in ("u", "v") for number in (1, 2)}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
