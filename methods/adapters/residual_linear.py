"""The forms of PACE's base adapters (Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137): one change per linear layer.

h(x) = W x + b + (DW x + Db) on every linear layer of the backbone, patch embedding and head excepted:
  add:     DW = P Q,        Db = d              (lora_add)
  mul:     DW = W * (P Q),  Db = b * d          (lora_mul), elementwise
  prompt:  Db = W p                             (vpt_add), p in R^i free or the product of two factors
P, d and the left factor of p start at zero, the right factors Xavier-uniform; no alpha. Names of the factors: `up` is
P (o x r), `down` is Q (r x i), `shift` is d, `prompt` is p or `prompt_up` (i x r) times `prompt_down` (r x 1).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta
from ..insertion import AdaptedLinear, Site, deltas, empty, fold_linears, linears, require, zeros
from ..vit import freeze, replace_head

Form = Literal["add", "mul", "none"]
Prompt = Literal["same", "plain", "none"]


class Change(Delta):
    """DW x + Db of one layer; without DW it is the same for every token and only expanded."""

    def __init__(self, site: Site, rank: int, form: Form, prompt: Prompt) -> None:
        super().__init__()
        self.depth, self.form, self.kind = site.depth, form, prompt
        weight, (o, i) = site.linear.weight, site.linear.weight.shape
        if form != "none":
            self.up = zeros(weight, o, rank)
            self.down = nn.init.xavier_uniform_(empty(weight, rank, i))
        # b * d has no gradient without b (Swin's patch merging): such a d is not allocated
        self.shift = zeros(weight, o) if form == "add" or (form == "mul" and site.linear.bias is not None) else None
        if prompt == "plain":
            self.prompt = zeros(weight, i)
        elif prompt == "same":
            self.prompt_up = zeros(weight, i, rank)
            self.prompt_down = nn.init.xavier_uniform_(empty(weight, rank, 1))

    def matrix(self, weight: Tensor) -> Tensor | None:
        """DW (o, i)."""
        if self.form == "none":
            return None
        product = self.up @ self.down
        return weight * product if self.form == "mul" else product

    def constant(self, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Db (o,)."""
        added = None
        if self.shift is not None:
            added = self.shift if self.form == "add" or bias is None else bias * self.shift
        if self.kind == "none":
            return added
        prompt = self.prompt if self.kind == "plain" else (self.prompt_up @ self.prompt_down)[:, 0]
        pulled = F.linear(prompt, weight)
        return pulled if added is None else added + pulled

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., i), the frozen W (o, i) and b (o,) -> (..., o)."""
        constant = self.constant(weight, bias)
        if self.form == "none":
            assert constant is not None
            return constant.expand(*x.shape[:-1], -1)
        if self.form == "add":
            return F.linear(F.linear(x, self.down), self.up, constant)
        matrix = self.matrix(weight)
        assert matrix is not None
        return F.linear(x, matrix, constant)


class ChangedLinear(AdaptedLinear):
    """W x + b, plus its change."""

    def __init__(self, base: nn.Linear, change: Change) -> None:
        super().__init__(base)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.change(x, self.weight, self.bias)
        return super().forward(x) + added

    def folded(self) -> tuple[Tensor, Tensor | None]:
        matrix, constant = self.change.matrix(self.weight), self.change.constant(self.weight, self.bias)
        weight = self.weight if matrix is None else self.weight + matrix
        if constant is None or self.bias is None:
            return weight, self.bias if constant is None else constant
        return weight, self.bias + constant


def weave(adapter: Adapter, model: nn.Module, classes: int, rank: int, form: Form, prompt: Prompt) -> nn.Module:
    """Freeze, change every linear layer, replace the head."""
    require(adapter, model)
    freeze(model)
    for site in linears(model):
        model.set_submodule(site.path, ChangedLinear(site.linear, Change(site, rank, form, prompt)))
    return replace_head(model, classes)


class Residual(Adapter):
    """What the four share: their anchor, and how they merge."""

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """P, d and the prompt's left factor at zero: the pre-trained function, whatever the right factors are."""
        free = ("up", "shift", "prompt", "prompt_up")
        return {f"{path}.{name}": torch.zeros_like(p) for path, d in deltas(model) if isinstance(d, Change)
                for name, p in d.named_parameters() if name in free}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
