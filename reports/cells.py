"""Runs become cells: one method on one data set, over the seeds the suite wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from results.columns import Columns
from results.evidence import CONTRADICTED, UNPROVEN
from results.suites import Column, Entry, Row, SuiteView

from . import means, rules, stats
from .apart import PARTIAL, apart, identities

RowKey = tuple[str, str]  # method, backbone


@dataclass(frozen=True)
class Cell:
    """What is known of one method on one data set. Shares lie in [0, 1]."""

    state: str  # "ok" or a key of rules.MARKS
    runs: tuple[int, ...] = ()  # rows of the records that gave a number
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()  # per seed
    wanted: int = 0  # seeds that the suite wants
    items: int | None = None  # test items
    interval: stats.Interval | None = None
    chance: float | None = None  # best constant answer that is known
    signs: tuple[str, ...] = ()  # keys of rules.SIGNS
    notes: tuple[tuple[str, str], ...] = ()  # (state, why) of runs without a number, or whose number nothing supports
    error: float | None = None  # standard error over items of a score that is no share of right answers
    metric: str = "top1"  # of its column
    luck: float | None = None  # what chance of the items makes of the variance over seeds; None without predictions

    @cached_property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @cached_property
    def std(self) -> float | None:
        return spread_of(self.values) if len(self.values) > 1 else None

    @property
    def complete(self) -> bool:
        return self.state == "ok" and len(self.values) == self.wanted


@dataclass(frozen=True)
class Grid:
    """A suite's cells. `worlds` keep stand-in and real columns apart: they never share a table."""

    suite: SuiteView
    records: Columns
    cells: dict[tuple[RowKey, str], Cell]
    identities: Sequence[str]  # of every record's data
    _means: dict[tuple[str, tuple[tuple[str, float], ...]], dict[RowKey, stats.Interval | None]] = field(
        default_factory=dict, compare=False, repr=False)

    def cell(self, row: Row, column: Column) -> Cell:
        return self.cells[(row.method, row.backbone), column.name]

    def worlds(self) -> list[tuple[bool, tuple[Column, ...]]]:
        """[(stand-in?, columns)], stand-ins first, empty ones left out."""
        split = [(kind, tuple(c for c in self.suite.columns if c.standin == kind)) for kind in (True, False)]
        return [(kind, columns) for kind, columns in split if columns]

    def rows(self, columns: Iterable[Column]) -> list[Row]:
        """Rows that want at least one run of these columns."""
        wanted = list(columns)
        return [r for r in self.suite.rows if any(self.cell(r, c).wanted or self.cell(r, c).state == "refused"
                                                  for c in wanted)]

    def complete(self, row: Row, columns: Iterable[Column]) -> bool:
        return all(self.cell(row, c).complete for c in columns)

    def runs(self, row: Row, columns: Iterable[Column]) -> list[int]:
        return [run for c in columns for run in self.cell(row, c).runs]

    def interval(self, row: Row, weights: Mapping[str, float]) -> stats.Interval | None:
        """Of the weighted mean over columns (by name), where every cell has a number.

        Known together with all rows of the backbone that have these cells too.
        """
        key = (row.backbone, tuple(weights.items()))
        columns = [c for c in self.suite.columns if c.name in weights]
        if not all(c.answered for c in columns):
            return _scored(self, row, columns, weights)
        if key not in self._means:
            rows = [r for r in self.suite.rows if r.backbone == row.backbone
                    and all(self.cell(r, c).values for c in columns)]
            parts = [[_part(self.cell(r, c), c, weights[c.name]) for c in columns] for r in rows]
            self._means[key] = {(r.method, r.backbone): found for r, found in
                                zip(rows, means.intervals(parts) if parts else [], strict=True)}
        return self._means[key].get((row.method, row.backbone))

    def protocol(self, row: Row, columns: Iterable[Column]) -> str:
        """What the row's runs have in common with rows they may be ranked with: protocol and data of every column."""
        ids = [sorted({f"{self.records.get_text('protocol_id', run)} {self.identities[run]}"
                       for run in self.cell(row, c).runs}) for c in columns]
        return "|".join(",".join(part) for part in ids)

    def alike(self, row: Row, other: Row, columns: Iterable[Column]) -> bool | None:
        """Whether two rows have one protocol wherever both have runs; None when they have no data set in common."""
        both = [c for c in columns if self.cell(row, c).runs and self.cell(other, c).runs]
        return self.protocol(row, both) == self.protocol(other, both) if both else None


