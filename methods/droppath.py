"""Stochastic depth and dropout that two copies of a batch share, so that comparing the copies does not measure them.

A batch of k copies is laid out [x1..xn, x1..xn]: copy c of image i is row c n + i. timm's DropPath and torch's Dropout
modules are swapped for subclasses that behave as before, draw for draw, until `sharing` says how many copies there are.

`batch_mean` divides DropPath's mask by its mean over the batch, as PACE's authors do: kept rows are scaled by n / kept
instead of 1 / keep rate, and if every row drops the branch is zero. `keep_prob` is timm's own scaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from torch import Tensor, nn

Norm = Literal["batch_mean", "keep_prob"]
FLOOR = 1e-12  # under the mean of the mask: all rows dropped gives zeros, not NaN


class SharedDropPath(DropPath):
    """timm's DropPath; while `copies` > 0, one mask per image, repeated for its copies."""

    copies: int = 0
    norm: Norm = "keep_prob"

    def forward(self, x: Tensor) -> Tensor:  # (B, ..., D) -> (B, ..., D)
        if not self.copies or not self.training or self.drop_prob == 0:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        images = x.shape[0] // self.copies
        mask = x.new_empty(images, *(1,) * (x.ndim - 1)).bernoulli_(1 - self.drop_prob)
        if self.norm == "batch_mean":
            mask = mask / (mask.mean() + FLOOR)
        elif self.scale_by_keep and self.drop_prob < 1:
            mask = mask / (1 - self.drop_prob)
        return x * mask.repeat(self.copies, *(1,) * (x.ndim - 1))


class SharedDropout(nn.Dropout):
    """torch's Dropout; while `copies` > 1, one mask per image, repeated for its copies."""

    copies: int = 0

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        if self.copies < 2 or not self.training or self.p == 0:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        mask = F.dropout(torch.ones_like(x[: x.shape[0] // self.copies]), self.p)
        return x * mask.repeat(self.copies, *(1,) * (x.ndim - 1))


Shared = SharedDropPath | SharedDropout


def share(model: nn.Module) -> list[Shared]:
    """Swap the model's DropPath and Dropout modules, in place; what cannot be shared is refused with a sentence."""
    made: dict[int, Shared] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, PatchDropout) and module.prob > 0:
            raise ValueError(f"{path!r} drops patches at random, which two copies of a batch cannot share; "
                             "build the backbone without patch dropout")
        if getattr(module, "fused_attn", False) and getattr(getattr(module, "attn_drop", None), "p", 0) > 0:
            raise ValueError(f"{path!r} drops attention inside a fused kernel, which two copies of a batch cannot "
                             "share; build the backbone without attention dropout")
        if isinstance(module, Shared):
            made[id(module)] = module
        elif isinstance(module, DropPath) or type(module) is nn.Dropout:
            if id(module) not in made:
                made[id(module)] = _shared(module)
            model.set_submodule(path, made[id(module)])
    return list(made.values())


def _shared(module: nn.Module) -> Shared:
    if isinstance(module, DropPath):
        return SharedDropPath(module.drop_prob, module.scale_by_keep).train(module.training)
    assert isinstance(module, nn.Dropout)
    return SharedDropout(module.p).train(module.training)


@contextmanager
def sharing(modules: Sequence[Shared], copies: int, norm: Norm) -> Iterator[None]:
    """Inside, a batch holds so many copies of each image; a single copy still follows `norm`."""
    for module in modules:
        module.copies = copies
        if isinstance(module, SharedDropPath):
            module.norm = norm
    try:
        yield
    finally:
        for module in modules:
            module.copies = 0
