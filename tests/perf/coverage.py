"""Do ranks, ties, intervals and comparisons keep what they promise? The whole grid, as a page: docs/coverage.md.

    python -m tests.perf.coverage --out docs/coverage.md --processes 2     # about ten minutes on two cores

Answers are drawn as `tests/reports/truth.py` says, data sets anew in every draw. "Before" is what the tables did until
then: the same variances, each method's own, with normal quantiles (in closed form; the resamples of that time scatter
around it). "Known spread" is the normal quantile with the true variance of the seeds: no test without that knowledge
can be much sharper. Every cell has a stream of its own, so that the page is the same whatever the number of processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from math import sqrt
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from tabulate import tabulate

from reports import means, stats
from reports.differ import Side, differences
from reports.spread import Array, Spread, chance_of, spread_of
from tests.reports import truth


class Cell(NamedTuple):
    """Methods, data sets, items, seeds, spread over seeds in points."""

    methods: int
    sets: int
    n: int
    seeds: int
    points: float


AXES = ((3, 8, 30), (1, 3, 8, 19), (50, 200, 2000), (1, 2, 3, 5), (0.0, 0.5, 1.0, 2.0))
NAMED = (Cell(8, 1, 2000, 3, 1.0), Cell(27, 1, 2000, 3, 0.5), Cell(8, 3, 200, 3, 2.0), Cell(8, 8, 200, 2, 2.0),
         Cell(8, 1, 2000, 1, 0.0), Cell(8, 1, 2000, 1, 0.5))
POWER = (Cell(8, 1, 2000, 3, 0.0), Cell(8, 1, 2000, 3, 0.5), Cell(8, 1, 2000, 3, 1.0), Cell(3, 1, 2000, 2, 1.0),
         Cell(8, 3, 200, 3, 2.0), Cell(8, 8, 200, 2, 2.0), Cell(8, 19, 200, 3, 1.0))
LONELY = (Cell(1, 1, 2000, 2, 1.0), Cell(1, 1, 2000, 3, 1.0))
CELLS = (Cell(8, 1, 2000, 2, 2.0), Cell(8, 1, 2000, 3, 2.0), Cell(8, 1, 2000, 3, 1.0), Cell(8, 1, 200, 2, 0.0),
         Cell(8, 1, 200, 3, 0.0), Cell(8, 3, 200, 3, 2.0), *LONELY)
RERUNS = (Cell(8, 1, 2000, 3, 1.0), Cell(8, 1, 2000, 2, 1.0), Cell(8, 1, 2000, 3, 0.0))
UNLIKE = (Cell(8, 1, 2000, 3, 1.0), Cell(8, 1, 2000, 2, 2.0), Cell(8, 3, 200, 3, 2.0))
GAPS = (1.0, 2.0, 5.0)


def others() -> list[Cell]:
    """An eighth of the grid that holds every value of every axis equally often."""
    found = []
    for place in product(*(range(len(axis)) for axis in AXES)):
        m, d, n, s, p = place
        if (m + d + 2 * n + 3 * s + 5 * p) % 8 == 0:
            found.append(Cell(*(axis[i] for axis, i in zip(AXES, place, strict=True))))
    return [cell for cell in found if cell not in NAMED]


def before(spread: Spread, draws: Sequence[truth.Draw]) -> Array:
    """(K, K) p as they were: each method's own seed variance, never negative, and the normal quantile."""
    methods, seeds = draws[0].shape[1:]
    shown = np.zeros(methods)
    if seeds > 1:
        shown += sum(right.mean(0).var(1, ddof=1) for right in draws) / seeds / len(draws) ** 2
    return _normal(spread, np.maximum(0.0, shown - spread.luck.chance))


def _normal(spread: Spread, luck: Array) -> Array:
    own = np.diag(spread.items)
    variance = own[:, None] + own[None, :] - 2 * spread.items + luck[:, None] + luck[None, :]
    gap = np.abs(spread.mean[:, None] - spread.mean[None, :])
    p: Array = 2 * norm.sf(gap / np.sqrt(np.maximum(variance, 1e-24)))
    return p


