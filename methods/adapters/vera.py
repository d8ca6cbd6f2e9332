"""VeRA (Kopiczko, Blankevoort, Asano, ICLR 2024, arXiv:2310.11454): one frozen random pair for all layers, scaled.

W' = W + diag(b) B diag(d) A: A (rank x i) and B (o x rank) are drawn once, kaiming-uniform, at the size of the widest
adapted layer, and cut to each layer's size; only the vectors b (zero) and d (0.1) train. The pair follows from `key`
alone, on every machine and for every seed of a run, so it is drawn anew and not stored. Because of the cut, a layer's
pair depends on the sizes of the other layers that are targets.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import Site, deltas, empty, fold_linears, linears, require, zeros
from ..vit import freeze, replace_head
from .lowrank import ROLE, LoraLinear, grouped, read_targets, rows_of


class RandomPair(nn.Module):
    """A (rank, i) and B (o, rank), frozen, the same for the same sizes and key."""

    down: Tensor
    up: Tensor

    def __init__(self, like: Tensor, inputs: int, outputs: int, rank: int, key: int) -> None:
        super().__init__()
        generator = torch.Generator("cpu").manual_seed(key)
        for name, shape in (("down", (rank, inputs)), ("up", (outputs, rank))):
            drawn = torch.rand(shape, generator=generator, device="cpu")
            bound = math.sqrt(6 / shape[1])  # kaiming for a layer of so many inputs
            self.register_buffer(name, ((2 * drawn - 1) * bound).to(like), persistent=False)


class Scaled(Delta):
    """b * (B (d * (A x))) on the rows of its targets: (..., i) -> (..., o)."""

    def __init__(self, site: Site, rows: list[slice], pair: RandomPair, start: float) -> None:
        super().__init__()
        self.depth, self.rows = site.depth, rows
        self.inputs, self.outputs = site.linear.in_features, sum(r.stop - r.start for r in rows)
        self.d = nn.init.constant_(empty(site.linear.weight, pair.down.shape[0]), start)
        self.b = zeros(site.linear.weight, self.outputs)
        self._shared: list[Any] = [pair]  # in a list, so that torch does not register it here

    def forward(self, x: Tensor) -> Tensor:
        pair = self._shared[0]
        code = self.d * F.linear(x, pair.down[:, :self.inputs])
        return self.b * F.linear(code, pair.up[:self.outputs])

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i)."""
        pair = self._shared[0]
        found: Tensor = self.b[:, None] * pair.up[:self.outputs] @ (self.d[:, None] * pair.down[:, :self.inputs])
        return found


@part("vera")
class VeRA(Adapter):
    """VeRA: trained vectors around one frozen random pair for all layers."""

    title = "VeRA"
    paper = "Kopiczko, Blankevoort, Asano, ICLR 2024, arXiv:2310.11454"
    ours = "our choice: one learning rate for vectors and head"
    formula = "2 L (rank + d); targets: L (rank + outputs) for each; shared over n of q, k, v: L (rank + n d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    search = {"lr": (1e-3, 1e-1, "log")}
    recipe_from = ("the paper is said to have rates of its own for head and vectors, per data set; we have read them "
                   "in no code")

    rank: Annotated[int, ">= 1", "rank of the random pair"] = 256
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'"] = "q,v"
    shared: Annotated[bool, "one d for all of q, k, v that are targets, as libraries do that see one matrix"] = False
    d_start: Annotated[float, "where d begins"] = 0.1
    key: Annotated[int, ">= 0", "seed of the random pair, the same for every run"] = 0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        groups = grouped(read_targets(self.targets), self.shared)
        chosen = [(site, {"".join(g): [rows_of(t, site) for t in g] for g in groups if ROLE[g[0]] == site.role})
                  for site in linears(backbone)]
        chosen = [(site, parts) for site, parts in chosen if parts]
        outputs = max(sum(r.stop - r.start for r in rows) for _, parts in chosen for rows in parts.values())
        pair = RandomPair(chosen[0][0].linear.weight, max(s.linear.in_features for s, _ in chosen), outputs,
                          self.rank, self.key)
        backbone.add_module("vera", pair)
        for site, parts in chosen:
            made = {name: Scaled(site, rows, pair, self.d_start) for name, rows in parts.items()}
            backbone.set_submodule(site.path, LoraLinear(site.linear, made))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """b = 0: nothing is added, whatever d is, and scaling an entry of b scales that row of the update."""
        return {f"{path}.b": torch.zeros_like(d.b) for path, d in deltas(model) if isinstance(d, Scaled)}

    def merge(self, model: nn.Module) -> nn.Module:
        fold_linears(model)
        del model.vera
        return model
