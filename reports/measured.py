"""Two measurements (`python -m bench perf`, the scripts of tests/perf), figure by figure: `reports compare A B`.

Bytes and operations must be equal. Ratios differ when their intervals do not meet. Seconds and images per second are
compared only when device, processor and threads are the same; elsewhere they are shown without a verdict, since they
say more about the machines than about the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from results.measured import ABSOLUTE, FOLDER, Figure, Measurement, load
from results.spoken import many, word
from results.store import ROOT

from . import fields

Verdict = Literal["equal", "within", "differs", "not comparable", "unknown"]
SCALE = {"bytes": 2.0**20, "FLOP": 1e9, "FLOP/s": 1e9}
UNIT = {"bytes": "MiB", "FLOP": "GFLOP", "FLOP/s": "GFLOP/s"}


@dataclass(frozen=True)
class Pair:
    a: Figure
    b: Figure
    verdict: Verdict

    @property
    def ratio(self) -> float | None:
        """B over A."""
        return self.b.value / self.a.value if self.a.value and self.b.value is not None else None


@dataclass(frozen=True)
class Comparison:
    pairs: tuple[Pair, ...]
    only_a: tuple[Figure, ...]
    only_b: tuple[Figure, ...]
    same_machine: bool
    settings: tuple[str, ...]  # names of those that differ

    def differing(self) -> list[Pair]:
        return [p for p in self.pairs if p.verdict == "differs"]


def find(what: str) -> Path | None:
    """The file behind a word: a path, or a name (or its beginning) below results/perf or results/reference/perf."""
    path = Path(what)
    if path.suffix == ".json" and path.is_file():
        return path
    named = [p for folder in (FOLDER, ROOT / "reference" / "perf") for p in sorted(folder.glob("*.json"))
             if p.name.startswith(path.name)]
    return named[-1] if named and path.name == what else None  # of one name the newest: the time stands last


def compare(a: Measurement, b: Measurement) -> Comparison:
    """Pair the figures of two measurements by subject and quantity."""
    same = a.machine.same_as == b.machine.same_as
    known_a, known_b = ({f.name: f for f in side.figures} for side in (a, b))
    pairs = tuple(Pair(f, known_b[name], _verdict(f, known_b[name], same)) for name, f in known_a.items()
                  if name in known_b)
    settings = tuple(k for k in sorted(a.settings.keys() | b.settings.keys())
                     if a.settings.get(k) != b.settings.get(k))
    return Comparison(pairs, tuple(f for n, f in known_a.items() if n not in known_b),
                      tuple(f for n, f in known_b.items() if n not in known_a), same, settings)


def _verdict(a: Figure, b: Figure, same_machine: bool) -> Verdict:
    if a.value is None or b.value is None or a.unit != b.unit:
        return "unknown" if a.value is None and b.value is None else "differs"
    if a.value == b.value:
        return "equal"
    if a.unit in ("bytes", "FLOP", "images", "count") and a.low is None and b.low is None:
        return "not comparable" if "cuda" in a.quantity and not same_machine else "differs"
    if a.unit in ABSOLUTE and not same_machine:
        return "not comparable"
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "unknown"
    return "within" if a.low <= b.high and b.low <= a.high else "differs"


def report(found: Comparison, a: Measurement, b: Measurement, everything: bool = False) -> str:
    """What a terminal shows: verdict, what differs, what only one side has."""
    differing = found.differing()
    lines = [f"A: {_where(a)}", f"B: {_where(b)}"]
    if found.settings:
        lines.append("settings that differ: " + ", ".join(
            f"{k} ({a.settings.get(k)} and {b.settings.get(k)})" for k in found.settings))
    if not found.same_machine:
        lines.append("different machines: seconds and images per second have no verdict")
    lines.append(f"Verdict: {len(differing)} of {many(len(found.pairs), 'figure')} "
                 f"{word(len(differing), 'differs', 'differ')}." if found.pairs else
                 "Verdict: nothing to compare, no figure is on both sides.")
    shown = found.pairs if everything else differing
    if shown:
        rows = [(p.a.subject, p.a.quantity, UNIT.get(p.a.unit, p.a.unit), text(p.a), text(p.b),
                 "" if p.ratio is None else fields.significant(p.ratio), p.verdict) for p in shown]
        lines.append("\n" + tabulate(rows, ("what", "figure", "unit", "A", "B", "B / A", ""), disable_numparse=True))
    for name, alone in (("A", found.only_a), ("B", found.only_b)):
        if alone:
            lines.append(f"only in {name}: " + ", ".join(f"{f.subject} {f.quantity}" for f in alone[:8])
                         + (f" and {len(alone) - 8} more" if len(alone) > 8 else ""))
    return "\n".join(lines) + "\n"


def text(figure: Figure) -> str:
    """`12.3 [12.1, 12.6]` in the unit of `UNIT`."""
    if figure.value is None:
        return "–"
    scale = SCALE.get(figure.unit, 1.0)
    shown = fields.significant(figure.value / scale)
    if figure.low is not None and figure.high is not None:
        shown += f" [{fields.significant(figure.low / scale)}, {fields.significant(figure.high / scale)}]"
    return shown


def _where(one: Measurement) -> str:
    machine = one.machine
    return (f"{one.title}; {machine.device if machine.device != 'cpu' else machine.cpu}, {machine.threads} "
            f"thread{'s' if machine.threads != 1 else ''}, torch {machine.versions.get('torch', '?')}, commit "
            f"{machine.commit[:8]}{' and uncommitted sources' if machine.dirty else ''}, {one.started}")


def run(first: Path, second: Path, everything: bool) -> int:
    """Print the comparison; 1 when figures differ, or when there is nothing to compare."""
    a, b = load(first), load(second)
    found = compare(a, b)
    print(report(found, a, b, everything), end="")
    return 1 if found.differing() or not found.pairs else 0
