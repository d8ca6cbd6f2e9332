"""SPT (He et al., ICCV 2023, arXiv:2303.08566): a budget of weights goes where the task's gradient is large.

An entry's sensitivity is its squared gradient of cross-entropy, summed over a few batches before training. Of the most
sensitive tau entries of q, k, v, projection, fc1 and fc2, a matrix that holds at least a tenth of a LoRA pair's weights
gets that pair instead; the others train alone. tau is the largest for which the budget suffices. The class token trains
besides. Differs from the authors' code: biases and norms take no part, no dropout inside the pairs, tau is not stepped
by 20,000, and what is left of the budget goes to the next entries, so that it is met exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from ..base import Adapter, Batch, Feature, Fit
from ..compose import part
from ..grammar import MethodError
from ..insertion import fold_linears, linears, require
from ..vit import freeze, replace_head
from .lowrank import ROLE, TARGETS, LoraLinear, rows_of
from .pooled import Pool, Share, share_out
from .sensitivity import on_labels, weights_awake

BATCHES = 16  # that are looked at


@part("spt")
class SPT(Adapter):
    """SPT: a budget of single entries and low-rank pairs, placed by sensitivity."""

    title = "SPT-LoRA"
    paper = "He et al., ICCV 2023, arXiv:2303.08566"
    ours = ("our reading: biases and norms take no part, no dropout inside the pairs, the budget is met exactly; its "
            "default share is ours, the authors choose it for each task")
    formula = "a share of the linear layers' weights, and the class token"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    mergeable = True
    search = {"lr": (1e-4, 1e-2, "log"), "spt.share": (0.005, 0.0025, 0.01)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "batch_size": 64}
    recipe_from = ("the authors' code for VTAB-1k; high: the budget is chosen per task there, the warm-up was not "
                   "read and is the suite's")

    share: Annotated[float, "> 0, <= 0.1", "trained weights as a share of all linear layers' weights"] = 0.005
    rank: Annotated[int, ">= 1", "rank of a pair"] = 8

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        found = [(site, t, rows_of(t, site)) for site in linears(backbone) for t in TARGETS if ROLE[t] == site.role]
        sizes = [(rows.stop - rows.start, site.linear.in_features) for site, _, rows in found]
        budget = round(self.share * sum(o * i for o, i in sizes))
        most = sum(min(self.rank * (o + i), o * i) for o, i in sizes)
        if not 1 <= budget < most:
            raise MethodError(f"spt(share={self.share}, rank={self.rank}) has {budget:,} weights to place; it takes 1 "
                              f"to {most - 1:,}: fewer than a pair for every matrix")
        pool = Pool(found[0][0].linear.weight, sizes, budget)
        backbone.add_module("spt", pool)
        for site in linears(backbone):
            shares = {t: Share(pool, n, rows, self.rank) for n, (one, t, rows) in enumerate(found)
                      if one.path == site.path}
            backbone.set_submodule(site.path, LoraLinear(site.linear, shares))
        if isinstance(backbone.cls_token, nn.Parameter):
            backbone.cls_token.requires_grad_(True)
        return replace_head(backbone, classes)

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        layers: list[Any] = [m for m in fit.model.modules() if isinstance(m, LoraLinear)]
        squares = [torch.zeros_like(m.weight) for m in layers]
        for batch in islice(train, BATCHES):
            with weights_awake(fit, [m.weight for m in layers]):
                on_labels(fit, batch).backward()  # type: ignore[no-untyped-call]
                for total, m in zip(squares, layers, strict=True):
                    total += m.weight.grad.square()
        scores = [total[share.rows[0]].flatten() for total, m in zip(squares, layers, strict=True)
                  for share in m.lora.values()]
        pool = fit.model.spt
        assert isinstance(pool, Pool)
        share_out(pool, scores, self.rank)
        fit.anchor["spt.values"] = pool.values.detach().clone()

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """Nothing added: entries and every B at zero (every A as it was drawn, once data have been seen)."""
        return {"spt.values": torch.zeros_like(model.spt.values)}  # type: ignore[union-attr, arg-type]

    def merge(self, model: nn.Module) -> nn.Module:
        fold_linears(model)
        del model.spt
        return model
