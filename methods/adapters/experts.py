"""MLAE (Wang et al., 2024, arXiv:2405.18897): the ranks of LoRA's pair as experts that are masked at random.

The update is the sum over k of m_k w_k b_k a_k' with trained weights w (alpha at the start, not divided by the rank),
b zero and a random, so it begins at the pre-trained function. While training, m is one draw per layer and step for the
whole batch: zero with the dropout's probability, else 1 / (1 - p), so that the mean over draws is the unmasked update.
The probability is our choice: the authors' file has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..insertion import Site, empty
from ..views import ProductView, View
from .lowrank import LowRank


class Experts(LowRank):
    """B (m * w * (A dropout(x))), (..., i) -> (..., o)."""

    def __init__(self, site: Site, rows: list[slice], rank: int, start: float, dropout: float, masked: float) -> None:
        super().__init__(site, rows, rank, 1.0, dropout)
        self.expert = nn.init.constant_(empty(site.linear.weight, rank), start)  # w (r,)
        self.masked = nn.Dropout(masked)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.masked(self.expert) * F.linear(self.dropout(x), self.down), self.up)

    def product(self) -> Tensor:
        return self.up @ (self.expert[:, None] * self.down)

    def views(self, path: str, anchor: Mapping[str, Tensor]) -> list[View]:
        return [WeightedView(f"{path}.up", self.up, anchor[f"{path}.up"], factor=self.down, expert=self.expert)]


@dataclass(eq=False)
class WeightedView(ProductView):
    """B diag(w) A with anchor 0: rows of B are rows of the product, whatever the weights are now."""

    expert: Tensor | None = None

    def effective(self) -> Tensor:
        assert self.factor is not None and self.expert is not None
        return self.param @ (self.expert[:, None] * self.factor)  # (out, in)

    def squared(self) -> Tensor:
        assert self.factor is not None and self.expert is not None
        weighted = self.expert[:, None] * self.factor
        return ((self.param.mT @ self.param) * (weighted @ weighted.mT)).sum()
