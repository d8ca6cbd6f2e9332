"""Stored predictions: which test items a run got right, paired with other runs on the same items."""

from __future__ import annotations

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
from .means import item_error
from .spread import Answers, Spread, chance_of, spread_of

Bools = NDArray[np.bool_]
PLAIN = "alone"
RANKED = 200  # rows of one protocol; more would be 20 000 pairs


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
    of_runs: bool  # somewhere no row has two seeds: the comparison is of these runs
    deltas: dict[str, tuple[float, float]]  # column -> (difference, Holm-adjusted p)


@dataclass
class Predictions:
    """Loads each file once; what cannot be used is kept in `problems`, by sentence."""

    records: Columns
    answered: Answered | None = None
    problems: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[int, str], Scored | None] = field(default_factory=dict)
    _why: dict[tuple[int, str], str] = field(default_factory=dict)  # said wherever the run is asked for
    _labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # by the hash of the items

    def of(self, run: int, split: str = "test") -> Scored | None:
        key = (run, split)
        if key not in self._known:
            try:
                self._known[key] = self._load(run, split)
            except PredictionError as error:
                self._why[key] = f"predictions: {error}"
                self._known[key] = None
        if key in self._why:
            self.problems[self._why[key]] = None
        return self._known[key]

    def _where(self, run: int, split: str) -> str:
        """The predictions of a run, relative to the records' root; empty where none are stored."""
        kind = "artifact.predictions" if split == "test" else f"artifact.predictions:{split.partition(':')[2]}"
        name = self.records.get_text(kind, run)
        record = PurePosixPath(self.records.get_text("path", run))
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise PredictionError(f"{record}: field 'artifacts' leaves the folder of the record ({name})")
        return f"{record.parent}/{name}" if name else ""

    def _load(self, run: int, split: str) -> Scored | None:
        where = self._where(run, split)
        if not where:
            return None
        for kind in (CONTRADICTED, UNPROVEN):
            if why := self.records.get_text(f"{kind}.{split}", run):
                raise PredictionError(why)
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

    def parts(self, runs: Sequence[int], column: Column) -> list[tuple[str, Bools, float]] | None:
        """[(items, correct (n, runs), weight)] whose weighted means are the runs' numbers in this column.

        One part for accuracy; for a mean over classes one for each class that the test set has.
        """
        found = self.matrix(runs, column.split)
        if found is None or column.metric != "class_mean":
            return None if found is None else [(*found, 1.0)]
        items, correct = found
        label = self._label(items, runs[0], column.split)
        classes = np.unique(label)
        return [(f"{items} of {c}", correct[label == c], 1 / len(classes)) for c in classes]

    def _label(self, items: str, run: int, split: str) -> NDArray[np.int64]:
        if items not in self._labels:
            self._labels[items] = labels(self.records.root / self._where(run, split))
        return self._labels[items]

    def luck(self, runs: Sequence[int], column: Column) -> tuple[float | None, float | None]:
        """What the items' chance makes of the variance over seeds of these runs' number; and, for a mean over classes,
        its standard error over new items of each class. None when unknown.
        """
        said = dict(self.problems)
        found = self.parts(runs, column)
        self.problems = said  # of a comparison that fails, not of this
        if found is None:
            return None, None
        chances = [(chance_of(correct), weight) for _, correct, weight in found]
        known = [weight**2 * chance for chance, weight in chances if chance is not None]
        if column.metric != "class_mean":
            return (known[0] if known else None), None
        errors = [weight * item_error(tuple(map(float, correct.mean(0))), len(correct), chance)
                  for (_, correct, weight), (chance, _) in zip(found, chances, strict=True)]
        return (sum(known) if known else None), sum(e**2 for e in errors) ** 0.5


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
    if pred.shape != label.shape or pred.ndim != 1 or not len(pred):
        raise PredictionError(f"{where}: 'pred' {pred.shape} and 'label' {label.shape} are no pair of lists")
    digest = sha256(items.encode() + b"|" + np.ascontiguousarray(label, dtype="<i8").tobytes()).hexdigest()
    return Scored(digest, pred == label)


def labels(path: Path) -> NDArray[np.int64]:
    """(n,) classes of the test items of one predictions file."""
    return np.asarray(evidence.arrays(evidence.read_file(path), ("label",))["label"], np.int64)


def _answer(scored: Scored) -> tuple[str, Bools]:
    return scored.items, scored.correct


