"""Metrics from stored predictions, and records whose stored metrics are not those any more.

A metric that turns out wrong is mended here; `recompute` then finds every record that differs, and nothing is trained
again. Needs numpy, as predictions are numpy files; nothing else in this package does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from . import evidence, scores, store
from .schema import RecordError, RunResult, to_json

ECE_BINS = 15  # Guo et al., ICML 2017
ARRAYS = ("pred", "label", "confidence", "nll")
Array = np.ndarray[Any, Any]


def metrics(pred: Array, label: Array, confidence: Array, nll: Array, prefix: str,
            f1: bool = False, metric: str = "top1") -> dict[str, float | None]:
    """`<prefix>.top1`, `.class_mean` (of the classes present), `.nll`, `.ece`, `.n`, `.se` and `.majority`.

    `f1`: also `.macro_f1`, the mean over the classes present of 2 hits / (answered + present), as scikit-learn has it
    with `labels` set to those classes. `metric`: the card's; one that is a score of its own (`scores`) is told too.
    """
    right = pred == label
    n = len(right)
    top1 = float(right.mean())
    counts = np.bincount(label)
    hits = np.bincount(label, weights=right, minlength=len(counts))
    present = counts > 0
    mean_nll = float(nll.astype(np.float64).mean())
    values: dict[str, float | None] = {
        "top1": top1,
        "class_mean": float((hits[present] / counts[present]).mean()),
        "nll": mean_nll if np.isfinite(mean_nll) else None,
        "ece": _calibration_error(confidence, right) if np.isfinite(confidence).all() else None,
        "n": float(n),
        "se": (top1 * (1 - top1) / n) ** 0.5,
        "majority": float(counts.max() / n),  # what the best constant answer scores
    }
    if f1:
        answered = np.bincount(pred, minlength=len(counts))[:len(counts)]
        values["macro_f1"] = float((2 * hits[present] / (answered + counts)[present]).mean())
    if scores.scored(metric):
        values |= scores.values(metric, pred, label)
    return {f"{prefix}.{name}": value for name, value in values.items()}


def measured(pred: Array, label: Array, prefix: str, metric: str) -> dict[str, float | None]:
    """Of numbers in the place of classes: the metric's parts, `.score`, `.score_se`, `.mse` and `.n`."""
    found: dict[str, float | None] = {"n": float(len(pred)),
                                      "mse": float(((pred.astype(np.float64) - label) ** 2).mean())}
    return {f"{prefix}.{name}": value for name, value in (found | scores.values(metric, pred, label)).items()}


def matched(pred: Array, label: Array, prefix: str) -> dict[str, float | None]:
    """Of ranks in the place of classes: the six recalls, `.score` (their mean), `.score_se`, and `.n` captions."""
    found: dict[str, float | None] = {"n": float(len(pred))}
    return {f"{prefix}.{name}": value for name, value in (found | scores.values("rmean", pred, label)).items()}


def _calibration_error(confidence: Array, right: Array) -> float:
    """Expected calibration error over equal-width bins of confidence."""
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(float(confidence[bins == b].mean()) - float(right[bins == b].mean())) * float((bins == b).sum())
            for b in range(ECE_BINS) if (bins == b).any()]
    return sum(gaps) / len(right)


@dataclass(frozen=True)
class Difference:
    """A metric that is stored otherwise than the predictions have it."""

    record: str  # its file, below the root
    metric: str
    stored: float | None
    now: float | None


def recompute(root: Path, write: bool = False,
              on_problem: Callable[[RecordError], None] | None = None) -> Iterator[Difference]:
    """Every stored metric that its predictions contradict; `write` stores the new values in the record.

    A file of predictions counts when it has the hash that its record names: another file says nothing of the record.
    Records and predictions that are missing, unreadable or others raise RecordError, or go to `on_problem`. A folder
    of suites (results/reference) is read suite by suite.
    """
    for path in records_below(root):
        try:
            record = store.load(path)
        except RecordError as error:
            _tell(error, on_problem)
            continue
        where, found = path.relative_to(root).as_posix(), dict[str, "float | None"]()
        for artifact in record.artifacts:
            prefix = evidence.split_of(artifact.kind, record.spec.phase)
            if prefix:
                try:
                    content = evidence.stored(path.parent, artifact.path, artifact.sha256)
                    found |= of_file(evidence.arrays(content, ARRAYS[:2], (*ARRAYS[2:], "task")), prefix, record)
                except evidence.PredictionError as error:
                    _tell(RecordError(f"{where}: the file of predictions {artifact.path} {error}"), on_problem)
        for split in evidence.unstored(record.spec.phase, record.metrics, [a.kind for a in record.artifacts]):
            _tell(RecordError(f"{where}: no predictions are stored for metrics.{split}.top1, which is not judged"),
                  on_problem)
        changed = {k: v for k, v in found.items() if not _same(record.metrics.get(k), v)}
        for metric, now in changed.items():
            yield Difference(where, metric, record.metrics.get(metric), now)
        if changed and write and not path.is_file():
            _tell(RecordError(f"{where}: lies in a pack, which is never edited; make its runs again, then pack them"),
                  on_problem)
        elif changed and write:
            store.write_text(path, to_json(replace(record, metrics=record.metrics | changed)))


def of_file(held: dict[str, Array], prefix: str, record: RunResult) -> dict[str, float | None]:
    """Every metric of one file of predictions. Raises PredictionError where it lacks an array."""
    metric = record.dataset.metric if record.dataset else "top1"
    if why := evidence.unlike(held, metric):
        raise evidence.PredictionError(f"is no evidence: {why}")
    if str(held.get("task", "")) == "match":
        return matched(held["pred"], held["label"], prefix)
    if "task" in held:
        return measured(held["pred"], held["label"], prefix, metric)
    if any(name not in held for name in ARRAYS):
        raise evidence.PredictionError("cannot be read (KeyError)")
    return metrics(held["pred"], held["label"], held["confidence"], held["nll"], prefix,
                   f1=f"{prefix}.macro_f1" in record.metrics, metric=metric)


def records_below(root: Path) -> list[Path]:
    """Every record of a folder of records, or of every suite in a folder of suites."""
    suites = sorted(path.parent for path in root.glob("*/suite.json"))
    return [path for folder in suites or [root] for path in store.record_files(folder)]


def _tell(error: RecordError, on_problem: Callable[[RecordError], None] | None) -> None:
    if on_problem is None:
        raise error
    on_problem(error)


def _same(stored: float | None, now: float | None) -> bool:
    if stored is None or now is None:
        return stored is now
    return isclose(stored, now, rel_tol=1e-9, abs_tol=1e-12)
