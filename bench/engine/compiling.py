"""Training steps that are compiled or recorded (`compiled` in the spec), from the second step of a process on.

    True      the whole model through torch.compile
    "blocks"  one block through torch.compile, used for all blocks (`regions`): minutes of compiling become seconds
    "graph"   no compiler: a GPU's kernels of the forward and the backward pass are recorded once and replayed, which
              takes their launching out of the step (torch.cuda.make_graphed_callables)

Compiled is the forward pass of full training batches, and with it their backward pass. The first step of a run carries
the meter's hooks and stays as it is; short batches, evaluation and everything that calls the model in another way take
the plain forward, so there is one graph of fixed shapes and nothing to compile again in the middle of a run. Stored
prefixes are not used: a compiled model is entered at its beginning.

Before the first compiled step the same step is tried and undone (random streams, buffers, gradients). Where that
fails, for want of a compiler or of a GPU, or because the graph is not supported, the run goes on as it is: the record
has `compiled` 0 among its diagnostics, and a line says so. What is compiled is kept in the cache folder, where the next
process finds it.

It is off unless asked for. Measured on two CPU cores it does not pay: 0.98 times the speed of the plain step, after 30
to 46 seconds of compiling. On a GPU nothing of it has been measured.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Batch, Fit, cross_entropy
from results.schema import RunSpec
from results.visible import visible

from .putback import random_state, restore_random
from .regions import MARK, Regions

BACKEND = "inductor"
CACHE = "TORCHINDUCTOR_CACHE_DIR"  # read when something is compiled


class Steps:
    """What the loop asks before each step; does nothing where the spec does not want it."""

    def __init__(self, fit: Fit, spec: RunSpec, images: int, cache: Path | None = None) -> None:
        self.fit, self.size, self.cache = fit, min(spec.batch_size, images), cache
        self.wanted, self.at_work, self.tried = spec.compiled, False, False
        self._regions: Regions | None = None

    def before(self, batch: Batch) -> None:
        """Compile when the first full batch behind the measured step comes."""
        if self.wanted and not self.tried and self.fit.step and len(batch.y) == self.size:
            self.tried = True
            self._try(batch)

    def close(self) -> None:
        """The model as it was."""
        if self._regions is not None:
            self._regions.close()
        elif self.at_work:
            del self.fit.model.forward
        self._regions = None

    def report(self) -> dict[str, float | None]:
        """For the record: whether the steps were compiled; nothing where that was not asked for."""
        return {"compiled": float(self.at_work)} if self.wanted else {}

    def _try(self, batch: Batch) -> None:
        if self.cache is not None:
            _keep_below(self.cache)
        # What earlier runs of this process compiled would count against a limit.
        torch._dynamo.reset()  # type: ignore[no-untyped-call]
        streams, before = random_state(), [(b, b.clone()) for b in self.fit.model.buffers()]
        if why := self._install(batch) or self._fails(batch):
            self.close()
            self.at_work = False
            how = "recording the step" if self.wanted == "graph" else "torch.compile"
            print(f"regatta: {how} failed, the run goes on uncompiled: {visible(why)}", file=sys.stderr, flush=True)
        for p in self.fit.trainable.values():
            p.grad = None
        with torch.no_grad():
            for b, kept in before:
                b.copy_(kept)
        restore_random(streams)

    def _install(self, batch: Batch) -> str:
        """Put the fast form in place; why that cannot be, or nothing."""
        model: Any = self.fit.model
        try:
            if self.wanted == "blocks":
                self._regions = Regions(model, self.size, BACKEND)
            elif self.wanted == "graph":
                self._enter(batch.x.shape, _recorded(self.fit, batch.x))
            else:
                self._enter(batch.x.shape, torch.compile(model.forward, backend=BACKEND, dynamic=False))  # type: ignore[call-overload]
        except Exception as error:  # no GPU, blocks that nobody knows, an operation that cannot be recorded
            return _said(error)
        self.at_work = True
        return ""

    def _enter(self, shape: torch.Size, fast: Any) -> None:
        model: Any = self.fit.model
        vars(model).pop("forward", None)  # recording has put its own there
        plain = model.forward

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            usual = x.shape == shape and model.training and torch.is_grad_enabled() and not args and not kwargs
            return fast(x) if usual else plain(x, *args, **kwargs)

        model.forward = forward

    def _fails(self, batch: Batch) -> str:
        """Why a step cannot be compiled, or nothing."""
        try:
            cross_entropy(self.fit, self.fit.forward(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # a missing compiler, a graph that is not supported, a bug of the compiler
            return _said(error)
        idle = self._regions is not None and not self._regions.used
        return "no block takes part in a training pass" if idle else ""


def _keep_below(folder: Path) -> None:
    """What is compiled is kept in this folder, unless the user has named another; torch names its own when imported."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, default_cache_dir()) == default_cache_dir():
        os.environ[CACHE] = str(folder.resolve() / "compiled")


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _recorded(fit: Fit, x: Tensor) -> Any:
    """The model's forward as CUDA graphs of itself and of its backward pass. Raises RuntimeError where it cannot be."""
    if not x.is_cuda:
        raise RuntimeError("CUDA graphs exist on GPUs alone and this run is on the CPU")
    cached = torch.is_autocast_cache_enabled()
    try:
        torch.set_autocast_cache_enabled(False)  # a cached cast of a weight would be recorded as a constant
        with fit.precision():
            torch.set_autocast_cache_enabled(False)  # entering has switched it on
            made: Any = torch.cuda.make_graphed_callables(fit.model, (x.clone(),))
    finally:
        torch.set_autocast_cache_enabled(cached)
    return made.forward


def plain_again(model: nn.Module) -> None:
    """Take what `blocks` has put into a model out of a copy of it: it belongs to the original."""
    for module in model.modules():
        if getattr(vars(module).get("forward"), MARK, False):
            del module.forward
