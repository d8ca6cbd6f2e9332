"""Two sets of records, run by run: paired differences with intervals, what only one side has, regressions first.

A run is paired with the run of the other side that has the same id; failing that, with the only one of the same data
set, method, backbone, seed and protocol (settings that tuning may choose differ). What was cut short and goes on when
it is run again (preempted, out of time, cancelled) is on neither side. Same test items: exact sign test over the items
where the two differ; else two shares.
The verdict is Holm-corrected over all pairs, so that a repeated suite finds no difference in 95 of 100 cases.
"""

from __future__ import annotations

import math
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import NormalDist

import numpy as np
from tabulate import tabulate

from results.columns import Columns
from results.index import INDEX, read

from . import fields, stats
from .pairs import Predictions

Key = tuple[str, str, str, float, str]  # data set, method, backbone, seed, protocol
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
                self.records.get_number("spec.seed", self.row) or 0.0, self.text("protocol_id"))

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
    a: Run
    b: Run
    difference: float | None  # b - a
    interval: stats.Interval | None
    p: float | None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    pairs: tuple[Pair, ...]
    adjusted: tuple[float | None, ...]  # Holm, in the order of pairs
    only_a: tuple[Run, ...]
    only_b: tuple[Run, ...]

    def changed(self) -> list[tuple[Pair, float | None]]:
        """Pairs that surely differ in accuracy, or where one side has no score; the worst change first."""
        found = [(p, q) for p, q in zip(self.pairs, self.adjusted, strict=True)
                 if (q is not None and q <= 1 - stats.LEVEL) or (p.a.top1 is None) != (p.b.top1 is None)]
        return sorted(found, key=lambda one: (_loss(one[0]), one[0].a.key))


def _loss(pair: Pair) -> float:
    if pair.difference is not None:
        return pair.difference
    return -2.0 if pair.b.top1 is None else 2.0


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
    """Pair the runs of two sides and test every pair."""
    ids_a, ids_b = ({r.text("run_id"): r for r in side} for side in (side_a, side_b))
    matched = [(ids_a[i], ids_b[i], "") for i in sorted(ids_a.keys() & ids_b.keys())]
    rest_a, rest_b = (_by_key(r for i, r in ids.items() if i not in others)
                      for ids, others in ((ids_a, ids_b), (ids_b, ids_a)))
    alone_a, alone_b = [], []
    for key in sorted(rest_a.keys() | rest_b.keys()):
        a, b = rest_a.get(key, []), rest_b.get(key, [])
        if len(a) == len(b) == 1:
            matched.append((a[0], b[0], "specs differ"))
        else:
            alone_a += a
            alone_b += b
    pairs = sorted((_pair(a, b, note) for a, b, note in matched), key=lambda p: p.a.key)
    tested = [p.p for p in pairs if p.p is not None]
    adjusted = iter(stats.holm(tested))
    return Comparison(tuple(pairs), tuple(None if p.p is None else next(adjusted) for p in pairs), tuple(alone_a),
                      tuple(alone_b))


def _by_key(runs: Iterable[Run]) -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in runs:
        found.setdefault(run.key, []).append(run)
    return found


def _pair(a: Run, b: Run, note: str) -> Pair:
    if a.top1 is None or b.top1 is None:
        return Pair(a, b, None, None, None, note)
    difference = b.top1 - a.top1
    scored_a, scored_b = a.predictions.of(a.row), b.predictions.of(b.row)
    if scored_a is not None and scored_b is not None and scored_a.items == scored_b.items:
        one, two = scored_a.correct[:, np.newaxis], scored_b.correct[:, np.newaxis]
        error = math.sqrt(stats.difference_variance([(two, one)]))
        p: float | None = stats.mcnemar(two[:, 0], one[:, 0])
    elif a.items and b.items:
        error = math.sqrt(stats.item_variance(a.top1, a.items) + stats.item_variance(b.top1, b.items))
        p = 2 * NormalDist().cdf(-abs(difference) / error)
        note = "; ".join(part for part in (note, "not on the same items") if part)
    else:
        return Pair(a, b, difference, None, 1.0 if difference == 0 else None, note or "number of items unknown")
    half = stats.z_value() * error
    return Pair(a, b, difference, stats.Interval(difference - half, difference + half), p, note)


def report(found: Comparison, name_a: str, name_b: str, everything: bool = False) -> str:
    """What a terminal shows: verdict, changes with regressions first, sums by method, what one side lacks."""
    changed = found.changed()
    worse = sum(_loss(p) < 0 for p, _ in changed)
    same = sum(p.difference == 0 for p in found.pairs)
    lines = [f"{len(found.pairs)} runs on both sides, {same} of them with equal accuracy; only in {name_a}: "
             f"{len(found.only_a)}; only in {name_b}: {len(found.only_b)}.",
             f"Verdict: {len(changed)} differ after Holm's correction at 5 % ({worse} worse, {len(changed) - worse} "
             f"better in {name_b})." if changed else
             f"Verdict: no difference after Holm's correction at 5 % over {len(found.pairs)} pairs."
             if found.pairs else "Verdict: nothing to compare, no run is on both sides."]
    shown = sorted(zip(found.pairs, found.adjusted, strict=True), key=lambda one: (_loss(one[0]), one[0].a.key)) \
        if everything else changed
    if shown:
        head = ["data set", "method", "backbone", "seed", name_a, name_b, "difference", "p (Holm)", "note"]
        lines.append(tabulate([_line(p, q) for p, q in shown], head, tablefmt="simple", disable_numparse=True))
    methods = _by_method(found.pairs)
    if methods:
        lines.append(tabulate(methods, ["method", "runs", f"mean difference {name_b} - {name_a}, points"],
                              tablefmt="simple", disable_numparse=True))
    for name, alone in ((name_a, found.only_a), (name_b, found.only_b)):
        if alone:
            listed = [f"  {r.key[0]}  {r.key[1]}  seed {r.key[3]:g}  {r.text('run_id')}" for r in alone]
            more = [] if everything or len(listed) <= 10 else [f"  and {len(listed) - 10} more (--all lists them)"]
            lines.append("\n".join([f"Only in {name}:", *(listed if everything else listed[:10]), *more]))
    return "\n\n".join(lines) + "\n"


def _line(pair: Pair, adjusted: float | None) -> list[str]:
    dataset, method, backbone, seed, _ = pair.a.key
    sides = [fields.percent(r.top1) if r.top1 is not None else r.text("status") for r in (pair.a, pair.b)]
    gap = "" if pair.difference is None else fields.points(pair.difference)
    if pair.interval is not None:
        gap += f" [{fields.points(pair.interval.low)}, {fields.points(pair.interval.high)}]"
    return [dataset, method, backbone, f"{seed:g}", *sides, gap, "" if adjusted is None else f"{adjusted:.3g}",
            pair.note]


def _by_method(pairs: Sequence[Pair]) -> list[list[str]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.difference is not None and pair.interval is not None:
            groups.setdefault(pair.a.key[1], []).append(pair)
    lines = []
    for method, own in groups.items():
        gaps = [p.difference for p in own if p.difference is not None]
        halves = [(p.interval.high - p.interval.low) / 2 for p in own if p.interval is not None]
        mean, half = sum(gaps) / len(gaps), math.sqrt(sum(h * h for h in halves)) / len(gaps)
        lines.append((mean, [method, str(len(own)),
                             f"{fields.points(mean)} [{fields.points(mean - half)}, {fields.points(mean + half)}]"]))
    return [line for _, line in sorted(lines)]
