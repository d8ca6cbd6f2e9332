"""Do two sides of the same cells differ? By cell, with the spread over seeds; cells of one data set lend it each other.

A cell is one data set, method, backbone and protocol; a side of it is its runs over seeds. On the same test items sides
are paired item by item. Where no cell of a data set has two seeds nothing is known of their spread: then the test is of
these runs alone (exact sign test for one run a side), and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import stats
from .pairs import Bools
from .spread import Answers, Array, Training, half_width, luck, spread_of, tail


@dataclass(frozen=True)
class Side:
    """The runs of one cell on one side."""

    values: tuple[float, ...]  # accuracy per seed
    n: int | None  # test items
    items: str  # hash of the test items; "" without predictions
    correct: Bools | None  # (n, runs)


@dataclass(frozen=True)
class Difference:
    """b - a, its interval, two-sided p; of_runs: nothing is known of the spread over seeds."""

    value: float
    interval: stats.Interval | None
    p: float | None
    of_runs: bool
    note: str = ""


def differences(cells: Sequence[tuple[Side, Side]]) -> list[Difference]:
    """Of the cells of one data set and backbone, in their order."""
    found: dict[int, Difference] = {}
    paired: dict[str, list[int]] = {}
    rest: list[int] = []
    for i, (a, b) in enumerate(cells):
        if a.items and a.items == b.items:
            paired.setdefault(a.items, []).append(i)
        elif a.n and b.n:
            rest.append(i)
        else:
            gap = _mean(b) - _mean(a)
            found[i] = Difference(gap, None, 1.0 if gap == 0 else None, False, "number of items unknown")
    for own in paired.values():
        found.update(zip(own, _paired([cells[i] for i in own]), strict=True))
    found.update(zip(rest, _apart([cells[i] for i in rest]), strict=True))
    return [found[i] for i in range(len(cells))]


def _mean(side: Side) -> float:
    return sum(side.values) / len(side.values)


def _paired(cells: Sequence[tuple[Side, Side]]) -> list[Difference]:
    sides = [side.correct for pair in cells for side in pair if side.correct is not None]
    owner = tuple(k for k, side in enumerate(sides) for _ in range(side.shape[1]))
    spread = spread_of([Answers("", "", np.concatenate(sides, axis=1), owner)], [1.0], len(sides))
    contrasts = _contrasts(len(cells))
    of_runs = spread.luck.alone
    p_values = [stats.mcnemar(sides[2 * i][:, 0], sides[2 * i + 1][:, 0]) for i in range(len(cells))] if of_runs \
        else spread.p_of(contrasts)
    return [Difference(effect.value, effect.interval, float(p), of_runs)
            for effect, p in zip(stats.effects(spread, contrasts), p_values, strict=True)]


def _apart(cells: Sequence[tuple[Side, Side]]) -> list[Difference]:
    """Not on the same items: shares of two test sets."""
    if not cells:
        return []
    sides = [side for pair in cells for side in pair]
    seeds = np.array([len(s.values) for s in sides], dtype=np.float64)
    variance = np.array([np.var(s.values, ddof=1) if len(s.values) > 1 else np.nan for s in sides])
    known = luck([Training(seeds, variance, np.where(seeds > 1, 0.0, np.nan))])
    items = np.array([stats.item_variance(_mean(s), s.n or 1) for s in sides])
    square = _contrasts(len(cells)) ** 2
    parts: tuple[Array, Array, Array, float] = square @ items, square @ known.shown, square @ known.chance, \
        known.freedom
    gaps = _contrasts(len(cells)) @ np.array([_mean(s) for s in sides])
    return [Difference(float(g), stats.Interval(float(g - h), float(g + h)), float(p), known.alone,
                       "not on the same items")
            for g, h, p in zip(gaps, half_width(*parts), tail(gaps, *parts), strict=True)]


def _contrasts(cells: int) -> Array:
    """(cells, 2 cells): second side minus first."""
    return np.kron(np.eye(cells), np.array([-1.0, 1.0]))