def separations(cell: Cell, draws: int, gap: float = 0.0, unlike: bool = False) -> tuple[float, float, float]:
    """Before, now, known spread: share of draws with a false separation, or (gap) of true ones that are found."""
    rng = _stream(cell, int(gap * 10) + unlike)
    k = cell.methods
    spreads = [cell.points * 2] * max(1, k // 4) + [cell.points / 2] * (k - max(1, k // 4)) if unlike else cell.points
    true = np.broadcast_to(np.asarray(spreads) / 100, k) ** 2 / cell.seeds / cell.sets
    total = np.zeros(3)
    for _ in range(draws):
        right = truth.drawn(rng, k, cell.sets, cell.n, cell.seeds, spreads, [gap] + [0.0] * (k - 1) if gap else None)
        spread = spread_of(truth.answers(right), [1 / cell.sets] * cell.sets, k)
        for i, p in enumerate((before(spread, right), spread.p_values(), _normal(spread, true))):
            total[i] += _found(p, bool(gap))
    one, two, three = map(float, total / draws)
    return one, two, three


def _found(p: Array, power: bool) -> float:
    """Whether any pair is told apart; with `power` the share of the first method's pairs that are."""
    upper = np.triu_indices(len(p), 1)
    if not power:
        return float(p[upper].min() * len(upper[0]) <= 0.05)
    adjusted = np.array(stats.holm(list(p[upper])))
    return float((adjusted[upper[0] == 0] <= 0.05).mean())


def cell_intervals(cell: Cell, draws: int) -> tuple[float, float, float, float]:
    """Coverage before and now, mean width in points before and now."""
    rng, found = _stream(cell, 100), np.zeros(4)
    for _ in range(draws):
        right = truth.drawn(rng, cell.methods, cell.sets, cell.n, cell.seeds, cell.points)
        rows = [[means.Part(tuple(map(float, x[:, m].mean(0))), cell.n, chance_of(x[:, m]), 1 / cell.sets, str(d),
                            str(d)) for d, x in enumerate(right)] for m in range(cell.methods)]
        for row, interval in zip(rows, means.intervals(rows), strict=True):
            assert interval is not None
            middle = [sum(p.values) / cell.seeds for p in row]
            variance = sum(stats.item_variance(v, cell.n) + np.var(p.values, ddof=1) / cell.seeds
                           for v, p in zip(middle, row, strict=True)) / cell.sets**2
            half = stats.z_value() * sqrt(variance)
            found += (abs(sum(middle) / cell.sets - truth.level()) <= half,
                      interval.low <= truth.level() <= interval.high, 200 * half, 100 * (interval.high - interval.low))
    a, b, c, d = map(float, found / draws / cell.methods)
    return a, b, c, d


def reruns(cell: Cell, draws: int) -> tuple[float, float]:
    """How often a suite run again with other luck is called different: before (run by run), now (cell by cell)."""
    rng, found = _stream(cell, 200), np.zeros(2)
    for _ in range(draws):
        (right,) = truth.drawn(rng, cell.methods, 1, cell.n, 2 * cell.seeds, cell.points)
        halves = right[:, :, :cell.seeds], right[:, :, cell.seeds:]
        single = [stats.mcnemar(halves[0][:, m, s], halves[1][:, m, s]) for m in range(cell.methods)
                  for s in range(cell.seeds)]
        pairs = [tuple(Side(tuple(map(float, half[:, m].mean(0))), cell.n, "x", half[:, m]) for half in halves)
                 for m in range(cell.methods)]
        now = [d.p for d in differences([(a, b) for a, b in pairs]) if d.p is not None]
        found += min(stats.holm(single)) <= 0.05, min(stats.holm(now)) <= 0.05
    return float(found[0] / draws), float(found[1] / draws)


def _stream(cell: Cell, what: int) -> np.random.Generator:
    return np.random.default_rng([cell.methods, cell.sets, cell.n, cell.seeds, int(10 * cell.points), what])


Job = tuple[str, Cell, int, float]


def jobs(named: int, rest: int) -> list[Job]:
    found: list[Job] = [("named", cell, named, 0.0) for cell in NAMED]
    found += [("cells", cell, named, 0.0) for cell in CELLS] + [("reruns", cell, named, 0.0) for cell in RERUNS]
    found += [("unlike", cell, named, 0.0) for cell in UNLIKE]
    found += [("power", cell, rest // 2, gap) for cell in POWER for gap in GAPS]
    return found + [("others", cell, rest, 0.0) for cell in sorted(others(), key=lambda c: c.methods * c.sets * c.n)]


def work(job: Job) -> tuple[Job, tuple[float, ...]]:
    kind, cell, draws, gap = job
    if kind == "cells":
        return job, cell_intervals(cell, draws)
    return job, reruns(cell, draws) if kind == "reruns" else separations(cell, draws, gap, kind == "unlike")


def _share(value: float, draws: int) -> str:
    """Percent with the simulation's standard error, of which 0 of n leaves one third of 3 / n."""
    return f"{100 * value:.1f} ± {100 * max(sqrt(value * (1 - value) / draws), 1 / draws):.1f}"


def page(found: Sequence[tuple[Job, tuple[float, ...]]]) -> str:
    """The committed page."""
    draws = {kind: n for (kind, _, n, _), _ in found}
    parts = ["# What the intervals and ranks keep", "Generated by `python -m tests.perf.coverage`; do not edit. In "
             "words: [statistics.md](statistics.md). Every share is in percent with the standard error of the "
             "simulation; " + ", ".join(f"{kind}: {n:,} draws a line" for kind, n in draws.items()) + "."]
    false = ["before", "now", "known spread"]
    parts += ["## Equal methods: any pair told apart (promised: at most 5)", _table(found, "named", false, _false),
              "## The same where two of eight methods vary four times as much as the others",
              _table(found, "unlike", false, _false),
              "## Power: one method better by so many points, share of its pairs found",
              _table(found, "power", ["points", *false], lambda j, v: [f"{j[3]:g}", *(_share(x, j[2]) for x in v)]),
              "## The interval of one cell, or of a mean over data sets (promised: 95)",
              _table(found, "cells", ["before", "now", "width before", "width now"],
                     lambda j, v: [*(_share(x, j[2]) for x in v[:2]), *(f"{x:.1f}" for x in v[2:])]),
              "`methods` 1: nobody lends its spread. Rows of one draw share their items; the error counts draws.",
              "## `reports compare`: a repeated suite called different (promised: at most 5)",
              _table(found, "reruns", false[:2], lambda j, v: [_share(x, j[2]) for x in v]),
              "## Further cells of the grid: any pair told apart",
              _table(found, "others", false, _false)]
    worst = max((v[1] - 0.05) / sqrt(0.05 * 0.95 / j[2]) for j, v in found
                if j[0] in ("named", "others", "reruns") and not (j[1].seeds == 1 and j[1].points))
    parts.append(f"The worst line that makes a promise lies {worst:.1f} standard errors from 5 %. Of one seed no "
                 "promise about methods is made: ranks are marked as those of these runs, so `now` has a dash wherever "
                 "seeds matter.")
    return "\n\n".join(parts) + "\n"


def _false(job: Job, values: tuple[float, ...]) -> list[str]:
    cells = [_share(v, job[2]) for v in values]
    return [cells[0], "– (of these runs)", cells[2]] if job[1].seeds == 1 and job[1].points else cells


def _table(found: Sequence[tuple[Job, tuple[float, ...]]], kind: str, head: Sequence[str], told: object) -> str:
    lines = [[*(f"{x:g}" for x in job[1]), *told(job, values)] for job, values in found  # type: ignore[operator]
             if job[0] == kind]
    return tabulate(lines, ["methods", "sets", "items", "seeds", "spread", *head], tablefmt="pipe",
                    disable_numparse=True, colalign=["right"] * (5 + len(head)))


def results(todo: Sequence[Job], processes: int) -> Iterator[tuple[Job, tuple[float, ...]]]:
    with Pool(processes) as pool:
        for done, result in enumerate(pool.imap(work, todo), 1):
            print(f"{done}/{len(todo)} {result[0]} {[round(x, 3) for x in result[1]]}", flush=True)
            yield result


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of ranks, intervals and comparisons on the whole grid.")
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    parser.add_argument("--draws", type=int, default=1000, help="draws of the named cells")
    parser.add_argument("--others", type=int, default=200, help="draws of the others, twice those of power")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.out.write_text(page(list(results(jobs(args.draws, args.others), args.processes))), encoding="utf-8")


if __name__ == "__main__":
    main()
