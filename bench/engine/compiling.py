"""Training steps through torch.compile (`compiled` in the spec), from the second step of a process on.

Compiled is the forward pass of full training batches, and with it their backward pass. The first step of a run carries
the meter's hooks and stays as it is; short batches, evaluation and everything that calls the model in another way take
the plain forward, so there is one graph of fixed shapes and nothing to compile again in the middle of a run. Stored
prefixes are not used: a compiled model is entered at its beginning.

Before the first compiled step the same step is tried and undone (random streams, buffers, gradients). Where that
fails, for want of a compiler or because the graph is not supported, the run goes on as it is: the record has
`compiled` 0 among its diagnostics, and a line says so.

It is off unless asked for. Measured on two CPU cores it does not pay: 0.98 times the speed of the plain step, after 30
to 46 seconds of compiling.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from methods.base import Batch, Fit, cross_entropy
from results.schema import RunSpec
from results.visible import visible

from .putback import random_state, restore_random

BACKEND = "inductor"


class Steps:
    """What the loop asks before each step; does nothing where the spec does not want it."""

    def __init__(self, fit: Fit, spec: RunSpec, images: int) -> None:
        self.fit, self.size = fit, min(spec.batch_size, images)
        self.wanted, self.at_work = spec.compiled, False
        self.fast: Any = None

    def before(self, batch: Batch) -> None:
        """Compile when the first full batch behind the measured step comes."""
        if self.wanted and self.fast is None and self.fit.step and len(batch.y) == self.size:
            self._install(batch)

    def close(self) -> None:
        """The model as it was."""
        if self.at_work:
            del self.fit.model.forward

    def report(self) -> dict[str, float | None]:
        """For the record: whether the steps were compiled; nothing where that was not asked for."""
        return {"compiled": float(self.at_work)} if self.wanted else {}

    def _install(self, batch: Batch) -> None:
        model: Any = self.fit.model
        plain, shape = model.forward, batch.x.shape
        # What earlier runs of this process compiled would count against a limit.
        torch._dynamo.reset()  # type: ignore[no-untyped-call]
        fast: Any = torch.compile(plain, backend=BACKEND, dynamic=False)  # type: ignore[call-overload]
        self.fast = fast

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            usual = x.shape == shape and model.training and torch.is_grad_enabled() and not args and not kwargs
            return fast(x) if usual else plain(x, *args, **kwargs)

        model.forward, self.at_work = forward, True
        if why := self._fails(batch):
            self.close()
            self.at_work = False
            print(f"regatta: torch.compile failed, the run goes on uncompiled: {visible(why)}", file=sys.stderr,
                  flush=True)

    def _fails(self, batch: Batch) -> str:
        """Why a step cannot be compiled, or nothing; leaves no trace."""
        streams = random_state()
        buffers = [(b, b.clone()) for b in self.fit.model.buffers()]
        try:
            cross_entropy(self.fit, self.fit.forward(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # a missing compiler, a graph that is not supported, a bug of the compiler
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0][:200]}"
        finally:
            for p in self.fit.trainable.values():
                p.grad = None
            with torch.no_grad():
                for b, kept in buffers:
                    b.copy_(kept)
            restore_random(streams)
        return ""
