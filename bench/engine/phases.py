"""What each phase scores after training: its own split, then the further test sets of phase `final`, each read once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import registry
from datasets.images import split_hash
from datasets.shift import masks

from .build import Built
from .course import Course
from .evaluate import Predictions, adapts, metrics_of, predict, predict_among
from .loaders import TuneData

# What was peeked at has its own name, so that nothing takes it for a result.
OWN = {"tune": "val", "final": "test", "peek": "peek"}
PLAIN = "noadapt"  # a split scored once more without test-time adaptation


@dataclass
class Scores:
    """What scoring has found, by the names of the splits; the data set's own split comes first."""

    predictions: dict[str, Predictions] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)  # of the split's items, in order
    images_per_s: float | None = None  # of the own split


def score(run: Built, course: Course, data: TuneData) -> Scores:
    """The split that the phase is about, and what the curve of training adds."""
    spec, scores = run.spec, Scores()
    split = OWN[spec.phase]
    images = data.val if spec.phase == "tune" else data.test()
    assert images is not None
    started = time.perf_counter()
    batches = run.splits.of(images)
    scores.predictions[split] = predict(run.method, run.judged(), batches, probabilities=members(run))
    seconds = time.perf_counter() - started
    scores.images_per_s = len(images) / seconds if seconds > 0 else None
    scores.hashes[split] = split_hash(images.items, run.where.data_root)
    if adapts(run.method):  # the same weights on the same images as they are
        plain = f"{split}:{PLAIN}"
        scores.predictions[plain] = predict(run.method, run.fit, batches, adapt=False)
        scores.hashes[plain] = scores.hashes[split]
    for name, predictions in scores.predictions.items():
        scores.metrics |= metrics_of(predictions, name, f1=run.card.group == "own")
    if course.history:
        scores.metrics["train.top1"] = course.history[-1]["train.top1"]  # of the last epoch, as it went
    if spec.phase == "peek":
        scores.metrics |= _peeked(course)
    if spec.select == "val":
        scores.metrics["val.best.epoch"] = float(course.best_epoch)
    return scores


def members(run: Built) -> bool:
    """Whether the run keeps what an ensemble is chosen from: a whole trial of a search that was told to, with few
    enough classes."""
    return run.spec.phase == "tune" and not run.spec.until and run.where.keeps_members(run.card.classes)


def _peeked(course: Course) -> dict[str, float | None]:
    """The best of all looks at test, and how many there were."""
    looks = [(h["peek.top1"] or 0.0, -(h["epoch"] or 0.0)) for h in course.history if "peek.top1" in h]
    best, epoch = max(looks)  # the first epoch of equals
    return {"peek.best.top1": best, "peek.best.epoch": -epoch, "peek.looks": float(len(looks))}


def score_further(run: Built, data: TuneData, scores: Scores) -> None:
    """The further test sets of phase `final`: each read once, with the same weights.

    A set that holds some of the classes alone is scored twice: among all classes, and as `<name>@<mask>` among those
    that it holds. The two are different benchmarks.
    """
    if run.spec.phase != "final":
        return
    for card in map(registry.get, run.spec.also_test):
        images = data.further(card)
        ways: dict[str, Sequence[int] | None] = {card.name: None}
        if "mask" in card.facts:
            ways[f"{card.name}@{card.facts['mask']}"] = masks()[card.facts["mask"]]
        scored = predict_among(run.method, run.judged(), run.splits.of(images), tuple(ways.values()))
        for name, predictions in zip(ways, scored, strict=True):
            scores.predictions[f"test:{name}"] = predictions
            scores.metrics |= metrics_of(predictions, f"test:{name}")
            scores.hashes[f"test:{name}"] = split_hash(images.items, run.where.data_root)
