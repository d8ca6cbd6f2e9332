"""Stored predictions: which test items a run got right, paired with other runs on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from results import evidence
from results.columns import Columns
from results.evidence import CONTRADICTED, UNPROVEN
from results.suites import Column, Row

from . import stats
from .answered import Answered
from .cells import Grid, RowKey

Bools = NDArray[np.bool_]
RESAMPLES = 1000
PLAIN = "alone"
RANKED = 200  # rows of one protocol; more would need gigabytes of resamples


class PredictionError(ValueError):
    """Stored predictions cannot be used; the message names the file."""


@dataclass(frozen=True)
class Scored:
    items: str  # hash of the test items and their labels
    correct: Bools  # (n,)


@dataclass(frozen=True)
class Against:
    """One row compared with the reference row, on the data sets where both have predictions of the same items."""

    better: int
    worse: int
    undecided: int
    difference: float
    interval: stats.Interval
    deltas: dict[str, tuple[float, float]]  # column -> (difference, Holm-adjusted p)


@dataclass
class Predictions:
    """Loads each file once; what cannot be used is kept in `problems`, by sentence."""

    records: Columns
    answered: Answered | None = None
    problems: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[int, str], Scored | None] = field(default_factory=dict)

    def of(self, run: int, split: str = "test") -> Scored | None:
        key = (run, split)
        if key not in self._known:
            try:
                self._known[key] = self._load(run, split)
            except PredictionError as error:
                self.problems[f"predictions: {error}"] = None
                self._known[key] = None
        return self._known[key]

    def _load(self, run: int, split: str) -> Scored | None:
        kind = "artifact.predictions" if split == "test" else f"artifact.predictions:{split.partition(':')[2]}"
        name = self.records.get_text(kind, run)
        if not name:
            return None
        record = PurePosixPath(self.records.get_text("path", run))
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise PredictionError(f"{record}: field 'artifacts' leaves the folder of the record ({name})")
        for kind in (CONTRADICTED, UNPROVEN):
            if why := self.records.get_text(f"{kind}.{split}", run):
                raise PredictionError(why)
        where = f"{record.parent}/{name}"
        if self.answered is None:
            return load_scored(self.records.root / where, where)
        return Scored(*self.answered.of(where, lambda: _answer(load_scored(self.records.root / where, where))))

    def matrix(self, runs: Sequence[int], split: str) -> tuple[str, Bools] | None:
        """(items, correct (n, runs)) when every run has predictions of the same items."""
        found = [self.of(run, split) for run in runs]
        scored = [f for f in found if f is not None]
        if not scored or len(scored) != len(found) or len({s.items for s in scored}) != 1:
            return None
        return scored[0].items, np.stack([s.correct for s in scored], axis=1)


def split(method: str) -> tuple[str, str]:
    """`lora(rank=4)+pace` -> ("lora(rank=4)", "pace"); plus signs inside brackets or quotes separate nothing."""
    depth, quote = 0, ""
    for i, sign in enumerate(method):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == "+" and depth == 0:
            return method[:i], method[i + 1:]
    return method, PLAIN


def load_scored(path: Path, where: str) -> Scored:
    """Read one predictions file: arrays `pred` and `label`, and `items`, the hash of the items' order."""
    try:
        held = evidence.arrays(evidence.read_file(path), ("pred", "label"), may=("items",))
    except evidence.PredictionError as error:
        raise PredictionError(f"{where}: {error}") from None
    pred, label, items = held["pred"], held["label"], str(held.get("items", ""))
    if pred.shape != label.shape or pred.ndim != 1 or len(pred) < 2:
        raise PredictionError(f"{where}: 'pred' {pred.shape} and 'label' {label.shape} are no pair of lists")
    digest = sha256(items.encode() + b"|" + np.ascontiguousarray(label, dtype="<i8").tobytes()).hexdigest()
    return Scored(digest, pred == label)


def _answer(scored: Scored) -> tuple[str, Bools]:
    return scored.items, scored.correct


def against(grid: Grid, predictions: Predictions, row: Row, reference: Row,
            columns: Sequence[Column]) -> Against | None:
    """Compare a row with the reference row: Holm's correction over the data sets, then the mean difference."""
    names, p_values, gaps, sides = [], [], [], []
    for column in columns:
        mine, other = grid.cell(row, column), grid.cell(reference, column)
        a, b = predictions.matrix(mine.runs, column.split), predictions.matrix(other.runs, column.split)
        if a is None or b is None or a[0] != b[0]:
            continue
        names.append(column.name)
        p_values.append(stats.paired_p(a[1], b[1]))
        gaps.append(float(a[1].mean() - b[1].mean()))
        sides.append((a[1], b[1]))
    if not names:
        return None
    adjusted = stats.holm(p_values)
    sure = [p <= 1 - stats.LEVEL for p in adjusted]
    better = sum(s and g > 0 for s, g in zip(sure, gaps, strict=True))
    worse = sum(s and g < 0 for s, g in zip(sure, gaps, strict=True))
    mean = sum(gaps) / len(gaps)
    half = stats.z_value() * math.sqrt(stats.difference_variance(sides))
    return Against(better, worse, len(gaps) - better - worse, mean, stats.Interval(mean - half, mean + half),
                   {n: (g, p) for n, g, p in zip(names, gaps, adjusted, strict=True)})


@dataclass(frozen=True)
class Ranked:
    """Ranks of the complete rows that share a protocol."""

    rows: tuple[RowKey, ...]
    ranking: stats.Ranking
    draws: stats.Array  # (resamples, rows): what ranks and effects rest on


def rank(grid: Grid, predictions: Predictions, rows: Sequence[Row], columns: Sequence[Column],
         resamples: int = RESAMPLES) -> list[Ranked]:
    """Rank complete rows by their mean over all columns, one ranking per protocol; rows alone are not ranked."""
    peers: dict[str, list[Row]] = {}
    for row in rows:
        if grid.complete(row, columns):
            peers.setdefault(grid.protocol(row, columns), []).append(row)
    found = []
    for group in peers.values():
        if len(group) > RANKED:
            predictions.problems[f"no ranks: {len(group)} complete rows, at most {RANKED} are ranked"] = None
            continue
        sets = answers_of(grid, predictions, group, columns)
        if sets is not None and len(group) > 1:
            weights = [1 / len(sets)] * len(sets)
            means = [sum(grid.cell(r, c).mean for c in columns) / len(columns) for r in group]
            draws = stats.resample(sets, weights, len(group), resamples)
            found.append(Ranked(tuple((r.method, r.backbone) for r in group), stats.ranking(means, draws), draws))
    return found


def answers_of(grid: Grid, predictions: Predictions, rows: Sequence[Row],
               columns: Sequence[Column]) -> list[stats.Answers] | None:
    sets = []
    for column in columns:
        runs = [(m, run) for m, row in enumerate(rows) for run in grid.cell(row, column).runs]
        found = predictions.matrix([run for _, run in runs], column.split)
        if found is None:
            return None
        sets.append(stats.Answers(column.name, found[0], found[1], tuple(m for m, _ in runs)))
    return sets
