"""Two sets of records, cell by cell: differences with intervals, what only one side has, regressions first.

A cell is one data set, method, backbone and protocol over its seeds. Cells are paired by everything but the seed;
failing that, with the only one of the same data set, method, backbone and protocol (settings that tuning may choose
differ). Seeds that both sides have are compared; where there are none, all of either side. What was cut short and goes
on when it is run again (preempted, out of time, cancelled) is on neither side. Runs with the very same answers are
told first: where all are, nothing is tested. The verdict is Holm-corrected over all cells, so that a suite repeated
with two seeds or more finds no difference in 95 of 100 cases, whatever the seeds do; of one seed it says only that
these runs differ.
"""

from __future__ import annotations

import math
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from tabulate import tabulate

from results.columns import Columns
from results.index import INDEX, read
from results.spoken import many, word

from . import fields, stats
from .differ import Difference, Side, differences
from .pairs import Predictions

Key = tuple[str, str, str, str]  # data set, method, backbone, protocol
UNFINISHED = ("preempted", "timeout", "cancelled")


@dataclass(frozen=True)
class Run:
    records: Columns
    row: int
    predictions: Predictions

    def text(self, name: str) -> str:
        return self.records.get_text(name, self.row)

    @property
    def key(self) -> Key:
        return (self.text("spec.dataset"), self.text("method.text"), self.text("spec.model"),
                self.text("protocol_id"))

    @property
    def seed(self) -> float:
        return self.records.get_number("spec.seed", self.row) or 0.0

    @property
    def top1(self) -> float | None:
        return self.records.get_number("metrics.test.top1", self.row) if self.text("status") == "ok" else None

    @property
    def items(self) -> int | None:
        n = (self.records.get_number("metrics.test.n", self.row)
             or self.records.get_number("dataset.test", self.row))
        return None if n is None else int(n)


@dataclass(frozen=True)
class Pair:
    """One cell on both sides: the runs that are compared."""

    a: tuple[Run, ...]
    b: tuple[Run, ...]
    found: Difference | None  # None where a side has no score
    same: int = 0  # runs whose every answer is the same on both sides
    lost: int = 0  # seeds that have a score on one side alone; < 0: on the first
    note: str = ""

    @property
    def loss(self) -> float:
        """What sorts changes: lost runs first, then by the difference."""
        return 2.0 * self.lost if self.lost else self.found.value if self.found is not None else 0.0

    @property
    def equal(self) -> bool:
        return not self.lost and self.same == len(self.a) == len(self.b)

    @property
    def key(self) -> Key:
        return (self.a or self.b)[0].key


@dataclass(frozen=True)
class Comparison:
    pairs: tuple[Pair, ...]
    adjusted: tuple[float | None, ...]  # Holm, in the order of pairs
    only_a: tuple[Run, ...]
    only_b: tuple[Run, ...]

    def changed(self) -> list[tuple[Pair, float | None]]:
        """Cells that surely differ in accuracy, or where one side lacks a score; the worst change first."""
        found = [(p, q) for p, q in zip(self.pairs, self.adjusted, strict=True)
                 if (q is not None and q <= 1 - stats.LEVEL) or p.lost]
        return sorted(found, key=lambda one: (one[0].loss, one[0].key))


def roots_of(what: str, results: Path, scratch: Path) -> list[Path]:
    """Folders of records behind a word: `runs`, `reference`, `git:<commit>`, or a path."""
    if what.startswith("git:"):
        return _suites(_checked_out(what[4:], results, scratch))
    path = results / what if what in ("runs", "reference") else Path(what)
    if not path.is_dir():
        raise FileNotFoundError(2, "no such folder; give runs, reference, git:<commit> or a folder of records", what)
    return _suites(path)


def _suites(path: Path) -> list[Path]:
    return sorted(p.parent for p in path.glob("*/suite.json")) or [path]


