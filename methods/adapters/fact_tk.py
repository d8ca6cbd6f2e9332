"""FacT-TK (Jie, Deng, AAAI 2023, arXiv:2212.03145): all weight updates in Tucker form; cores mixed from one r^3 tensor.

S_k = sum_j P[j, k] Core[:, :, j], which maps the code U x to S_k U x. `tk_layout="official"` reads the stack as the
authors' code does, whose vectors are rows: q, k, v, proj and fc1 multiply the code from the left, S_k' U x, and only
fc2 is transposed. For fc1 and fc2 that code also flattens its (r, r, 4) stack with the slice index fastest and then
cuts it into four, so that each chunk mixes all four slices. Both layouts have the same count, but results of one do not
carry over to the other.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..insertion import empty, require
from ..vit import freeze, replace_head
from .fact import Factors, neutral, slice_counts, unweave, weave


class Tucker(Factors):
    """One core r x r x r and a mixing vector per slice."""

    def __init__(self, like: Tensor, width: int, rank: int, slices: int, layout: str) -> None:
        super().__init__(like, width, rank)
        self.layout = layout
        self.core = empty(like, rank, rank, rank)
        self.p = empty(like, slices, rank)
        nn.init.xavier_uniform_(self.core)
        nn.init.xavier_uniform_(self.p)

    def cores(self, first: int, count: int, role: str) -> Tensor:
        stack = torch.einsum("abj,kj->abk", self.core, self.p[first:first + count])  # (r, r, n)
        if self.layout == "slices":
            return stack.movedim(-1, 0)
        if role in ("fc1", "fc2"):
            stack = stack.reshape(len(stack), count, -1).mT  # (r, r, n) cut anew
        chunks = stack.movedim(-1, 0)  # (n, r, r), the code's index first but for fc2
        return chunks if role == "fc2" else chunks.mT


@part("fact_tk")
class FacTTK(Adapter):
    """FacT-TK: all weight updates in Tucker form."""

    title = "FacT-TK"
    paper = "Jie, Deng, AAAI 2023, arXiv:2212.03145"
    ours = ("our reading: the core's slices are kept whole and act on columns; with tk_layout='official' they act on "
            "rows, and the four of fc1 and fc2 are mixed")
    formula = "2 d rank + 12 L rank + rank^3"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit"})
    mergeable = True
    search = {"lr": (3e-4, 3e-2, "log"), "fact_tk.scale": (1.0, 0.1, 10.0, 0.01, 100.0), "fact_tk.rank": (32, 16, 8)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # the authors'
    recipe_from = "the authors' code for VTAB-1k; certain, but rank and scale are chosen per task there"

    rank: Annotated[int, ">= 1", "rank of the shared factors"] = 32
    scale: Annotated[float, "factor of every update"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "on the code while training"] = 0.1
    tk_layout: Annotated[Literal["slices", "official"], "how cores are read from the stack"] = "slices"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        sites = slice_counts(self, backbone)
        freeze(backbone)
        width, slices = int(backbone.num_features), sum(n for _, n in sites)  # type: ignore[arg-type]
        factors = Tucker(sites[0][0].linear.weight, width, self.rank, slices, self.tk_layout)
        weave(backbone, sites, factors, self.scale, self.dropout)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)

    def merge(self, model: nn.Module) -> nn.Module:
        return unweave(model)
