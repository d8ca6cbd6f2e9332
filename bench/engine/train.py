"""The only training loop. It knows the step protocol and no method's name; what happens in a step is in `step`.

A killed run goes on from its last checkpoint: everything before the first step is done anew (it follows from the
seed), then weights, optimizer, parts, random streams and the position are put back (`resume`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from methods.grammar import MethodError

from . import step
from .build import Built
from .course import Course, reading
from .epochend import look, scored
from .loaders import TuneData
from .prefix import Prefix, open_prefix, serving
from .putback import restore_weights
from .resume import Standing
from .tokens import Couples


def train(run: Built, at: Course, data: TuneData, standing: Standing, progress: Callable[[int, int], None]) -> None:
    """All steps from where the run stands; raises Diverged, Interrupted. `progress(step, steps)` follows each step."""
    fit = run.fit
    prefix, every = _open_prefix(run, at), reading(run.device)
    while at.epoch < (run.spec.until or run.spec.epochs):
        for batch in run.batches.epoch(at.epoch, at.batch, lazy=prefix is not None):
            started = time.perf_counter()
            with serving(prefix, batch):
                step.take(run, at, batch, first=fit.step == 0)
            if len(at.unread) >= every or fit.step == 0:
                at.read()  # in the timed part: it waits for what was launched
            if fit.step:  # the first step carries the meter's hooks and every lazy start
                at.counted_s += time.perf_counter() - started
            at.step_over(len(batch.y))
            fit.step += 1
            progress(fit.step, fit.steps)
            standing.after_step()
        _read(at)
        at.history.append(at.curve() | {"lr": float(run.optimizer.param_groups[0]["lr"])} | look(run, at, data))
        at.epoch_over()
        standing.after_epoch()
    run.compiling.close()
    if prefix is not None:
        prefix.close()
    if at.best_weights:
        restore_weights(fit.model, at.best_weights)
    if run.held is not None or run.method.constraints:
        run.method.finish(fit, lambda: _validate(run))


def _read(at: Course) -> None:
    """What is left unread; waiting for it belongs to the steps."""
    if not at.unread:
        return
    started = time.perf_counter()
    at.read()
    at.counted_s += time.perf_counter() - started


def _open_prefix(run: Built, at: Course) -> Prefix | None:
    """What a frozen beginning of the model gives, stored once; storing it is a part of training."""
    began = time.perf_counter()
    if isinstance(run.normalise, Couples):  # of two towers nothing is stored
        return None
    root = None if run.spec.compiled else run.where.cache_root  # a compiled model is entered at its beginning
    prefix = open_prefix(run.fit, root, run.train_pictures, run.normalise, run.spec)
    at.counted_s += time.perf_counter() - began if prefix is not None else 0.0
    return prefix


def _validate(run: Built) -> float:
    """The score on the holdout with the present weights: what a constraint may choose by."""
    if run.held is None:
        raise MethodError("a part asked for validation without asking for held-out images")
    return scored(run, run.held)
