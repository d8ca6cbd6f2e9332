"""LoRA (Hu et al., ICLR 2022, arXiv:2106.09685): a low-rank product beside frozen linear layers.

W' = W + (alpha / rank) B A with A (rank x i) random and B (o x rank) zero, so training starts at the pre-trained
function. timm fuses q, k and v into one layer; each target gets its own pair on its own rows, or one A for all of
them (`shared_a`), as NOAH does and as libraries do that see the fused layer as one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature, Fit
from ..compose import part
from ..grammar import MethodError
from ..insertion import AdaptedLinear, Site, deltas, empty, fold_linears, linears, require, zeros
from ..views import ProductView, View
from ..vit import freeze, replace_head

TARGETS = ("q", "k", "v", "o", "fc1", "fc2")
ROLE = {"q": "qkv", "k": "qkv", "v": "qkv", "o": "proj", "fc1": "fc1", "fc2": "fc2"}


def read_targets(text: str) -> tuple[str, ...]:
    """'q,v' -> ('q', 'v'), in the order of TARGETS; 'all' is every one. Raises MethodError."""
    given = TARGETS if text.strip() == "all" else tuple(t.strip() for t in text.split(",") if t.strip())
    wrong = [t for t in given if t not in TARGETS]
    if wrong or not given:
        raise MethodError(f"targets must be some of {', '.join(TARGETS)}, joined by commas, or 'all', not {text!r}")
    return tuple(t for t in TARGETS if t in given)


def rows_of(target: str, site: Site) -> slice:
    """The rows of the layer's weight that a target means."""
    third = site.linear.out_features // 3
    return {"q": slice(0, third), "k": slice(third, 2 * third), "v": slice(2 * third, 3 * third)}.get(
        target, slice(0, site.linear.out_features))


class LowRank(Delta):
    """scale * up(down(dropout(x))); `rows` are the rows of the layer that it adds to, in this order."""

    def __init__(self, site: Site, rows: list[slice], rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.depth, self.rows, self.scale = site.depth, rows, scale
        outputs = sum(r.stop - r.start for r in rows)
        self.down = empty(site.linear.weight, rank, site.linear.in_features)  # A (r, i)
        self.up = zeros(site.linear.weight, outputs, rank)  # B (o, r)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., i) -> (..., o)."""
        return F.linear(self.scale * F.linear(self.dropout(x), self.down), self.up)  # where it is narrow

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i)."""
        return self.scale * self.up @ self.down


class LoraLinear(AdaptedLinear):
    """W x + b, plus each pair's output on its rows; a pair has `rows` and a `product`."""

    def __init__(self, base: nn.Linear, pairs: Mapping[str, nn.Module]) -> None:
        super().__init__(base)
        self.lora = nn.ModuleDict(pairs)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        for pair in self.lora.values():
            added = pair(x)
            if added.shape == y.shape:
                y = y + added
                continue
            start = 0
            for rows in pair.rows:  # type: ignore[union-attr]
                length = rows.stop - rows.start
                y[..., rows].add_(added[..., start:start + length])  # `+=` would write the sum back once more
                start += length
        return y

    def folded(self) -> tuple[Tensor, Tensor | None]:
        weight = self.weight.clone()
        for pair in self.lora.values():
            added, start = pair.product(), 0  # type: ignore[operator]
            for rows in pair.rows:  # type: ignore[union-attr]
                length = rows.stop - rows.start
                weight[rows] += added[start:start + length]
                start += length
        return weight, self.bias


def grouped(targets: tuple[str, ...], shared: bool) -> list[tuple[str, ...]]:
    """Which targets share one pair: none, or those of the fused qkv."""
    fused = tuple(t for t in targets if ROLE[t] == "qkv")
    if not shared or len(fused) < 2:
        return [(t,) for t in targets]
    return [fused, *[(t,) for t in targets if t not in fused]]


@part("lora")
class LoRA(Adapter):
    """LoRA: low-rank updates beside frozen linear layers."""

    title = "LoRA"
    paper = "Hu et al., ICLR 2022, arXiv:2106.09685"
    formula = "2 d L rank per target of q, k, v, o; 5 d L rank per fc1, fc2; shared_a over n of q, k, v: (1+n) d L rank"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    search = {"lr": (3e-4, 3e-2, "log"), "lora.rank": (8, 4, 16)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer"}  # NOAH's

    rank: Annotated[int, ">= 1", "rank of each update"] = 8
    alpha: Annotated[float, "> 0", "the update is scaled by alpha / rank"] = 8.0
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'"] = "q,v"
    dropout: Annotated[float, ">= 0, < 1", "on the update's input while training"] = 0.0
    shared_a: Annotated[bool, "one A for all of q, k, v that are targets (NOAH)"] = False

    def __post_init__(self) -> None:
        read_targets(self.targets)

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        return self.adapt(backbone, linears(backbone), classes)

    def adapt(self, backbone: nn.Module, sites: list[Site], classes: int) -> nn.Module:
        """Freeze the backbone, put pairs beside the layers of these sites, give it a fresh head."""
        freeze(backbone)
        chosen = grouped(read_targets(self.targets), self.shared_a)
        for site in sites:
            pairs = {"".join(group): LowRank(site, [rows_of(t, site) for t in group], self.rank,
                                             self.alpha / self.rank, self.dropout)
                     for group in chosen if ROLE[group[0]] == site.role}
            if pairs:
                backbone.set_submodule(site.path, LoraLinear(site.linear, pairs))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """B = 0: the product is what is anchored, and shrinking rows of B shrinks exactly those rows of it."""
        return {f"{path}.up": torch.zeros_like(d.up) for path, d in deltas(model) if isinstance(d, LowRank)}

    def views(self, fit: Fit) -> list[View]:
        """What is measured is the product, what is scaled is B."""
        return [ProductView(f"{path}.up", d.up, fit.anchor[f"{path}.up"], factor=d.down, scale=d.scale)
                for path, d in deltas(fit.model) if isinstance(d, LowRank)]

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