def against(grid: Grid, predictions: Predictions, rows: Sequence[Row], reference: Row,
            columns: Sequence[Column]) -> dict[RowKey, Against]:
    """Compare rows with the reference row: Holm's correction over a row's data sets, then the mean difference.

    Rows with predictions of the same items lend each other what they know of the spread over seeds.
    """
    tests: dict[RowKey, dict[Column, tuple[float, float]]] = {(r.method, r.backbone): {} for r in rows}
    for column in columns:
        base = predictions.matrix(grid.cell(reference, column).runs, column.split)
        if base is None:
            continue
        same = [r for r in rows if (found := predictions.matrix(grid.cell(r, column).runs, column.split))
                and found[0] == base[0]]
        for row, test in zip(same, _tests(grid, predictions, [reference, *same], column), strict=True):
            tests[row.method, row.backbone][column] = test
    wanted = {tuple(own) for own in tests.values() if own}
    means = {own: _means(grid, predictions, reference,
                         [r for r in rows if set(own) <= tests[r.method, r.backbone].keys()], own) for own in wanted}
    compared = {}
    for key, own in tests.items():
        if own:
            names, (gaps, p_values) = [c.name for c in own], zip(*own.values(), strict=True)
            adjusted = stats.holm(p_values)
            sure = [p <= 1 - stats.LEVEL for p in adjusted]
            better = sum(s and g > 0 for s, g in zip(sure, gaps, strict=True))
            worse = sum(s and g < 0 for s, g in zip(sure, gaps, strict=True))
            mean, of_runs = means[tuple(own)][key]
            compared[key] = Against(better, worse, len(gaps) - better - worse, mean.value, mean.interval, of_runs,
                                 {n: (g, p) for n, g, p in zip(names, gaps, adjusted, strict=True)})
    return compared


def _tests(grid: Grid, predictions: Predictions, rows: Sequence[Row], column: Column) -> list[tuple[float, float]]:
    """(difference, p) of every row but the first with the first; one run each: exact."""
    sets = answers_of(grid, predictions, rows, [column])
    if sets is None or len(rows) == 1:
        return []
    spread = spread_of(sets, [s.weight for s in sets], len(rows))
    contrasts = np.eye(len(rows))[1:] - np.eye(len(rows))[0]
    runs = [np.flatnonzero(np.array(sets[0].owner) == k) for k in range(len(rows))]
    found = []
    for k, (gap, p) in enumerate(zip(contrasts @ spread.mean, spread.p_of(contrasts), strict=True), 1):
        if spread.luck.alone and column.metric == "top1":  # every row has one run
            p = stats.mcnemar(sets[0].correct[:, runs[k][0]], sets[0].correct[:, runs[0][0]])
        found.append((float(gap), float(p)))
    return found


def _means(grid: Grid, predictions: Predictions, reference: Row, rows: Sequence[Row],
           columns: Sequence[Column]) -> dict[RowKey, tuple[stats.Effect, bool]]:
    """Mean difference of every row from the reference, and whether it is of these runs alone."""
    sets = answers_of(grid, predictions, [reference, *rows], columns)
    if sets is None:
        return {}
    spread = spread_of(sets, [s.weight for s in sets], 1 + len(rows))
    found = stats.effects(spread, np.eye(1 + len(rows))[1:] - np.eye(1 + len(rows))[0])
    return {(r.method, r.backbone): (effect, spread.luck.alone) for r, effect in zip(rows, found, strict=True)}


@dataclass(frozen=True)
class Ranked:
    """Ranks of the complete rows that share a protocol."""

    rows: tuple[RowKey, ...]
    ranking: stats.Ranking
    spread: Spread  # what ranks and effects rest on


def rank(grid: Grid, predictions: Predictions, rows: Sequence[Row], columns: Sequence[Column]) -> list[Ranked]:
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
            spread = spread_of(sets, [s.weight for s in sets], len(group))
            found.append(Ranked(tuple((r.method, r.backbone) for r in group), stats.ranking(spread), spread))
    return found


def answers_of(grid: Grid, predictions: Predictions, rows: Sequence[Row],
               columns: Sequence[Column]) -> list[Answers] | None:
    """Every answer of some rows, weighted as in the mean over the columns; None where predictions are missing or of
    other items."""
    sets = []
    for column in columns:
        runs = [(m, run) for m, row in enumerate(rows) for run in grid.cell(row, column).runs]
        found = predictions.parts([run for _, run in runs], column)
        if found is None:
            return None
        sets += [Answers(column.name, items, correct, tuple(m for m, _ in runs), column.run_dataset or column.name,
                         weight / len(columns)) for items, correct, weight in found]
    return sets
