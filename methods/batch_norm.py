"""Batch norm of a network that is adapted: whether it normalises by stored statistics or by those of the batch.

A frozen weight does not stop running statistics: in train mode a batch norm normalises by the batch and moves them,
whatever `requires_grad` says. An adapted network would then not start at the pre-trained function, an image's output
would depend on the batch around it, and nothing could be merged or computed once. So a batch norm whose network is
frozen stays in eval mode here, whatever `train()` says, also where its own scale and shift train (`bn_tune`). Where
all of a block trains (`full`, `partial_k`) its batch norms train too. A run's setting `batch_norm` has the last word.

Three choices therefore belong to every run on such a network: whether scale and shift train (the method's), the mode in
training (the method's, or the run's `batch_norm`), the statistics at the end (what training left; `wise.buffers` where
weights are interpolated).
"""

from __future__ import annotations

import types
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_HELD = "holds_statistics"


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Every batch norm with running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def hold_statistics(model: nn.Module) -> None:
    """Every batch norm stays in eval mode from now on, whatever `model.train()` says; without any nothing changes."""
    norms = batch_norms(model)
    for norm in norms:
        setattr(norm, _HELD, True)
        norm.training = False
    if norms and "train" not in vars(model):
        model.train = types.MethodType(_train, model)  # type: ignore[method-assign]


def release_statistics(modules: Iterable[nn.Module]) -> None:
    """The batch norms in these modules follow `train()` again."""
    for module in modules:
        for norm in batch_norms(module):
            setattr(norm, _HELD, False)
            norm.training = module.training


def set_mode(model: nn.Module, mode: str) -> None:
    """`eval`: every batch norm keeps its statistics; `train`: every one follows `train()`; `method`: as it is."""
    if mode == "eval":
        hold_statistics(model)
    elif mode == "train":
        release_statistics([model])


def _train(self: nn.Module, mode: bool = True) -> nn.Module:
    type(self).train(self, mode)
    for norm in batch_norms(self):
        if getattr(norm, _HELD, False):
            norm.training = False
    return self
