"""The tensor of all weight updates that FacT factorises: where its slices lie, and how one layer uses them.

A layer that is no whole number of squares (EVA-02's MLP) has a last slice of which only a part is used: ours.
Each block's linear layers are cut into slices of D x D: q, k, v, the projection, the output chunks of fc1, the input
chunks of fc2. Slice k changes by scale * V S_k U, with U (r x D) and V (D x r) shared by all of them and V = 0 at the
start. The shared factors are registered once, on the model, so that they are counted, stored and trained once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta
from ..grammar import MethodError
from ..insertion import AdaptedLinear, Site, deltas, empty, fold_linears, linears, zeros


class Factors(nn.Module):
    """U, V, and whatever makes the cores; `cores(site)` are the slices' (n, r, r) matrices."""

    def __init__(self, like: Tensor, width: int, rank: int) -> None:
        super().__init__()
        self.u = empty(like, rank, width)
        self.v = zeros(like, width, rank)
        nn.init.uniform_(self.u, -width**-0.5, width**-0.5)  # what torch gives a linear layer of this size

    def cores(self, first: int, count: int, role: str) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no cores")


class Slices(Delta):
    """What the slices of one layer add; the shared factors are only referred to, not registered again."""

    def __init__(self, site: Site, factors: Factors, first: int, count: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.depth, self.first, self.count, self.role, self.scale = site.depth, first, count, site.role, scale
        self.outputs, self.inputs = site.linear.out_features, site.linear.in_features
        self._shared: list[Any] = [factors]  # in a list, so that torch does not register it here
        self.dropout = nn.Dropout(dropout)

    @property
    def factors(self) -> Factors:
        found: Factors = self._shared[0]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(..., i) -> (..., o)."""
        f = self.factors
        cores = f.cores(self.first, self.count, self.role)  # (n, r, r)
        if self.role == "fc2":  # chunks of the input, summed
            chunks = self._whole(x).reshape(*x.shape[:-1], self.count, -1)
            code = torch.einsum("...nr,nsr->...s", F.linear(chunks, f.u), cores)
            return self.scale * F.linear(self.dropout(code), f.v)
        code = torch.einsum("...r,nsr->...ns", F.linear(x, f.u), cores)
        return self.scale * F.linear(self.dropout(code), f.v).flatten(-2)[..., :self.outputs]

    def _whole(self, x: Tensor) -> Tensor:
        """Filled up with zeros to whole squares: what the last slice lacks of one adds nothing."""
        missing = self.count * self.factors.u.shape[1] - x.shape[-1]
        return F.pad(x, (0, missing)) if missing else x

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i)."""
        f = self.factors
        parts = self.scale * f.v @ f.cores(self.first, self.count, self.role) @ f.u  # (n, D, D)
        return torch.cat(list(parts), dim=1 if self.role == "fc2" else 0)[:self.outputs, :self.inputs]


class FactLinear(AdaptedLinear):
    """W x + b, plus what its slices add."""

    def __init__(self, base: nn.Linear, fact: Slices) -> None:
        super().__init__(base)
        self.fact = fact

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.fact(x)
        return super().forward(x) + added

    def folded(self) -> tuple[Tensor, Tensor | None]:
        return self.weight + self.fact.product(), self.bias


def slice_counts(adapter: Adapter, model: nn.Module) -> list[tuple[Site, int]]:
    """Every linear layer with its number of D x D slices. Raises MethodError when a layer cannot be cut so."""
    found = []
    for site in linears(model):
        o, i = site.linear.out_features, site.linear.in_features
        small, large = min(o, i), max(o, i)
        if small != int(model.num_features):  # type: ignore[arg-type]
            raise MethodError(f"{adapter.name!r} cuts layers into squares of the model's width; "  # type: ignore[attr-defined]
                              f"{site.path!r} is {o} x {i}, for which 'lora' works")
        found.append((site, -(-large // small)))
    return found


def weave(model: nn.Module, sites: list[tuple[Site, int]], factors: Factors, scale: float, dropout: float) -> None:
    """Register the factors on the model and give every layer its slices."""
    model.add_module("fact", factors)
    first = 0
    for site, count in sites:
        slices = Slices(site, factors, first, count, scale, dropout)
        model.set_submodule(site.path, FactLinear(site.linear, slices))
        first += count


def unweave(model: nn.Module) -> nn.Module:
    """Fold every slice into its layer and forget the factors."""
    fold_linears(model)
    del model.fact
    return model


def neutral(model: nn.Module) -> dict[str, Tensor]:
    """V at zero, the rest as constructed."""
    if not any(isinstance(d, Slices) for _, d in deltas(model)):
        return {}
    named = model.fact.named_parameters()  # type: ignore[union-attr, operator]
    return {f"fact.{n}": torch.zeros_like(p) if n == "v" else p.detach().clone() for n, p in named}
