"""After an epoch: a look at what the phase may see along the way. Leaves no trace but the best weights it keeps."""

from __future__ import annotations

import torch

from methods.base import Regularizer
from methods.compose import Method
from methods.grammar import MethodError
from results import scores

from .build import Built
from .course import Course, set_train_mode
from .evaluate import predict
from .holdout import stratified
from .loaders import Batches, TuneData
from .pictures import Pictures
from .putback import random_state, restore_random, weights_of

LOOKS = 20  # at most so many looks at a split along the way, evenly spread, the last epoch always among them


def look(run: Built, at: Course, data: TuneData) -> dict[str, float | None]:
    """`val.top1` or `peek.top1`, and what the parts probe, where the phase and the spec want them after this epoch.

    `.score` in the place of `.top1` where the data set has a score of its own.
    """
    spec = run.spec
    if (spec.epochs - at.epoch - 1) % max(1, spec.epochs // LOOKS):
        return {}
    probed = _probe(run, data.val)
    if not (spec.phase == "peek" or spec.select == "val"):
        return probed
    images = data.test() if spec.phase == "peek" else data.val
    if images is None:
        raise MethodError("select='val' keeps the best epoch on val; only phase 'tune' has a validation split")
    streams = random_state()
    found = scored(run, images)
    set_train_mode(run.fit)
    restore_random(streams)
    if spec.select == "val" and found > at.best:
        at.best, at.best_epoch = found, at.epoch + 1
        at.best_weights = {n: t.clone() for n, t in weights_of(run.fit.model).items()}
    name = "score" if scores.scored(run.card.metric) else "top1"
    return {f"peek.{name}" if spec.phase == "peek" else f"val.{name}": found} | probed


def scored(run: Built, images: Pictures) -> float:
    """The share of images that the present weights class rightly, or the data set's own score."""
    found = predict(run.method, run.judged(), run.splits.of(images))
    if scores.scored(run.card.metric):
        return scores.score(run.card.metric, found.pred, found.label)
    return float((found.pred == found.label).mean())


def probes(method: Method) -> bool:
    """Whether a regularizer measures anything on a validation batch."""
    return any(type(one).probe is not Regularizer.probe for one in method.regularizers)


def _probe(run: Built, images: Pictures | None) -> dict[str, float | None]:
    """What the parts measure on a fixed, class-balanced validation batch of the training size; leaves no trace."""
    if images is None or not probes(run.method):
        return {}
    rows = stratified(images.labels, min(1.0, run.spec.batch_size / len(images)), seed=0)
    streams = random_state()
    run.fit.model.eval()
    found = run.method.probe(run.fit, Batches(images, run.normalise, len(rows), 0).batch(torch.tensor(rows), 0))
    set_train_mode(run.fit)
    restore_random(streams)
    return {f"probe.{k}": v for k, v in found.items()}