def _scored(found: Grid, row: Row, columns: Sequence[Column], weights: Mapping[str, float]) -> stats.Interval | None:
    """The interval of a mean with scores in it: z sqrt(sum w^2 (error^2 + variance over seeds / their number)).

    A column of accuracies has its items' variance; columns are taken for independent.
    """
    cells = [found.cell(row, c) for c in columns]
    if any(not cell.values for cell in cells):
        return None
    mean = variance = 0.0
    for cell, column in zip(cells, columns, strict=True):
        weight = weights[column.name]
        own = cell.error ** 2 if cell.error is not None else stats.item_variance(cell.mean, cell.items or 1)
        mean += weight * cell.mean
        variance += weight ** 2 * (own + (cell.std or 0.0) ** 2 / len(cell.values))
    half = stats.z_value() * math.sqrt(variance)
    return stats.Interval(mean - half, mean + half)


def _part(cell: Cell, column: Column, weight: float) -> means.Part:
    known = column.metric == "top1" or cell.error is not None  # a mean over classes needs their sizes
    return means.Part(cell.values, cell.items if known else None, cell.luck, weight,
                      column.run_dataset or column.name, column.family or column.name, cell.error)


Luck = Callable[[Sequence[int], Column], tuple[float | None, float | None]]


def grid(suite: SuiteView, records: Columns, by_run: Mapping[str, int], luck: Luck | None = None) -> Grid:
    """Every cell of a suite, also those that no run fills; runs on other data or weights in rows of their own.

    `luck` knows from the predictions of runs what the items' chance makes of the variance over seeds, and for a mean
    over classes its standard error over items; without it intervals err to the wide side, those of means over classes
    are unknown.
    """
    names = identities(records)
    suite = apart(suite, records, by_run, names)
    wanted: dict[tuple[RowKey, str], list[Entry]] = {}
    for entry in suite.entries:
        wanted.setdefault(((entry.method, entry.backbone), entry.dataset), []).append(entry)
    good = _good(records)
    cells: dict[tuple[RowKey, str], Cell] = {}
    lenses = {kind: _lens(records, *kind) for kind in {(c.split, rules.number_of(c)) for c in suite.columns}}
    for column in suite.columns:
        lens = replace(lenses[column.split, rules.number_of(column)], column=column, good=good[column.standin])
        for row in suite.rows:
            key = (row.method, row.backbone)
            entries = wanted.get((key, column.run_dataset or column.name), [])
            cell = _cell(row, lens, entries, by_run)
            if luck is not None and cell.runs and column.answered and (len(cell.runs) > 1 or column.metric != "top1"):
                chance, error = luck(cell.runs, column)
                cell = replace(cell, luck=chance, error=error)
            cells[key, column.name] = cell
    found = Grid(suite, records, cells, names)
    return replace(found, cells={(row, name): _bounded(found, cell, row, name) for (row, name), cell in cells.items()})


def _bounded(found: Grid, cell: Cell, row: RowKey, name: str) -> Cell:
    """A cell with its interval, and the sign of one that reaches a constant answer."""
    if not cell.values or cell.items is None:
        return cell
    interval = found.interval(Row(*row, "", "", None), {name: 1.0})
    idle = interval is not None and cell.chance is not None and interval.low <= cell.chance
    signs = tuple(s for s in rules.SIGNS if s in cell.signs or (s == "chance" and idle))
    return replace(cell, interval=interval, signs=signs)


@dataclass(frozen=True)
class _Lens:
    """What cells of one test split read of every record, looked up once; then pointed at a column."""

    records: Columns
    top1: Sequence[float]  # or the mean over classes, or the score
    error: Sequence[float]  # of the score
    items: Sequence[float]
    majority: Sequence[float]
    chance: Sequence[float]
    classes: Sequence[float]
    sources: Sequence[str]
    dirty: Sequence[float]
    unproven: Sequence[str]
    data: Sequence[str]
    column: Column | None = None
    good: Sequence[bool] = ()


