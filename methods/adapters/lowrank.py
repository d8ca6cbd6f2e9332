"""What LoRA and its kin put beside a frozen linear layer: pairs of narrow matrices, and the layer that holds them.

timm fuses q, k and v into one layer; each target gets its own pair on its own rows, or one pair all of the fused ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Delta
from ..grammar import MethodError
from ..insertion import AdaptedLinear, Site, empty, zeros
from ..views import ProductView, View

TARGETS = ("q", "k", "v", "o", "fc1", "fc2")
ROLE = {"q": "qkv", "k": "qkv", "v": "qkv", "o": "proj", "fc1": "fc1", "fc2": "fc2"}


def read_targets(text: str) -> tuple[str, ...]:
    """'q,v' -> ('q', 'v'), in the order of TARGETS; 'all' is every one. Raises MethodError."""
    given = TARGETS if text.strip() == "all" else tuple(t.strip() for t in text.split(",") if t.strip())
    wrong = [t for t in given if t not in TARGETS]
    if wrong or not given:
        raise MethodError(f"targets must be some of {', '.join(TARGETS)}, joined by commas, or 'all', not {text!r}")
    return tuple(t for t in TARGETS if t in given)


def reaches(target: str, site: Site) -> bool:
    """Whether the target means this layer, or rows of it where q, k and v are fused."""
    return site.role in (ROLE[target], target)


def here(groups: list[tuple[str, ...]], site: Site) -> list[tuple[str, ...]]:
    """The groups of targets that share a pair at this layer. Raises MethodError where they lie in several layers."""
    found = [group for group in groups if any(reaches(t, site) for t in group)]
    if apart := next((group for group in found if not all(reaches(t, site) for t in group)), ()):
        raise MethodError(f"shared_a=True needs {', '.join(apart)} in one layer, and this backbone has a layer for "
                          "each; leave it out")
    return found


def rows_of(target: str, site: Site) -> slice:
    """The rows of the layer's weight that a target means."""
    if site.role in TARGETS:  # a layer of its own
        return slice(0, site.linear.out_features)
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

    def neutral(self) -> dict[str, Tensor]:
        """Values of its tensors at which it adds nothing, by name: B = 0."""
        return {"up": torch.zeros_like(self.up)}

    def views(self, path: str, anchor: Mapping[str, Tensor]) -> list[View]:
        """What a weight constraint sees of it: the product is measured, and scaling a row of B scales that row."""
        return [ProductView(f"{path}.up", self.up, anchor[f"{path}.up"], factor=self.down, scale=self.scale)]


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
