"""DoRA (Liu et al., ICML 2024, arXiv:2402.09353): LoRA for the direction of each row, a trained magnitude for its size.

V = W + (alpha / rank) B A; y = (m / n) V x + b with n the row norms of V, held constant for the gradient (the paper's
section 4.3), and m starting at the row norms of W: exactly the pre-trained function. Each of q, k, v has its own pair
and magnitudes. Written as a residual, as in Hugging Face's peft: (m / n - 1) W x + (m / n) s B A x.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..insertion import AdaptedLinear, Site, deltas, fold_linears, linears, require
from ..vit import freeze, replace_head
from .lowrank import LowRank, reaches, read_targets, rows_of


class Decomposed(LowRank):
    """What DoRA adds to the rows of one target."""

    def __init__(self, site: Site, rows: slice, rank: int, scale: float, dropout: float) -> None:
        super().__init__(site, [rows], rank, scale, dropout)
        # B is zero here, so this is the norm of V to the last bit, and the factor m / n starts at exactly 1
        self.magnitude = nn.Parameter(torch.linalg.vector_norm(site.linear.weight[rows].detach(), dim=1))

    def norms(self, weight: Tensor) -> Tensor:
        """(o, i) -> (o,): row norms of V, no gradient, never in half precision."""
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            return torch.linalg.vector_norm(weight + self.product(), dim=1)

    def factor(self, weight: Tensor) -> Tensor:
        """(o, i) -> (o,): m / n, and 1 for a row of V that is zero: it has no direction to give a length."""
        norms = self.norms(weight)
        empty = norms == 0
        return torch.where(empty, torch.ones_like(norms), self.magnitude / norms.masked_fill(empty, 1.0))

    def forward(self, x: Tensor, weight: Tensor, plain: Tensor) -> Tensor:  # type: ignore[override]
        """x (..., i), W (o, i), W x (..., o) -> (..., o)."""
        factor = self.factor(weight)
        if self.training and self.dropout.p > 0:
            x = self.dropout(x)
            plain = F.linear(x, weight)  # the base term sees the same dropped input as the pair
        added = self.scale * F.linear(F.linear(x, self.down), self.up)
        return (factor - 1) * plain + factor * added


class DoraLinear(AdaptedLinear):
    """W x + b, plus each target's change on its rows."""

    def __init__(self, base: nn.Linear, parts: dict[str, Decomposed]) -> None:
        super().__init__(base)
        self.dora = nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        added = {}
        for name, part_ in self.dora.items():
            rows = part_.rows[0]  # type: ignore[union-attr, index]
            plain = y[..., rows] if self.bias is None else y[..., rows] - self.bias[rows]
            added[name] = part_(x, self.weight[rows], plain)
        y = y.clone() if self.bias is None else y  # its slices were saved for the backward pass
        for name, change in added.items():
            y[..., self.dora[name].rows[0]].add_(change)  # type: ignore[union-attr, index]
        return y

    def folded(self) -> tuple[Tensor, Tensor | None]:
        weight = self.weight.clone()
        for part_ in self.dora.values():
            assert isinstance(part_, Decomposed)
            rows = part_.rows[0]
            weight[rows] = part_.factor(weight[rows])[:, None] * (weight[rows] + part_.product())
        return weight, self.bias


@part("dora")
class DoRA(Adapter):
    """DoRA: low-rank updates of direction with a trained magnitude per row."""

    title = "DoRA"
    paper = "Liu et al., ICML 2024, arXiv:2402.09353"
    formula = "per target: LoRA's count + one magnitude per row (q,v: 4 d L rank + 2 d L)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    search = {"lr": (3e-4, 3e-2, "log"), "dora.rank": (8, 4, 16)}
    recipe_from = ("published for language models and for text with images; no setting for image classification is "
                   "known to us")

    rank: Annotated[int, ">= 1", "rank of each update"] = 8
    alpha: Annotated[float, "> 0", "the update is scaled by alpha / rank"] = 8.0
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'"] = "q,v"
    dropout: Annotated[float, ">= 0, < 1", "on the input while training"] = 0.0

    def __post_init__(self) -> None:
        read_targets(self.targets)

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for site in linears(backbone):
            parts = {t: Decomposed(site, rows_of(t, site), self.rank, self.alpha / self.rank, self.dropout)
                     for t in read_targets(self.targets) if reaches(t, site)}
            if parts:
                backbone.set_submodule(site.path, DoraLinear(site.linear, parts))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """B = 0 and the magnitudes at the row norms of the frozen weights: the pre-trained function."""
        found = {}
        for path, delta in deltas(model):
            if isinstance(delta, Decomposed):
                linear = model.get_submodule(path.rpartition(".dora.")[0])
                weight = linear.weight[delta.rows[0]]  # type: ignore[index, union-attr]
                found[f"{path}.up"] = torch.zeros_like(delta.up)
                found[f"{path}.magnitude"] = torch.linalg.vector_norm(weight.detach(), dim=1)  # type: ignore[union-attr]
        return found

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
