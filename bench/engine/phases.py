"""What each phase scores after training: its own split, then the further test sets of phase `final`, each read once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import registry
from datasets.card import Card
from datasets.images import split_hash
from datasets.shift import masks
from results.evidence import FOLDED, PLAIN

from .build import Built
from .course import Course
from .evaluate import Found, adapts, metrics_of, predict, predict_row
from .loaders import TuneData
from .matching import ranked

# What was peeked at has its own name, so that nothing takes it for a result.
OWN = {"tune": "val", "final": "test", "peek": "peek"}


@dataclass
class Scores:
    """What scoring has found, by the names of the splits; the data set's own split comes first."""

    predictions: dict[str, Found] = field(default_factory=dict)
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
    if run.card.folds > 1 and split != "val":
        both = ranked(run.judged(), batches, run.card.folds)
        scores.predictions |= {split: both[0], f"{split}:{FOLDED}": both[1]}
    else:
        scores.predictions[split] = predict(run.method, run.judged(), batches, probabilities=members(run))
    seconds = time.perf_counter() - started
    scores.images_per_s = len(images) / seconds if seconds > 0 else None
    scores.hashes |= dict.fromkeys(scores.predictions, split_hash(images.items, run.where.data_root))
    if adapts(run.method):  # the same weights on the same images as they are
        plain = f"{split}:{PLAIN}"
        scores.predictions[plain] = predict(run.method, run.fit, batches, adapt=False)
        scores.hashes[plain] = scores.hashes[split]
    for name, predictions in scores.predictions.items():
        scores.metrics |= metrics_of(predictions, name, f1=run.card.group == "own", metric=run.card.metric)
    if course.history and "train.top1" in course.history[-1]:
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
    name = next(n for n in ("top1", "score") if any(f"peek.{n}" in h for h in course.history))
    looks = [(h[f"peek.{name}"] or 0.0, -(h["epoch"] or 0.0)) for h in course.history if f"peek.{name}" in h]
    best, epoch = max(looks)  # the first epoch of equals
    return {f"peek.best.{name}": best, "peek.best.epoch": -epoch, "peek.looks": float(len(looks))}


def score_further(run: Built, data: TuneData, scores: Scores) -> None:
    """The further test sets of phase `final`: each read once, with the same weights.

    A set that holds some of the classes alone is scored twice: among all classes, and as `<name>@<mask>` among those
    that it holds. The two are different benchmarks.
    """
    if run.spec.phase != "final":
        return
    for cards in passes(run.spec.also_test, in_one=run.device.type == "cuda" and not adapts(run.method)):
        opened = [data.further(card) for card in cards]
        ways = [_ways(card) for card in cards]
        row = run.splits.of(opened[0]) if len(opened) == 1 else run.splits.in_row(opened)
        found = predict_row(run.method, run.judged(), row,
                            [(len(images), tuple(way.values())) for images, way in zip(opened, ways, strict=True)])
        for images, way, scored in zip(opened, ways, found, strict=True):
            for name, predictions in zip(way, scored, strict=True):
                scores.predictions[f"test:{name}"] = predictions
                scores.metrics |= metrics_of(predictions, f"test:{name}")
                scores.hashes[f"test:{name}"] = split_hash(images.items, run.where.data_root)


def passes(names: Sequence[str], in_one: bool) -> list[list[Card]]:
    """The sets that go through the model together: each alone, or all in one row. On a GPU a row saves launches; on a
    CPU it would save nothing, and batches that reach over a seam order float sums in another way."""
    cards = [registry.get(name) for name in names]
    return [cards] if in_one and cards else [[card] for card in cards]


def _ways(card: Card) -> dict[str, Sequence[int] | None]:
    """Name -> the classes that may be answered."""
    plain: dict[str, Sequence[int] | None] = {card.name: None}
    return plain | ({f"{card.name}@{card.facts['mask']}": masks()[card.facts["mask"]]} if "mask" in card.facts else {})
