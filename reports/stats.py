"""Wilson, paired sign test, Holm, ranks, letters: the estimators that a table prints (numpy and scipy).

How uncertain a mean is over test items and seeds is estimated in `spread`. Methods are compared on the same items
(paired), data sets are fixed. Ranges of ranks follow from Holm-corrected comparisons: 1 + the number of methods surely
better up to K - the number surely worse holds all true ranks at once with the stated confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .spread import Array, Spread

LEVEL = 0.95
DRAWS = 1000  # of means, for the likely ranks
GROUPS = 200  # tie groups; their number can grow as fast as 3^(K/3)


class Interval(NamedTuple):
    low: float
    high: float


@cache
def z_value(level: float = LEVEL) -> float:
    """Normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: float, n: int, level: float = LEVEL) -> Interval:
    """Interval of a share of n items (Wilson 1927): inside [0, 1] and of positive width at 0 and 1 too."""
    if n < 1:
        raise ValueError(f"an interval needs at least one item, got n = {n}")
    return bounded(hits / n, n, level)


def bounded(share: float, size: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share known as well as from `size` > 0 items; the size may be a fraction."""
    z2 = z_value(level) ** 2
    middle = (share * size + z2 / 2) / (size + z2)
    half = sqrt(z2 * (size * share * (1 - share) + z2 / 4)) / (size + z2)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def smoothed(share: float, n: float) -> float:
    """A share away from 0 and 1: the middle of its Wilson interval."""
    z2 = z_value() ** 2
    return (share * n + z2 / 2) / (n + z2)


def item_variance(share: float, n: int) -> float:
    """Variance of a share from its n items, never zero: that of the Wilson interval's middle."""
    p = smoothed(share, n)
    return p * (1 - p) / n


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Exact two-sided p of a paired comparison of two runs: sign test over the items where they differ."""
    from scipy.special import bdtr  # scipy.stats takes most of a second to load

    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): reject those at most alpha, and the family-wise error is at most alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for position, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - position) * p_values[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True)
class Effect:
    """A difference of means with its interval."""

    value: float
    interval: Interval


def effects(spread: Spread, contrasts: Array) -> list[Effect]:
    """Differences with 95 % intervals, not corrected for their number; contrasts (C, K) of the rows' means."""
    contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
    found = zip(contrasts @ spread.mean, spread.half(contrasts, LEVEL), strict=True)
    return [Effect(float(value), Interval(float(value - half), float(value + half))) for value, half in found]


@dataclass(frozen=True)
class Ranking:
    """Position by position of the given methods; ranks count from 1, the best."""

    mean: Array  # (K,)
    adjusted: Array  # (K, K) Holm-adjusted p of each pair; 1 on the diagonal
    ranks: tuple[tuple[int, int], ...]  # range that holds all true ranks at once
    letters: tuple[str, ...]  # methods that share a letter are not told apart
    likely: tuple[tuple[int, int], ...]  # middle 95 % of ranks drawn from the estimated errors, for the picture
    of_runs: bool  # somewhere no method has two seeds: the ranks are those of these runs
    lent: tuple[int, ...]  # methods of one seed that have the spread of others
    level: float = LEVEL

    def better(self, one: int, other: int) -> bool:
        """Whether the first is told apart from the second, as ranks and letters do, and is the better of the two."""
        return bool(self.adjusted[one, other] <= 1 - self.level and self.mean[one] > self.mean[other])


def ranking(spread: Spread, level: float = LEVEL) -> Ranking:
    """Ranks and tie groups of K methods from their means and how far these would move."""
    means, k = spread.mean, len(spread.mean)
    p_values = spread.p_values()
    upper = np.triu_indices(k, 1)
    adjusted = np.ones((k, k))
    adjusted[upper] = holm(list(p_values[upper]))
    adjusted = np.minimum(adjusted, adjusted.T)
    sure = adjusted <= 1 - level
    better = [int(np.sum(sure[i] & (means > means[i]))) for i in range(k)]
    worse = [int(np.sum(sure[i] & (means < means[i]))) for i in range(k)]
    return Ranking(means, adjusted, tuple((1 + b, k - w) for b, w in zip(better, worse, strict=True)),
                   tie_letters(means, sure), _likely(spread, level), spread.luck.alone, spread.luck.lent, level)


def _likely(spread: Spread, level: float) -> tuple[tuple[int, int], ...]:
    """Middle of each method's ranks when the means are drawn again with their estimated errors."""
    rng, luck, k = np.random.default_rng(0), spread.luck, len(spread.mean)
    root = np.linalg.cholesky(spread.items + np.eye(k) * (1e-12 + 1e-9 * np.trace(spread.items)))
    seeds = np.sqrt(np.maximum(0.0, luck.shown - luck.chance))
    means = spread.mean + rng.standard_normal((DRAWS, k)) @ root.T + rng.standard_normal((DRAWS, k)) * seeds
    drawn = places(means)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, method="closest_observation")
    return tuple((int(a), int(b)) for a, b in zip(low, high, strict=True))


def places(means: Array) -> NDArray[np.int64]:
    """(R, K) -> each value's place in its row, 1 the largest; equal values share the better place."""
    order = np.argsort(-means, axis=1, kind="stable")
    falling = np.take_along_axis(-means, order, axis=1)
    first = np.ones(means.shape, dtype=bool)
    first[:, 1:] = falling[:, 1:] != falling[:, :-1]
    shared = np.maximum.accumulate(np.where(first, np.arange(means.shape[1]), 0), axis=1) + 1
    found = np.empty(means.shape, dtype=np.int64)
    np.put_along_axis(found, order, shared, axis=1)
    return found


def tie_letters(mean: Array, different: NDArray[np.bool_]) -> tuple[str, ...]:
    """Compact letters (insert and absorb, Piepho 2004): two methods share one exactly when not told apart.

    Empty texts where a pattern of differences would need too many letters to be of use.
    """
    groups: list[frozenset[int]] = [frozenset(range(len(mean)))]
    for i, j in combinations(range(len(mean)), 2):
        if different[i, j]:
            split = [part for g in groups for part in ((g - {i}, g - {j}) if {i, j} <= g else (g,))]
            split = list(dict.fromkeys(split))
            groups = [g for g in split if not any(g < other for other in split)]
            if len(groups) > GROUPS:
                return ("",) * len(mean)
    order = sorted(groups, key=lambda g: sorted((-mean[i], i) for i in g))
    names = [_letter(position) for position in range(len(order))]
    return tuple("".join(n for n, g in zip(names, order, strict=True) if i in g) for i in range(len(mean)))


def win_matrix(scores: Array) -> Array:
    """(K, D) scores, NaN where missing -> (K, K) share of common data sets where the row is better, ties as half."""
    a, b = scores[:, None, :], scores[None, :, :]
    both = ~(np.isnan(a) | np.isnan(b))
    wins = ((a > b) & both).sum(2) + 0.5 * ((a == b) & both).sum(2)
    count = both.sum(2)
    return np.where(count > 0, wins / np.maximum(count, 1), np.nan)


def _letter(position: int) -> str:
    """a to z, then a2 to z2, a3, ...: a letter and perhaps a number, so that a chain of them reads in one way."""
    return chr(97 + position % 26) + (str(position // 26 + 1) if position >= 26 else "")