def _checked_out(commit: str, results: Path, scratch: Path) -> Path:
    """results/reference as of a commit, unpacked into a temporary folder."""
    if not commit or commit.startswith("-"):  # git would take it for an option
        raise FileNotFoundError(2, "that is no commit", f"git:{commit}")
    done = subprocess.run(["git", "archive", "--format=tar", commit, "results/reference"], cwd=results.parent,
                          capture_output=True, check=False)
    if done.returncode:
        raise FileNotFoundError(2, done.stderr.decode(errors="replace").strip() or "git failed", f"git:{commit}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "results" / "reference"


def load(roots: Iterable[Path]) -> list[Run]:
    """Every final run below the roots; a run that two suites share counts once."""
    found: dict[str, Run] = {}
    for root in roots:
        records = read(root, index=(root / INDEX).exists())  # uses a cache, makes none
        predictions = Predictions(records)
        for row in range(len(records)):
            if records.get_text("phase", row) == "final" and records.get_text("status", row) not in UNFINISHED:
                found.setdefault(records.get_text("run_id", row), Run(records, row, predictions))
    return list(found.values())


def compare(side_a: Sequence[Run], side_b: Sequence[Run]) -> Comparison:
    """Pair the cells of two sides and test every pair."""
    cells_a, cells_b = _cells(side_a), _cells(side_b)
    matched = [(cells_a[i], cells_b[i], "") for i in sorted(cells_a.keys() & cells_b.keys())]
    rest_a, rest_b = (_by_key(runs for i, runs in cells.items() if i not in others)
                      for cells, others in ((cells_a, cells_b), (cells_b, cells_a)))
    alone_a, alone_b = [], []
    for key in sorted(rest_a.keys() | rest_b.keys()):
        a, b = rest_a.get(key, []), rest_b.get(key, [])
        if len(a) == len(b) == 1:
            matched.append((a[0], b[0], "specs differ"))
        else:
            alone_a += [run for runs in a for run in runs]
            alone_b += [run for runs in b for run in runs]
    groups: dict[tuple[str, str], list[Pair]] = {}
    for one, two, note in matched:
        both = {r.seed for r in one} & {r.seed for r in two}
        own_a, own_b = ([r for r in runs if not both or r.seed in both] for runs in (one, two))
        alone_a += [r for r in one if both and r.seed not in both]
        alone_b += [r for r in two if both and r.seed not in both]
        pair = _pair(own_a, own_b, bool(both), note)
        groups.setdefault((pair.key[0], pair.key[2]), []).append(pair)
    pairs = sorted((p for own in groups.values() for p in _tested(own)), key=lambda p: p.key)
    adjusted = iter(stats.holm([p.found.p for p in pairs if p.found is not None and p.found.p is not None]))
    return Comparison(tuple(pairs), tuple(None if p.found is None or p.found.p is None else next(adjusted)
                                          for p in pairs), tuple(alone_a), tuple(alone_b))


def _cells(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but the seed, by seed."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.text("cell_id"), []).append(run)
    return {cell: sorted(own, key=lambda r: r.seed) for cell, own in found.items()}


def _by_key(cells: Iterable[list[Run]]) -> dict[Key, list[list[Run]]]:
    found: dict[Key, list[list[Run]]] = {}
    for runs in cells:
        found.setdefault(runs[0].key, []).append(runs)
    return found


def _pair(a: Sequence[Run], b: Sequence[Run], common: bool, note: str) -> Pair:
    """Which runs are compared; of common seeds those with a score on both sides, and how many have one on one side."""
    if {r.text("spec.data") for r in a} != {r.text("spec.data") for r in b}:
        note = "; ".join(part for part in (note, "other data") if part)
    scored_a, scored_b = [r for r in a if r.top1 is not None], [r for r in b if r.top1 is not None]
    if not common:
        lost = -1 if scored_a and not scored_b else 1 if scored_b and not scored_a else 0
        return Pair(tuple(scored_a or a), tuple(scored_b or b), None, 0, lost, note)
    seeds = {r.seed for r in scored_a} & {r.seed for r in scored_b}
    lost = -(len(scored_a) - len(seeds)) or len(scored_b) - len(seeds)
    one, two = (tuple(r for r in side if r.seed in seeds) for side in (scored_a, scored_b))
    same = sum(_same(x, y) for x, y in zip(one, two, strict=True))
    return Pair(one or tuple(a), two or tuple(b), None, same, lost, note)


def _same(a: Run, b: Run) -> bool:
    """Whether two runs gave the same answers, right or wrong alike."""
    one, two = a.predictions.of(a.row), b.predictions.of(b.row)
    if a.top1 != b.top1 or one is None or two is None:
        return False
    return one.items == two.items and bool(np.array_equal(one.correct, two.correct))


def _tested(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs of one data set and backbone with their differences; what is equal bit for bit needs no test."""
    ready = [p for p in pairs if p.a[0].top1 is not None and p.b[0].top1 is not None]
    open_ = [p for p in ready if not p.equal]
    found = iter(differences([(_side(p.a), _side(p.b)) for p in open_]))
    nothing = Difference(0.0, stats.Interval(0.0, 0.0), 1.0, False)
    return [replace(p, found=nothing) if p in ready and p.equal else replace(p, found=next(found)) if p in ready else p
            for p in pairs]


def _side(runs: Sequence[Run]) -> Side:
    scored = [r.predictions.of(r.row) for r in runs]
    usable = [s for s in scored if s is not None]
    whole = len(usable) == len(runs) and len({s.items for s in usable}) == 1
    sizes = {r.items for r in runs}
    return Side(tuple(r.top1 for r in runs if r.top1 is not None), sizes.pop() if len(sizes) == 1 else None,
                usable[0].items if whole else "", np.stack([s.correct for s in usable], axis=1) if whole else None)


def report(found: Comparison, name_a: str, name_b: str, everything: bool = False) -> str:
    """What a terminal shows: verdict, changes with regressions first, sums by method, what one side lacks."""
    changed = found.changed()
    worse = sum(p.loss < 0 for p, _ in changed)
    runs, same = sum(min(len(p.a), len(p.b)) for p in found.pairs), sum(p.same for p in found.pairs)
    lines = [f"{many(len(found.pairs), 'cell')} on both sides with {many(runs, 'run')} a side, {same} of "
             f"them with the very same answers; runs only in {name_a}: {len(found.only_a)}; only in {name_b}: "
             f"{len(found.only_b)}."]
    if not found.pairs:
        lines.append("Verdict: nothing to compare, no cell is on both sides.")
    elif all(p.equal for p in found.pairs):
        lines.append("Verdict: the same, every answer of every run.")
    elif changed:
        lines.append(f"Verdict: {len(changed)} {word(len(changed), 'differs', 'differ')} after Holm's correction at "
                     f"5 % ({worse} worse, {len(changed) - worse} better in {name_b}).")
    else:
        lines.append(f"Verdict: no difference after Holm's correction at 5 % over {many(len(found.pairs), 'cell')}.")
    single = sum(p.found is not None and p.found.of_runs for p in found.pairs)
    if single:
        lines.append(f"{single} of {many(len(found.pairs), 'cell')} {word(single, 'has', 'have')} one seed, and so "
                     f"has every cell of {word(single, 'its', 'their')} data set: a difference there is one of these "
                     "runs. How far other seeds lie is not known, so no promise is made about a repetition.")
    shown = sorted(zip(found.pairs, found.adjusted, strict=True), key=lambda one: (one[0].loss, one[0].key)) \
        if everything else changed
    if shown:
        head = ["data set", "method", "backbone", "seeds", name_a, name_b, "difference", "p (Holm)", "note"]
        lines.append(tabulate([_line(p, q) for p, q in shown], head, tablefmt="simple", disable_numparse=True))
    methods = _by_method(found.pairs)
    if methods:
        lines.append(tabulate(methods, ["method", "cells", f"mean difference {name_b} - {name_a}, points"],
                              tablefmt="simple", disable_numparse=True))
    for name, alone in ((name_a, found.only_a), (name_b, found.only_b)):
        if alone:
            listed = [f"  {r.key[0]}  {r.key[1]}  seed {r.seed:g}  {r.text('run_id')}" for r in alone]
            more = [] if everything or len(listed) <= 10 else [f"  and {len(listed) - 10} more (--all lists them)"]
            lines.append("\n".join([f"Only in {name}:", *(listed if everything else listed[:10]), *more]))
    return "\n\n".join(lines) + "\n"


def _line(pair: Pair, adjusted: float | None) -> list[str]:
    dataset, method, backbone, _ = pair.key
    gap, note = "", pair.note
    if pair.found is not None:
        gap = fields.points(pair.found.value)
        if pair.found.interval is not None:
            gap += f" [{fields.points(pair.found.interval.low)}, {fields.points(pair.found.interval.high)}]"
        note = "; ".join(filter(None, (note, pair.found.note, "these runs" if pair.found.of_runs else "")))
    if pair.lost:
        note = "; ".join(filter(None, (note, f"{abs(pair.lost)} more with a score in the "
                                             f"{'first' if pair.lost < 0 else 'second'}")))
    seeds = [",".join(f"{r.seed:g}" for r in side) for side in (pair.a, pair.b)]
    return [dataset, method, backbone, seeds[0] if seeds[0] == seeds[1] else " / ".join(seeds), _told(pair.a),
            _told(pair.b), gap, "" if adjusted is None else f"{adjusted:.3g}", note]


def _told(runs: Sequence[Run]) -> str:
    """Mean accuracy, or how the runs ended."""
    values = [r.top1 for r in runs if r.top1 is not None]
    return fields.percent(sum(values) / len(values)) if values else ", ".join(sorted({r.text("status") for r in runs}))


def _by_method(pairs: Sequence[Pair]) -> list[list[str]]:
    groups: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        if pair.found is not None and pair.found.interval is not None:
            half = (pair.found.interval.high - pair.found.interval.low) / 2
            groups.setdefault(pair.key[1], []).append((pair.found.value, half))
    lines = []
    for method, own in groups.items():
        mean, half = sum(g for g, _ in own) / len(own), math.sqrt(sum(h * h for _, h in own)) / len(own)
        lines.append((mean, [method, str(len(own)),
                             f"{fields.points(mean)} [{fields.points(mean - half)}, {fields.points(mean + half)}]"]))
    return [line for _, line in sorted(lines)]
