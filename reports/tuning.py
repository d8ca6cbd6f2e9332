"""Settings and their honesty: what tuning could spend and chose, and what peeking at test would have gained.

Tuning reads `results/selections` (what `bench tune` tried, what `bench select` chose); peeking reads records of phase
`peek`, which no accuracy table accepts.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from results import packs
from results.columns import Columns
from results.peeking import inflation
from results.selections import (
    Choice,
    Point,
    Selection,
    Study,
    Trials,
    budget_curve,
    load_selection,
    load_trials,
    tuned_suite,
    unequal,
)
from results.strict import short_hash
from results.suites import Row

from . import fields, rules
from .cells import RowKey
from .table import Field, Table, legend_of
from .world import World, key_of, name_header, names, title_of


@dataclass(frozen=True)
class Tuned:
    """What is known of a suite's tuning; both None when there was none."""

    selection: Selection | None = None
    trials: Trials | None = None


def load(suite: str, folder: Path) -> Tuned:
    """The suite `demo-tuned` holds the final runs of what was chosen for `demo`, `demo-ladder` every step to them."""
    name = tuned_suite(suite)
    return Tuned(load_selection(name, folder), load_trials(name, folder))


def tables(world: World, tuned: Tuned) -> list[Table]:
    """At most three: how the rows were tuned, what fewer trials would have found, what peeking would have gained."""
    found = (_tuning(world, tuned.selection), _budget(world, tuned.trials), _peeking(world))
    return [table for table in found if table is not None]


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
        test = _on_the_same(world, row, choices) if complete else None
        gap = None if val is None or test is None else val - test
        aside = any(c.score is None for choice in choices if choice.cost is not None for c in choice.candidates)
        ties = None if aside else fmean(len(c.ties) for c in choices)
        efforts = sorted({c.effort.text(len(c.candidates)) for c in choices})
        body.append((*names(world, row), Field("; ".join(efforts)), Field(", ".join(sorted({c.rule for c in choices}))),
                     Field("–") if ties is None else Field(f"{ties:.1f}", ties), _share(val), _share(test),
                     Field("–") if gap is None else Field(fields.points(gap), 100 * gap)))
    if not body:
        return None
    header = (*name_header(world), "Budget", "Rule", "Tied settings", "Val of the chosen", "Test there", "Val − test")
    words = ("tied settings: within one standard error of the best on val, mean over data sets; –: some were "
             "set aside before the end", "test there: mean of the data sets that were searched",
             "val of the chosen setting is the best of several and therefore optimistic")
    first = len(name_header(world)) + 2
    problem = unequal(every)
    return Table(f"{world.key}-tuning", title_of(world, "Tuning"), "Top-1 in percent; settings chosen on val alone.",
                 header, tuple(body), words, (problem,) if problem else (), frozenset(range(first, first + 4)))


def _on_the_same(world: World, row: Row, choices: Sequence[Choice]) -> float | None:
    """The mean of test over the data sets on which each choice was made, as val is; None where one is no column."""
    columns = {c.name: c for c in world.columns}
    if any(name not in columns for choice in choices for name in choice.datasets):
        return None
    return fmean(fmean(world.grid.cell(row, columns[name]).mean for name in choice.datasets) for choice in choices)


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


# The budget curve: what tuning with fewer configurations would have found, replayed from records.

Scores = tuple[list[float], list[float] | None, float]  # val and test of the configurations, validation images


def studies_of(world: World, trials: Trials | None) -> dict[RowKey, list[Scores]]:
    """Row -> (val of each configuration, test of each or None, validation images) of each of its studies; studies that
    tried two configurations or more, and trained all of them to their ends."""
    found: dict[RowKey, list[Scores]] = {}
    wanted = {c.run_dataset or c.name for c in world.columns}
    for row in world.rows:
        studies = [s for s in (trials.studies if trials else ())
                   if (s.method, s.backbone) == key_of(row) and wanted & set(s.datasets) and not s.cost]
        scored = [scores for s in studies if len((scores := _scores(world, s, wanted))[0]) > 1]
        if scored:
            found[key_of(row)] = scored
    return found


