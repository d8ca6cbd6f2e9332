"""What was tried on validation, and what a named rule chose: settings, ties, budget, and the specs of the final runs.

    results/selections/<suite>.trials.json    what `tune` tried: studies and their trials
    results/selections/<suite>.json           what `select` chose, and by which rule

A study looks for one setting of one method, on one data set or on several together. Its trials name records of phase
`tune` by their ids. Selections are read by `bench` (which makes the final runs of them) and by `reports`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import door
from .ladder import SUFFIX
from .parsing import parse
from .schema import RecordError, RunSpec, Scalar, _build, joins, written
from .spoken import many
from .store import ROOT, write_text

SELECTION_SCHEMA = 1
FOLDER = ROOT / "selections"
Key = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Effort:
    """What tuning could spend on one study; compared methods must have had the same."""

    budget: int  # configurations allowed
    sampler: str  # grid, random, tpe
    folds: int  # 0: one split into train and val
    seeds: tuple[int, ...]  # of the runs of one configuration
    prune: str = "none"  # "halving": the worse half is set aside after a quarter of the epochs, and again after half

    def text(self, tried: int | None = None) -> str:
        """`8 configurations by tpe on val`; `8 allowed, 6 tried` where they differ."""
        some = many(self.budget, "configuration") if tried in (None, self.budget) else (
            f"{many(self.budget, 'configuration')} allowed, {tried} tried,")
        more = f" of {many(self.folds, 'fold')}" if self.folds else ""
        seeds = f", {many(len(self.seeds), 'seed')}" if len(self.seeds) > 1 else ""
        return f"{some} by {self.sampler} on val{more}{seeds}" + (
            f", pruned by {self.prune}" if self.prune != "none" else "")


@dataclass(frozen=True)
class Cost:
    """Epochs of a pruned study, over data sets, seeds and folds. A run that could not go on from its checkpoint has
    trained its first epochs twice; that is not counted."""

    epochs: int
    whole: int  # had every configuration been trained to its end

    def text(self) -> str:
        return f"{self.epochs} of {many(self.whole, 'epoch')}"


@dataclass(frozen=True)
class Trial:
    """One configuration: what was set, and its runs (data sets x seeds x folds)."""

    number: int  # in the order of trying
    config: dict[str, Scalar]  # "lr", "lora.rank", ...
    runs: tuple[str, ...]  # the longest of each
    epochs: int = 0  # trained over all its runs when it was set aside; 0: it went to its end


@dataclass(frozen=True)
class Study:
    method: str  # the row: text before tuning
    backbone: str
    datasets: tuple[str, ...]
    effort: Effort
    space: dict[str, str]  # what was searched, in words
    trials: tuple[Trial, ...]
    epochs: int = 0  # of one configuration to its end, over all its runs; written where something was set aside

    @property
    def key(self) -> Key:
        return self.method, self.backbone, self.datasets

    @property
    def cost(self) -> Cost | None:
        """What a pruned study has trained, None for others."""
        whole = len(self.trials) * self.epochs
        return Cost(sum(t.epochs or self.epochs for t in self.trials), whole) if self.epochs else None


@dataclass(frozen=True)
class Trials:
    """What `tune` tried in a suite."""

    suite: str
    studies: tuple[Study, ...]
    schema: int = SELECTION_SCHEMA


@dataclass(frozen=True)
class Candidate:
    """A trial with its score on val; `score` is None when a run of it did not end well."""

    number: int
    config: dict[str, Scalar]
    score: float | None
    se: float | None  # standard error of the score
    trained: int | None  # weights it trains
    status: str = "ok"


@dataclass(frozen=True)
class Choice:
    """What a rule chose in one study."""

    method: str
    backbone: str
    datasets: tuple[str, ...]
    effort: Effort
    rule: str
    winner: int  # number of the trial
    ties: tuple[int, ...]  # trials within one standard error of the best, the winner among them
    candidates: tuple[Candidate, ...]
    finals: tuple[RunSpec, ...]  # one per data set: phase final, the first seed
    cost: Cost | None = None  # of a pruned study

    @property
    def key(self) -> Key:
        return self.method, self.backbone, self.datasets

    @property
    def chosen(self) -> Candidate:
        return next(c for c in self.candidates if c.number == self.winner)


@dataclass(frozen=True)
class Selection:
    """What `select` chose in a suite."""

    suite: str
    choices: tuple[Choice, ...]
    schema: int = SELECTION_SCHEMA

    def of(self, method: str, backbone: str, dataset: str) -> Choice | None:
        """The choice that a cell of the table rests on."""
        return next((c for c in self.choices if (c.method, c.backbone) == (method, backbone)
                     and dataset in {*c.datasets, *(f.dataset for f in c.finals)}), None)


def unequal(choices: Iterable[Choice]) -> str:
    """A sentence when compared methods had unequal budgets, or nothing. Pruned studies are held to their epochs too."""
    found = list(choices)
    spent: dict[tuple[str, ...], set[int]] = {}
    for choice in found:
        spent.setdefault(choice.datasets, set()).add(choice.cost.epochs if choice.cost else 0)
    differ = any(len(epochs) > 1 for epochs in spent.values())
    rows: dict[str, set[str]] = {}
    for choice in found:
        told = f", {choice.cost.text()}" if differ and choice.cost else ""
        rows.setdefault(choice.effort.text() + told, set()).add(choice.method)
    if len(rows) < 2:
        return ""
    return "the budgets differ: " + "; ".join(f"{', '.join(sorted(m))}: {effort}" for effort, m in rows.items())


# What came later is left out of a file while it holds what was so before it: files of earlier studies keep their bytes.
for _part, _first in ((Effort, {"prune": "none"}), (Trial, {"epochs": 0}), (Study, {"epochs": 0}),
                      (Choice, {"cost": None})):
    joins(_part, _first)


# The budget curve: what tuning with fewer trials would have chosen.

def chances(ranks: int, trials: int) -> list[float]:
    """(ranks,): chance that the candidate at each place (best first) is the best of so many drawn without return."""
    if not 1 <= trials <= ranks:
        raise ValueError(f"{trials} trials out of {ranks}")
    every = math.comb(ranks, trials)
    return [math.comb(ranks - 1 - place, trials - 1) / every for place in range(ranks)]


@dataclass(frozen=True)
class Point:
    """Expected scores when so many configurations had been tried and the best on val kept."""

    trials: int
    val: float  # of the one kept: optimistic, it is the best of several
    test: float | None  # of the one kept
    peeked: float | None  # of the best on test: what choosing by test would have shown


def budget_curve(val: Sequence[float], test: Sequence[float] | None = None) -> list[Point]:
    """One point per number of trials, from the scores of all that were tried; equal scores keep their order."""
    order = sorted(range(len(val)), key=lambda i: (-val[i], i))
    by_test = sorted(test, reverse=True) if test is not None else None
    points = []
    for n in range(1, len(val) + 1):
        weights = chances(len(val), n)
        points.append(Point(n, sum(w * val[i] for w, i in zip(weights, order, strict=True)),
                            None if test is None else sum(w * test[i] for w, i in zip(weights, order, strict=True)),
                            None if by_test is None else sum(w * t for w, t in zip(weights, by_test, strict=True))))
    return points


# On disk.


def trials_path(suite: str, folder: Path | None = None) -> Path:
    return (folder or FOLDER) / f"{suite}.trials.json"


def selection_path(suite: str, folder: Path | None = None) -> Path:
    return (folder or FOLDER) / f"{suite}.json"


def save_trials(found: Trials, folder: Path | None = None) -> Path:
    return _save(found, trials_path(found.suite, folder))


def save_selection(found: Selection, folder: Path | None = None) -> Path:
    return _save(found, selection_path(found.suite, folder))


def load_trials(suite: str, folder: Path | None = None) -> Trials | None:
    """None when nothing was tuned; raises RecordError naming the file and the field."""
    found: Trials | None = _load(Trials, trials_path(suite, folder))
    return found


def load_selection(suite: str, folder: Path | None = None) -> Selection | None:
    """None when nothing was selected; raises RecordError naming the file and the field."""
    found: Selection | None = _load(Selection, selection_path(suite, folder))
    return found


def tuned_suite(suite: str) -> str:
    """The suite whose tuning `demo-tuned` and `demo-ladder` rest on: `demo`."""
    return suite.removesuffix("-tuned").removesuffix(SUFFIX)


def publish(suite: str, folder: Path, out: Path) -> tuple[str, ...]:
    """Copy what was tried and chosen for a suite, `-tuned` and `-ladder` among them, into the folder where it is
    published, beside its records; returns the runs of its trials. Raises RecordError where nothing was tried."""
    name = tuned_suite(suite)
    tried = load_trials(name, folder)
    if tried is None:
        raise RecordError(f"{trials_path(name, folder).name}: is missing; nothing was tuned for suite {name!r}")
    save_trials(tried, out)
    if (chosen := load_selection(name, folder)) is not None:
        save_selection(chosen, out)
    return tuple(dict.fromkeys(run for study in tried.studies for trial in study.trials for run in trial.runs))


def _save(found: Any, path: Path) -> Path:
    write_text(path, json.dumps(written(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _load(kind: type, path: Path) -> Any:
    if not path.exists():
        return None
    where = f"selections/{path.name}"
    try:
        body = parse(door.read_text(path))
    except (OSError, ValueError) as error:
        raise RecordError(f"{where}: cannot be read ({type(error).__name__})") from None
    given = body.get("schema") if isinstance(body, dict) else None
    if given != SELECTION_SCHEMA:
        raise RecordError(f"{where}: field 'schema' is {given!r}, this program reads {SELECTION_SCHEMA}")
    return _build(kind, body, where, "")
