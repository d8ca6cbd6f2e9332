"""PaCA (Woo et al., ICLR 2025, arXiv:2503.01905): train a few randomly chosen columns of each frozen weight.

W' = W + D on `rank` columns: the authors train a copy of those columns, here their move D from W, zero at first, so
that weight decay pulls to the pre-trained value and not to zero. Backward keeps those inputs alone. The chosen columns
are drawn once with the run's seed and stored beside the weights. Each of q, k and v has columns of its own.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..grammar import MethodError
from ..insertion import Site, deltas, fold_linears, linears, require, zeros
from ..vit import freeze, replace_head
from .lowrank import ROLE, LoraLinear, read_targets, rows_of


class Columns(Delta):
    """What the moved columns add to the rows of one target: (..., i) -> (..., o)."""

    index: Tensor

    def __init__(self, site: Site, rows: slice, rank: int) -> None:
        super().__init__()
        weight = site.linear.weight
        self.depth, self.rows, self.inputs = site.depth, [rows], site.linear.in_features
        self.moved = zeros(weight, rows.stop - rows.start, rank)  # (o, r)
        chosen = torch.randperm(site.linear.in_features, device=weight.device)[:rank]
        self.register_buffer("index", chosen.sort().values.int())  # (r,)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.index_select(-1, self.index), self.moved)

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i)."""
        return self.moved.new_zeros(len(self.moved), self.inputs).index_copy(1, self.index.long(), self.moved)


@part("paca")
class PaCA(Adapter):
    """PaCA: a few columns of each frozen weight train."""

    title = "PaCA"
    paper = "Woo et al., ICLR 2025, arXiv:2503.01905"
    ours = ("our choice: rank and targets, which the paper sets for language models; the columns' move from the frozen "
            "weight trains, so that weight decay pulls to it")
    formula = "9 d L rank; targets: d L rank per target of q, k, v, o, fc2; 4 d L rank for fc1"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    search = {"lr": (3e-4, 3e-2, "log"), "paca.rank": (8, 4, 16)}
    recipe_from = "no setting of the authors for image classification is known to us"

    rank: Annotated[int, ">= 1", "columns of each target"] = 8
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'"] = "all"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for site in linears(backbone):
            chosen = [t for t in read_targets(self.targets) if ROLE[t] == site.role]
            if chosen and self.rank > site.linear.in_features:
                raise MethodError(f"paca(rank={self.rank}): {site.path!r} has {site.linear.in_features} columns")
            if chosen:
                parts = {t: Columns(site, rows_of(t, site), self.rank) for t in chosen}
                backbone.set_submodule(site.path, LoraLinear(site.linear, parts))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """D = 0: the columns as they were."""
        return {f"{path}.moved": torch.zeros_like(d.moved) for path, d in deltas(model) if isinstance(d, Columns)}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
