"""FacT-TT (Jie, Deng, AAAI 2023, arXiv:2212.03145): all weight updates as one tensor train; free cores per slice."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..insertion import empty, require
from ..vit import freeze, replace_head
from .fact import Factors, neutral, slice_counts, unweave, weave


class TensorTrain(Factors):
    """A free r x r core per slice, drawn as a linear layer of torch would be: fc2's four cores share their inputs."""

    def __init__(self, like: Tensor, width: int, rank: int, roles: list[tuple[str, int]]) -> None:
        super().__init__(like, width, rank)
        self.core = empty(like, sum(n for _, n in roles), rank, rank)
        first = 0
        for role, count in roles:
            bound = (rank * (count if role == "fc2" else 1)) ** -0.5
            nn.init.uniform_(self.core.data[first:first + count], -bound, bound)
            first += count

    def cores(self, first: int, count: int, role: str) -> Tensor:
        return self.core[first:first + count]


@part("fact_tt")
class FacTTT(Adapter):
    """FacT-TT: all weight updates as one tensor train."""

    title = "FacT-TT"
    paper = "Jie, Deng, AAAI 2023, arXiv:2212.03145"
    formula = "2 d rank + 12 L rank^2"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit"})
    mergeable = True
    search = {"lr": (3e-4, 3e-2, "log"), "fact_tt.scale": (1.0, 0.1, 10.0, 0.01, 100.0), "fact_tt.rank": (16, 8, 4)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # the authors'
    recipe_from = "the authors' code for VTAB-1k; certain, but rank and scale are chosen per task there"

    rank: Annotated[int, ">= 1", "rank of the shared factors"] = 16
    scale: Annotated[float, "factor of every update"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "on the code while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        sites = slice_counts(self, backbone)
        freeze(backbone)
        roles = [(s.role, n) for s, n in sites]
        width = int(backbone.num_features)  # type: ignore[arg-type]
        factors = TensorTrain(sites[0][0].linear.weight, width, self.rank, roles)
        weave(backbone, sites, factors, self.scale, self.dropout)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)

    def merge(self, model: nn.Module) -> nn.Module:
        return unweave(model)
