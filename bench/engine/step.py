"""What happens in a step: the method gives gradients, the optimizer moves the weights, the method has the last word.

Nothing in it asks a tensor for its number (`course` reads them once in a while): the next step can be launched while
the device works at this one. The first step of a run is also measured: how much its backward pass keeps, and what
stands in memory after it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict

from torch import nn

from methods.base import Batch
from methods.triplet import Triplet

from . import meter
from .build import Built
from .course import Course
from .optim import learning_rate, set_rate


def take(run: Built, course: Course, batch: Batch, first: bool) -> None:
    """One step on a batch. Whether its loss is finite shows when the course is read."""
    fit, spec, method, optimizer = run.fit, run.spec, run.method, run.optimizer
    if isinstance(fit.task, Triplet):
        fit.task.stand(fit.step, fit.steps_per_epoch)
    set_rate(optimizer, learning_rate(spec, fit.step, fit.steps_per_epoch))
    optimizer.zero_grad(set_to_none=True)
    if not first:
        run.compiling.before(batch)

    with _counting(fit.model, first) as backward:
        terms = {name: term.detach() for name, term in method.grads(fit, batch).items()}  # forward, losses, backward
    if first:
        run.first_look.after_backward(fit)
    answers = terms["logits"]
    course.note(fit.step, terms["loss"], len(batch.y), fit.task.right(answers, batch.y), len(answers))

    if spec.clip:
        course.grad_norm = nn.utils.clip_grad_norm_(fit.trainable.values(), spec.clip)
    optimizer.step()
    with _counting(fit.model, first) as after:  # a constraint may run passes of its own
        method.after_step(fit)

    if first:
        saved = max(backward.peak, after.peak)
        course.memory = asdict(meter.ledger(fit.model, optimizer, saved, len(batch.y)))


def _counting(model: nn.Module, wanted: bool) -> AbstractContextManager[meter.SavedBytes]:
    """What autograd keeps inside the block, where that is wanted."""
    return meter.saved_bytes(meter.fixed_tensors(model)) if wanted else nullcontext(meter.SavedBytes())
