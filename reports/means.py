"""The interval of a cell and of a mean over cells: one estimator, inside [0, 1], for one seed Wilson's.

Test items and seeds both count. Rows on the same data sets lend each other what they know of the spread over seeds
(`spread.luck`), as two or three seeds alone would give intervals that say nothing. The half width is turned into the
number of items that would leave it, and Wilson's formula for that many keeps the interval inside [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import spread, stats


@dataclass(frozen=True)
class Part:
    """One cell of a mean. Columns of one `training` have the same runs, columns of one `items` the same test set."""

    values: tuple[float, ...]  # per seed
    n: int | None  # test items
    chance: float | None  # of one run's variance over seeds, what the items' chance makes; None without predictions
    weight: float
    training: str
    items: str
    error: float | None = None  # standard error over new items, where that is not of n answers that count alike


def intervals(rows: Sequence[Sequence[Part]]) -> list[stats.Interval | None]:
    """95 % intervals of rows' weighted means; every row has the same columns. None where the items are unknown.

    A training set where a row has one seed says nothing about its seeds: the interval is then over the items alone.
    """
    luck = spread.luck([_training(rows, own) for own in _trainings(rows)], lend=False)
    items = np.array([_items(row) for row in rows])
    known = ~np.isnan(items)
    half = spread.half_width(items[known], luck.shown[known], luck.chance[known], luck.freedom)
    found: list[stats.Interval | None] = [None] * len(rows)
    for i, wide in zip(map(int, np.flatnonzero(known)), half, strict=True):
        mean = sum(p.weight * sum(p.values) / len(p.values) for p in rows[i])
        near = sum(p.weight * stats.smoothed(sum(p.values) / len(p.values), p.n or 1) for p in rows[i])
        size = stats.z_value() ** 2 * near * (1 - near) / float(wide) ** 2
        found[i] = stats.bounded(min(1.0, max(0.0, mean)), size)
    return found


def _trainings(rows: Sequence[Sequence[Part]]) -> list[list[int]]:
    """Columns by the runs they come from; each alone where some row has not the same seeds on all of them."""
    groups: dict[str, list[int]] = {}
    for j, part in enumerate(rows[0]):
        groups.setdefault(part.training, []).append(j)
    found = []
    for own in groups.values():
        alike = all(len({len(row[j].values) for j in own}) == 1 for row in rows)
        found += [own] if alike else [[j] for j in own]
    return found


def _training(rows: Sequence[Sequence[Part]], own: Sequence[int]) -> spread.Training:
    seeds = np.array([len(row[own[0]].values) for row in rows], dtype=np.float64)
    variance, chance = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        if seeds[i] > 1:
            shares = sum(row[j].weight * np.array(row[j].values) for j in own)
            variance[i] = float(np.var(shares, ddof=1))
            chance[i] = sum(row[j].weight ** 2 * (row[j].chance or 0.0) for j in own)
    return spread.Training(seeds, variance, chance)


def _items(row: Sequence[Part]) -> float:
    """Variance of a mean over new items. On shared items the most that it can be; NaN where a size is unknown."""
    errors: dict[str, float] = {}
    for p in row:
        if p.n is None:
            return float("nan")
        own = p.error if p.error is not None else item_error(p.values, p.n, p.chance)
        errors[p.items] = errors.get(p.items, 0.0) + p.weight * own
    return sum(e * e for e in errors.values())


def item_error(values: Sequence[float], n: int, chance: float | None) -> float:
    """Standard error of a cell's mean over new items."""
    seeds = len(values)
    whole = stats.item_variance(sum(values) / seeds, n)
    return max(whole / seeds, whole - (chance or 0.0) * (seeds - 1) / seeds)**0.5  # chance falls with every seed
