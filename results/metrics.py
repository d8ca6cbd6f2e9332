"""Metrics from stored predictions, and records whose stored metrics are not those any more.

A metric that turns out wrong is mended here; `recompute` then finds every record that differs, and nothing is trained
again. Needs numpy, as predictions are numpy files; nothing else in this package does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from . import store
from .schema import Artifact, RecordError, RunResult

ECE_BINS = 15  # Guo et al., ICML 2017
Array = np.ndarray[Any, Any]


def metrics(pred: Array, label: Array, confidence: Array, nll: Array, prefix: str) -> dict[str, float | None]:
    """`<prefix>.top1`, `.class_mean` (of the classes present), `.nll`, `.ece`, `.n`, `.se` and `.majority`."""
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
    return {f"{prefix}.{name}": value for name, value in values.items()}


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


def recompute(root: Path, write: bool = False) -> Iterator[Difference]:
    """Every stored metric that its predictions contradict; `write` stores the new values in the record.

    Raises RecordError for predictions that are missing or unreadable, naming the file.
    """
    for path in store.record_files(root):
        record = store.load(path)
        found: dict[str, float | None] = {}
        for artifact in record.artifacts:
            prefix = _prefix(record, artifact)
            if prefix:
                if Path(artifact.path).name != artifact.path:
                    raise RecordError(f"{path.parent.name}/{path.name}: artifact {artifact.path!r} lies elsewhere")
                found |= _from_file(path.with_name(artifact.path), prefix)
        changed = {k: v for k, v in found.items() if not _same(record.metrics.get(k), v)}
        for metric, now in changed.items():
            yield Difference(f"{path.parent.name}/{path.name}", metric, record.metrics.get(metric), now)
        if changed and write:
            store.save(replace(record, metrics=record.metrics | changed), root)


def _prefix(record: RunResult, artifact: Artifact) -> str:
    """What the metrics of a file of predictions are called: its split; "" for other artifacts."""
    kind, _, further = artifact.kind.partition(":")
    if kind != "predictions":
        return ""
    split = {"tune": "val", "final": "test", "peek": "peek"}[record.spec.phase]
    return f"{split}:{further}" if further else split


def _from_file(path: Path, prefix: str) -> dict[str, float | None]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return metrics(held["pred"], held["label"], held["confidence"], held["nll"], prefix)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        where = f"{path.parent.name}/{path.name}"
        raise RecordError(f"{where}: predictions cannot be read ({type(error).__name__})") from None


def _same(stored: float | None, now: float | None) -> bool:
    if stored is None or now is None:
        return stored is now
    return isclose(stored, now, rel_tol=1e-9, abs_tol=1e-12)
