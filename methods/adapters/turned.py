"""A linear layer whose input is turned first: W (M x) + b, folded into W M afterwards; what oft, goft and qgoft share.

The layer adds the residual M x - x to its input, so that PACE can perturb it and a constraint shrink it. With all of
its tensors at zero M is the identity, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import Adapter, Delta
from ..insertion import AdaptedLinear, Site, deltas, fold_linears, linears, require
from ..vit import freeze, replace_head

ROLES = {"all": ("qkv", "proj", "fc1", "fc2", "reduction"), "attn": ("qkv", "proj"), "qkv": ("qkv",)}


class Turn(Delta):
    """M x - x in front of a linear layer, (..., i) -> (..., i)."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.depth = site.depth

    def turned(self, x: Tensor) -> Tensor:
        """M x."""
        raise TypeError(f"{type(self).__name__} turns nothing")

    def forward(self, x: Tensor) -> Tensor:
        return self.turned(x) - x


class TurnedLinear(AdaptedLinear):
    """W (x + delta(x)) + b = W M x + b."""

    def __init__(self, base: nn.Linear, turn: Turn) -> None:
        super().__init__(base)
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.turn(x))

    def folded(self) -> tuple[Tensor, Tensor | None]:
        columns = torch.eye(self.in_features, device=self.weight.device, dtype=self.weight.dtype)
        return self.weight @ self.turn.turned(columns).mT, self.bias


class Turning(Adapter):
    """What the methods that turn a layer's input share: zero is no turn, and the turn folds into the weight."""

    def weave(self, model: nn.Module, classes: int, where: str, turns: type[Turn], *given: object) -> nn.Module:
        """Freeze, put a turn in front of the chosen layers, replace the head."""
        require(self, model)
        freeze(model)
        for site in linears(model):
            if site.role in ROLES[where]:
                model.set_submodule(site.path, TurnedLinear(site.linear, turns(site, *given)))  # type: ignore[arg-type]
        return replace_head(model, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return {f"{path}.{n}": torch.zeros_like(p) for path, d in deltas(model) for n, p in d.named_parameters()}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