def _lens(records: Columns, split: str, name: str) -> _Lens:
    nothing = [math.nan] * len(records)

    def numbers(name: str) -> Sequence[float]:
        return records.number.get(name, nothing)

    items = numbers(f"metrics.{split}.n")
    if split == "test":  # records say the size of the test split twice; either will do
        items = [a if a == a else b for a, b in zip(items, numbers("dataset.test"), strict=True)]
    scores = numbers(f"metrics.{split}.{name}")
    contradicted, unproven = (records.text.get(f"{kind}.{split}", []) for kind in (CONTRADICTED, UNPROVEN))
    if contradicted:  # a score that its own predictions contradict is none
        scores = [math.nan if why else v for v, why in zip(scores, contradicted, strict=True)]
    errors = numbers(f"metrics.{split}.score_se") if name == "score" else nothing
    return _Lens(records, scores, errors, items, numbers(f"metrics.{split}.majority"),
                 numbers(f"metrics.{split}.chance"), numbers("dataset.classes"),
                 records.text.get("method.source_hash", [""] * len(records)), numbers("provenance.dirty"),
                 unproven or [""] * len(records), records.text.get("spec.data", [""] * len(records)))


def _good(records: Columns) -> dict[bool, list[bool]]:
    """By kind of column: which records may fill its cells, as rules.state would say."""
    text = records.text
    if not len(records):
        return {True: [], False: []}
    final = [s == "ok" and p == "final" for s, p in zip(text["status"], text["phase"], strict=True)]
    standin = [d.startswith("standin:") for d in text["spec.data"]]
    return {kind: [f and s == kind for f, s in zip(final, standin, strict=True)] for kind in (True, False)}


def _cell(row: Row, lens: _Lens, entries: list[Entry], by_run: Mapping[str, int]) -> Cell:
    good: list[tuple[int, int]] = []
    bad: list[tuple[str, str]] = []
    for entry in entries:
        run = by_run.get(entry.run_id)
        if run is not None and lens.good[run] and lens.top1[run] == lens.top1[run]:
            good.append((entry.seed, run))
        elif entry.refused:
            bad.append(("refused", entry.refused))
        elif lens.column is not None:
            bad.append(rules.state(lens.records, run, lens.column))
    if not good:
        found = {state for state, _ in bad}
        state = next((s for s in rules.ORDER if s in found), "missing")
        return Cell(state, wanted=sum(not e.refused for e in entries), notes=tuple(bad))
    good.sort()
    runs = tuple(run for _, run in good)
    values = tuple(lens.top1[run] for run in runs)
    items = {lens.items[run] for run in runs}
    first = items.pop()
    n = int(first) if not items and first == first else None
    level = _chance(lens, runs[0])
    errors = [lens.error[run] for run in runs if lens.error[run] == lens.error[run]]
    signs = [name for name, holds in (
        ("stale", row.source_hash is not None and any(lens.sources[run] != row.source_hash for run in runs)),
        ("dirty", any(lens.dirty[run] == 1 for run in runs)),
        ("unproven", any(lens.unproven[run] for run in runs)),
        ("broken", any(lens.data[run].startswith(PARTIAL) for run in runs))) if holds]
    bad += [("unproven", lens.unproven[run]) for run in runs if lens.unproven[run]]
    return Cell("ok", runs, tuple(seed for seed, _ in good), values, len(entries), n, None, level,
                tuple(signs), tuple(bad), error=math.fsum(errors) / len(errors) if errors else None,
                metric=lens.column.metric if lens.column else "top1")


def spread_of(values: Sequence[float]) -> float:
    """Standard deviation of a sample."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _chance(lens: _Lens, run: int) -> float | None:
    """The better of guessing and of the most frequent class, as far as the record knows; 0 of correlations, recalls."""
    if lens.column is not None and not lens.column.answered:
        return None if lens.column.metric == "f1_acc" else 0.0  # equal embeddings find nothing, as ties count against
    classes = lens.classes[run]
    if classes != classes:
        classes = (lens.column.classes if lens.column else None) or 0
    if lens.column is not None and lens.column.metric == "class_mean":  # one class all right, the others all wrong
        return 1 / classes if classes else None
    known = [v for v in (lens.majority[run], lens.chance[run], 1 / classes if classes else math.nan) if v == v]
    return max(known) if known else None
