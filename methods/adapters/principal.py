"""PiSSA (Meng, Wang, Zhang, NeurIPS 2024, arXiv:2404.02948): LoRA's pair begins as the weight's principal part.

With W = U S V' and its largest r directions, B0 = U sqrt(S / s) and A0 = sqrt(S / s) V', and the authors train B and A
beside the residual W - s B0 A0. Here W stays as it is and s (B A - B0 A0) is added: the same function and the same
gradients, nothing at all at the start, and a frozen weight that keeps its bits. B0 and A0 are stored with the adapter:
another machine's singular vectors may differ. A constraint scales how far B and A have each moved, for no row of B
alone leads back to the pre-trained function.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..insertion import Site
from ..views import View
from .lowrank import LowRank


class Principal(LowRank):
    """scale * (B A - B0 A0) dropout(x), (..., i) -> (..., o)."""

    up0: Tensor
    down0: Tensor

    def __init__(self, site: Site, rows: list[slice], rank: int, scale: float, dropout: float) -> None:
        super().__init__(site, rows, rank, scale, dropout)
        with torch.no_grad():
            weight = torch.cat([site.linear.weight[r] for r in rows])
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
            root = (s[:rank] / scale).sqrt()
            self.up[:, :len(root)] = u[:, :rank] * root  # a rank above the weight's own leaves zeros
            self.down[:len(root)] = root[:, None] * v[:rank]
        self.register_buffer("up0", self.up.detach().clone())
        self.register_buffer("down0", self.down.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        now = F.linear(self.scale * F.linear(x, self.down), self.up)
        return now - F.linear(self.scale * F.linear(x, self.down0), self.up0)

    def product(self) -> Tensor:
        return self.scale * (self.up @ self.down - self.up0 @ self.down0)

    def neutral(self) -> dict[str, Tensor]:
        return {"up": self.up0.clone(), "down": self.down0.clone()}

    def views(self, path: str, anchor: Mapping[str, Tensor]) -> list[View]:
        return [View(f"{path}.{name}", p, anchor[f"{path}.{name}"]) for name, p in
                (("down", self.down), ("up", self.up))]