def replay(world: World, trials: Trials | None) -> dict[RowKey, list[Point]]:
    """Row -> expected scores of the best of k configurations, mean over its studies; rows with two or more only."""
    found = {}
    for key, studies in studies_of(world, trials).items():
        replayed = [budget_curve(val, test) for val, test, _ in studies]
        found[key] = [_mean_point([c[k] for c in replayed]) for k in range(min(map(len, replayed)))]
    return found


def _mean_point(points: Sequence[Point]) -> Point:
    tests, peeks = [p.test for p in points], [p.peeked for p in points]
    return Point(points[0].trials, fmean(p.val for p in points), _fmean(tests), _fmean(peeks))


def _fmean(values: Sequence[float | None]) -> float | None:
    """None when one is not known."""
    known = [v for v in values if v is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _scores(world: World, study: Study, wanted: set[str]) -> Scores:
    """(val of each trial whose runs all have one, test of each or None when one has not been tested, images of val)."""
    val: list[float] = []
    test: list[float | None] = []
    images = 1.0
    for trial in study.trials:
        runs = [world.by_run.get(r) for r in trial.runs]
        own = [r for r in runs if r is not None and world.grid.records.get_text("spec.dataset", r) in wanted]
        mean = _fmean([world.grid.records.get_number("metrics.val.top1", r) for r in own])
        if mean is not None and None not in runs:
            val.append(mean)
            test.append(_tested(world, own))
            images = max(images, _images(world, own))
    return val, None if None in test else [t for t in test if t is not None], images


def _images(world: World, runs: Sequence[int]) -> float:
    """Different validation images that these runs were scored on: folds look at others each, seeds at the same."""
    seen: dict[tuple[str, float | None], float] = {}
    for run in runs:
        place = world.grid.records.get_text("spec.dataset", run), world.grid.records.get_number("spec.seed", run)
        seen[place] = seen.get(place, 0.0) + (world.grid.records.get_number("metrics.val.n", run) or 0.0)
    sets: dict[str, float] = {}
    for (dataset, _), count in seen.items():
        sets[dataset] = max(sets.get(dataset, 0.0), count)
    return sum(sets.values())


def _tested(world: World, runs: Sequence[int]) -> float | None:
    """Mean top-1 of the peeks that have the settings of these trial runs (`bench curve --score` makes them)."""
    records = world.grid.records
    if "metrics.peek.top1" not in records.number:
        return None
    ids = dict.fromkeys(_peek_of(records.root / records.get_text("path", run)) for run in runs)
    found = [world.by_run.get(name) for name in ids]
    return _fmean([None if r is None else records.get_number("metrics.peek.top1", r) for r in found])


@cache
def _peek_of(path: Path) -> str:
    """The run_id of the same settings in phase peek, tested after the last epoch."""
    spec = json.loads(packs.read(path))["spec"]
    return short_hash(spec | {"phase": "peek", "fold": "", "select": "last"})


def _budget(world: World, trials: Trials | None) -> Table | None:
    """After 1, 2, 4, ... and all configurations: val of the best, test of it, and what the best on test would show."""
    found = replay(world, trials)
    body = []
    for row in world.rows:
        points = found.get(key_of(row), [])
        shown = [p for p in points if p.trials & (p.trials - 1) == 0 or p is points[-1]]
        body += [(*names(world, row), Field(f"{p.trials}", p.trials), _share(p.val), _share(p.test), _share(p.peeked))
                 for p in shown]
    if not body:
        return None
    words = ("expected over the order of trying: the best on val of so many configurations drawn from those that were "
             "tried, mean over data sets",
             "best on test: what choosing by test would have shown; no leaderboard accepts it",
             *(("–: not every configuration has been tested; `python -m bench curve --score` does it",)
               if any(line[-1].value is None for line in body) else ()), *legend_of(body, rules.LEGEND))
    start = len(name_header(world))
    return Table(f"{world.key}-budget", title_of(world, "Accuracy against tuning budget"), "Top-1 in percent.",
                 (*name_header(world), "Configurations tried", "Val of the best", "Test of it", "Best on test"),
                 tuple(body), words, (), frozenset(range(start, start + 4)))
