"""Fair clocks: what is compared is run in turns, forwards then backwards, and the median has an interval.

A machine's speed drifts by several percent within minutes. Therefore no variant is timed alone: a turn runs every
variant once in order and once in reverse (ABBA), so that a linear drift cancels in the sum of the two, and ratios are
formed within a turn before anything is averaged. Intervals are order statistics of the turns (the median's
distribution-free interval); so few turns that 95 % cannot be reached state the coverage that they do reach.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LEVEL = 0.95
Work = Callable[[], object]  # one repetition, complete when it returns; a float that it returns is its own seconds
Clock = Callable[[], float]


class Spread(NamedTuple):
    """A median with its interval; `low` and `high` are None for a single value."""

    median: float
    low: float | None
    high: float | None
    coverage: float | None
    n: int


@dataclass(frozen=True)
class Turns:
    """Seconds per repetition of each variant, turn by turn: the two runs of a turn averaged."""

    seconds: dict[str, list[float]]

    def spread(self, name: str) -> Spread:
        return median_interval(self.seconds[name])

    def rate(self, name: str, amount: float) -> Spread:
        """`amount` per second, for instance images per step."""
        return median_interval([amount / s for s in self.seconds[name]])

    def ratio(self, name: str, reference: str) -> Spread:
        """How many times faster than the reference, paired within turns."""
        return median_interval([b / a for a, b in zip(self.seconds[name], self.seconds[reference], strict=True)])


def clock_for(device: str, threads: int) -> tuple[str, Clock]:
    """Which clock: one thread on a CPU is timed by the processor's seconds, which other programs do not take part in.

    They still share caches and memory with it; on a GPU or with several threads only the wall knows.
    """
    if device == "cpu" and threads == 1:
        return "processor", time.process_time
    return "wall", time.perf_counter


def in_turns(works: Mapping[str, Work], turns: int, warmup: int = 1, clock: Clock = time.perf_counter,
             report: Callable[[int], None] = lambda done: None) -> Turns:
    """Run every variant twice per turn, ABBA; the first `warmup` turns are not kept."""
    kept: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + turns):
        sums = dict.fromkeys(works, 0.0)
        for name in (*works, *reversed(list(works))):
            started = clock()
            took = works[name]()
            sums[name] += took if isinstance(took, float) else clock() - started
        if turn >= warmup:
            for name, total in sums.items():
                kept[name].append(total / 2)
        report(turn + 1)
    return Turns(kept)


def median_interval(values: Sequence[float], level: float = LEVEL) -> Spread:
    """The median, and the narrowest pair of order statistics, symmetric in rank, that covers it with `level`.

    With too few values (fewer than six for 95 %) it is the lowest and the highest, and the coverage says so.
    """
    ordered, n = sorted(values), len(values)
    if n < 2:
        return Spread(ordered[0], None, None, None, n)
    rank, coverage = 0, coverage_of(n, 0)
    while (rank + 1) * 2 < n and coverage_of(n, rank + 1) >= level:
        rank, coverage = rank + 1, coverage_of(n, rank + 1)
    return Spread(statistics.median(ordered), ordered[rank], ordered[n - 1 - rank], coverage, n)


def coverage_of(n: int, rank: int) -> float:
    """Probability that the median of a continuous distribution lies between the rank-th lowest and highest of n."""
    return 1 - 2 * sum(math.comb(n, k) for k in range(rank + 1)) / 2**n


def scaled(spread: Spread, by: float) -> Spread:
    """Median and interval times a constant."""
    return Spread(spread.median * by, None if spread.low is None else spread.low * by,
                  None if spread.high is None else spread.high * by, spread.coverage, spread.n)
