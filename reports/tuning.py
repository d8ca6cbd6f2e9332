"""Settings and their honesty: what tuning could spend and chose, and what peeking at test would have gained.

Tuning reads `results/selections` (what `bench tune` tried, what `bench select` chose); peeking reads records of phase
`peek`, which no accuracy table accepts.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from results.columns import Columns
from results.peeking import inflation
from results.selections import (
    Choice,
    Selection,
    Study,
    Trials,
    budget_curve,
    load_selection,
    load_trials,
    unequal,
)

from . import fields, plots
from .cells import RowKey
from .pictures import label_of
from .table import Field, Table
from .tables import World, key_of, name_header, names, title_of


@dataclass(frozen=True)
class Tuned:
    """What is known of a suite's tuning; both None when there was none."""

    selection: Selection | None = None
    trials: Trials | None = None


def load(suite: str, folder: Path) -> Tuned:
    """The suite `demo-tuned` holds the final runs of what was chosen for `demo`."""
    name = suite.removesuffix("-tuned")
    return Tuned(load_selection(name, folder), load_trials(name, folder))


def tables(world: World, tuned: Tuned) -> list[Table]:
    """At most two: how the rows were tuned, and what peeking would have gained."""
    return [table for table in (_tuning(world, tuned.selection), _peeking(world)) if table is not None]


def _tuning(world: World, selection: Selection | None) -> Table | None:
    """One line per row that rests on selections: budget, rule, ties, and how far val was from test."""
    if selection is None or not world.grid.suite.name.endswith("-tuned"):
        return None
    body, every = [], []
    for row in world.rows:
        choices = list(_choices(world, selection, key_of(row)))
        if not choices:
            continue
        every += choices
        scores = [c.chosen.score for c in choices]
        val = fmean(s for s in scores if s is not None) if scores and None not in scores else None
        complete = world.grid.complete(row, world.columns)
        test = fmean(world.grid.cell(row, c).mean for c in world.columns) if complete else None
        gap = None if val is None or test is None else val - test
        ties = fmean(len(c.ties) for c in choices)
        efforts = sorted({c.effort.text(len(c.candidates)) for c in choices})
        body.append((*names(world, row), Field("; ".join(efforts)), Field(", ".join(sorted({c.rule for c in choices}))),
                     Field(f"{ties:.1f}", ties), _share(val), _share(test),
                     Field("–") if gap is None else Field(fields.points(gap), 100 * gap)))
    if not body:
        return None
    header = (*name_header(world), "Budget", "Rule", "Tied settings", "Val of the chosen", "Test", "Val − test")
    words = ("tied settings: within one standard error of the best on val, mean over data sets",
             "val of the chosen setting is the best of several and therefore optimistic")
    first = len(name_header(world)) + 2
    problem = unequal(every)
    return Table(f"{world.key}-tuning", title_of(world, "Tuning"), "Top-1 in percent; settings chosen on val alone.",
                 header, tuple(body), words, (problem,) if problem else (), frozenset(range(first, first + 4)))


def _choices(world: World, selection: Selection, row: RowKey) -> Iterator[Choice]:
    """Each choice once, also where one setting was chosen for several data sets together."""
    seen = set()
    for column in world.columns:
        choice = selection.of(*row, column.run_dataset or column.name)
        if choice is not None and choice.key not in seen:
            seen.add(choice.key)
            yield choice


def _share(value: float | None) -> Field:
    return Field("–") if value is None else Field(fields.percent(value), 100 * value)


def _peeking(world: World) -> Table | None:
    """Best epoch on test against the last epoch, for the rows of this suite."""
    found = inflation(_peeks(world))
    if not found:
        return None
    title = {c.run_dataset or c.name: c.title for c in world.columns}
    body = tuple((Field(f.method, code=True), Field(f.backbone, code=True), Field(f"{f.runs}", f.runs),
                  Field(f"{f.datasets}", f.datasets), _share(f.last), _share(f.best),
                  Field(fields.points(f.gain), 100 * f.gain),
                  Field(f"{title.get(f.worst, f.worst)} ({fields.points(f.worst_gain)})")) for f in found)
    words = ("best epoch: the one that is best on test, known only by looking at test; no leaderboard accepts it",)
    header = ("Method", "Backbone", "Runs", "Data sets", "Last epoch", "Best epoch", "Gain", "Most on")
    return Table(f"{world.key}-peeking", title_of(world, "What peeking at test would have gained"),
                 "Top-1 in percent, gains in points; records of phase peek.",
                 header, body, words,
                 (), frozenset(range(2, 7)))


def _peeks(world: World) -> Columns:
    """Records of phase peek of this suite's rows and data sets, of the world's kind of data."""
    records = world.grid.records
    names_ = {key_of(row) for row in world.rows}
    sets = {c.run_dataset or c.name for c in world.columns}
    rows = [i for i, phase in enumerate(records.text.get("phase", []))
            if phase == "peek" and records.get_text("spec.dataset", i) in sets
            and (records.get_text("method.text", i), records.get_text("spec.model", i)) in names_
            and records.get_text("spec.data", i).startswith("standin:") == world.standin]
    return Columns(records.root, {k: array("d", [c[i] for i in rows]) for k, c in records.number.items()},
                   {k: [c[i] for i in rows] for k, c in records.text.items()}, [records.stamp[i] for i in rows])


def curve(world: World, trials: Trials | None) -> plots.Plot | None:
    """Expected val accuracy of the best of k configurations, mean over the studies of each row."""
    if trials is None:
        return None
    records, lines = world.grid.records, []
    by_run = {run_id: row for row, run_id in enumerate(records.text.get("run_id", []))}
    wanted = {c.run_dataset or c.name for c in world.columns}
    for row in world.rows[:plots.ROWS]:
        own = [s for s in trials.studies if (s.method, s.backbone) == key_of(row) and wanted & set(s.datasets)]
        scores = [_scores(records, by_run, study) for study in own]
        curves = [[100 * point.val for point in budget_curve(found)] for found in scores if len(found) > 1]
        if curves:
            size = min(map(len, curves))
            lines.append(plots.Line(label_of(world, row), tuple(float(k + 1) for k in range(size)),
                                    tuple(fmean(c[k] for c in curves) for k in range(size))))
    if not lines:
        return None
    return plots.curves("budget", "Validation accuracy against tuning budget",
                        "Expected best of k configurations drawn from those that were tried.", lines,
                        "configurations tried", "best val top-1, %")


def _scores(records: Columns, by_run: dict[str, int], study: Study) -> list[float]:
    """Mean val accuracy of each trial whose runs all have one."""
    return [value for trial in study.trials if (value := _mean(records, by_run, trial.runs)) is not None]


def _mean(records: Columns, by_run: dict[str, int], runs: Sequence[str]) -> float | None:
    found = [records.get_number("metrics.val.top1", by_run[r]) if r in by_run else None for r in runs]
    known = [v for v in found if v is not None]
    return fmean(known) if known and len(known) == len(found) else None
