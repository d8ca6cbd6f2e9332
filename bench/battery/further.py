"""The checks of a regularizer or constraint on adapters that it goes with: a step, training, evaluation, going on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch

from methods.grammar import MethodError, parse
from methods.vit import head_names

from ..engine.putback import random_state, restore_random, restore_weights, weights_of
from .subject import CLASSES, batch, lent, optimizer_of, take
from .verdicts import Wrong

HOSTS = ("lora", "full", "adapter_pfeiffer", "vpt_deep", "lp_ft", "linear")


def hosts(text: str) -> list[str]:
    """The whole methods that it is tried in, two at most. Raises MethodError when it goes with none of them."""
    found, why = [], MethodError(f"{text!r} goes with none of {', '.join(HOSTS)}")
    for host in HOSTS:
        try:
            parse(f"{host}+{text}")
            found.append(f"{host}+{text}")
        except MethodError as error:
            why = error
    if not found:
        raise why
    return found[:2]


def checks(text: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each check by its name, for each adapter that it is tried on."""
    for whole in hosts(text):
        for check in (step, training, evaluation, going_on):
            yield (f"{check.__name__.replace('_', ' ')}, {whole.partition('+')[0]}",
                   lambda check=check, whole=whole: check(whole))  # type: ignore[misc]


def step(whole: str) -> str:
    """One batch: loss and logits are there, gradients on what trains, weights as they were."""
    method, fit = lent(whole)
    fit.model.train()
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    terms = method.grads(fit, batch())
    if not isinstance(terms, dict) or "loss" not in terms or "logits" not in terms:
        given = ", ".join(map(repr, terms)) if isinstance(terms, dict) else type(terms).__name__
        raise Wrong(f"loss gave {given}: return {{**terms, 'loss': ...}}, with 'loss' and 'logits' among them")
    if terms["loss"].ndim or terms["logits"].shape != (len(batch().y), CLASSES):
        raise Wrong(f"'loss' has the shape {tuple(terms['loss'].shape)} and 'logits' {tuple(terms['logits'].shape)}; "
                    f"write a single number and (B, C), here (6, {CLASSES})")
    if not bool(terms["loss"].isfinite()):
        raise Wrong("the loss of the first step is not finite")
    moved = [n for n, p in fit.model.named_parameters() if not torch.equal(p.detach(), before[n])]
    if moved:
        raise Wrong(f"the gradient's computation left {moved[0]!r} changed; put the weights back before grads returns")
    lost = [n for n, p in fit.trainable.items() if p.numel() and p.grad is None]
    if lost:
        raise Wrong(f"{lost[0]!r} and {len(lost) - 1} more got no gradient; call base(fit, batch) and add to its loss")
    odd = [n for n, p in fit.model.named_parameters() if n not in fit.trainable and p.grad is not None]
    if odd:
        raise Wrong(f"the frozen weight {odd[0]!r} got a gradient; use fit.trainable alone")
    return f"all {len(fit.trainable)} trained tensors have a gradient, nothing else changed"


def training(whole: str) -> str:
    """Four steps and the end; what is frozen stays."""
    method, fit = lent(whole)
    fixed = {n: p.detach().clone() for n, p in fit.model.named_parameters() if n not in fit.trainable}
    optimizer = optimizer_of(fit)
    for _ in range(4):
        take(method, fit, optimizer)
    method.finish(fit, lambda: 0.5)
    bad = [n for n, p in fit.trainable.items() if not bool(p.isfinite().all())]
    if bad:
        raise Wrong(f"after four steps {bad[0]!r} is not finite")
    moved = [n for n, p in fit.model.named_parameters() if n in fixed and not torch.equal(p.detach(), fixed[n])]
    if moved:
        raise Wrong(f"the frozen weight {moved[0]!r} changed; write into fit.trainable alone")
    for part in method.parts:
        odd = [k for k, v in part.report().items() if not isinstance(v, int | float)]
        if odd:
            raise Wrong(f"report gives {odd[0]!r} as something that is no number; write float(...)")
    return "four steps and the end; finite, and what is frozen stays"


def evaluation(whole: str) -> str:
    """Predictions of the right shape that leave the weights as they were."""
    method, fit = lent(whole)
    fit.model.eval()
    before = weights_of(fit.model)
    before = {n: t.clone() for n, t in before.items()}
    with torch.no_grad():
        method.start_split(fit)
        given = method.predict(fit, batch().x)
    if tuple(given.shape) != (len(batch().y), CLASSES) or not bool(given.isfinite().all()):
        raise Wrong(f"predict gives {tuple(given.shape)}; write (B, C) finite logits, here (6, {CLASSES})")
    if not head_names(fit.model):
        raise Wrong("the model has lost its head")
    return "predictions are finite and of the right shape"


def going_on(whole: str) -> str:
    """Two steps, a checkpoint, one more step: the same numbers as three steps without a stop."""
    method, fit = lent(whole)
    optimizer = optimizer_of(fit)
    for _ in range(2):
        take(method, fit, optimizer)
    kept = copy.deepcopy((weights_of(fit.model), optimizer.state_dict(), method.state()))
    step_, streams = fit.step, random_state()
    take(method, fit, optimizer)
    other, again = lent(whole)
    further = optimizer_of(again)
    restore_weights(again.model, kept[0])
    further.load_state_dict(kept[1])
    other.restore(kept[2])
    again.step = step_
    restore_random(streams)
    take(other, again, further)
    wrong = [n for n, p in fit.trainable.items() if not torch.equal(p, again.trainable[n])]
    if wrong:
        raise Wrong(f"what goes on from a checkpoint differs, first in {wrong[0]!r}: what attach makes and a "
                    "step changes must be in state(), and restore() must take it back")
    return "a run that goes on from a checkpoint gives the same weights"
