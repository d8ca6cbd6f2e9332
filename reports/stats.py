"""Intervals, paired tests, ranks: every estimator that a table prints (numpy and scipy).

Two things make a number uncertain: which items are in the test set and which seed was drawn. Items are crossed with
seeds, so for S runs on n items the variance of a mean accuracy is (MS_item + MS_seed - MS_rest) / (n S), the mean
squares of a two-way layout; with one seed only the items speak, and the tables say so. Methods are compared on the
same items (paired), data sets are fixed. Ranges of ranks follow from Holm-corrected comparisons: 1 + the number of
methods surely better up to K - the number surely worse holds all true ranks at once with the stated confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import combinations
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CHUNK = 250  # resamples at once: 20 MB of counts at 20 000 items
LEVEL = 0.95
GROUPS = 200  # tie groups; their number can grow as fast as 3^(K/3)


class Interval(NamedTuple):
    low: float
    high: float


class MeanSquares(NamedTuple):
    item: float
    seed: float
    rest: float


@dataclass(frozen=True)
class Answers:
    """Correct or not, for every run of one data set on the same items in the same order."""

    name: str
    items: str  # hash of the test items: part of the seed of the resamples
    correct: NDArray[np.bool_]  # (n, runs)
    owner: tuple[int, ...]  # runs -> method


@cache
def z_value(level: float = LEVEL) -> float:
    """Normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: float, n: int, level: float = LEVEL) -> Interval:
    """Interval of a share of n items (Wilson 1927): inside [0, 1] and of positive width at 0 and 1 too."""
    if n < 1:
        raise ValueError(f"an interval needs at least one item, got n = {n}")
    z2 = z_value(level) ** 2
    middle = (hits + z2 / 2) / (n + z2)
    half = sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def item_variance(share: float, n: int) -> float:
    """Variance of a share from its n items, never zero: that of the Wilson interval's middle."""
    z2 = z_value() ** 2
    p = (share * n + z2 / 2) / (n + z2)
    return p * (1 - p) / n


def mean_squares(correct: NDArray[np.bool_] | Array) -> MeanSquares:
    """Two-way layout of items (rows) by seeds (columns) without repetition; needs two of each."""
    values = np.asarray(correct, dtype=np.float64)
    n, s = values.shape
    if n < 2 or s < 2:
        raise ValueError(f"mean squares need at least 2 items and 2 seeds, got {n} and {s}")
    grand = values.mean()
    item = s * float(np.sum((values.mean(1) - grand) ** 2))
    seed = n * float(np.sum((values.mean(0) - grand) ** 2))
    rest = float(np.sum((values - grand) ** 2)) - item - seed
    return MeanSquares(item / (n - 1), seed / (s - 1), max(0.0, rest) / ((n - 1) * (s - 1)))


def mean_variance(correct: NDArray[np.bool_] | Array) -> float:
    """Variance of the mean of an items x seeds layout over new items and new seeds; one seed: over new items."""
    values = np.asarray(correct, dtype=np.float64)
    n, s = values.shape
    if s == 1:
        return float(values[:, 0].var(ddof=1)) / n
    ms = mean_squares(values)
    return max(ms.item + ms.seed - ms.rest, ms.rest) / (n * s)


def difference_variance(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> float:
    """Variance of the mean over data sets of mean(a) - mean(b), each pair on the same items; seeds independent.

    The seeds' share is pooled over the data sets before it is kept from being negative, as one data set's few seeds
    say little about it.
    """
    total = luck_a = luck_b = 0.0
    for a, b in pairs:
        items = a.mean(1, dtype=np.float64) - b.mean(1, dtype=np.float64)
        total += float(items.var(ddof=1)) / len(items)
        luck_a += seed_variance(a)
        luck_b += seed_variance(b)
    return (total + max(0.0, luck_a) + max(0.0, luck_b)) / len(pairs) ** 2


def seed_variance(correct: NDArray[np.bool_]) -> float:
    """Estimated variance of a mean due to its seeds alone; unbiased, so it may be negative; 0 for one seed."""
    n, s = correct.shape
    if s < 2:
        return 0.0
    ms = mean_squares(correct)
    return (ms.seed - ms.rest) / (n * s)


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Exact two-sided p of a paired comparison of two runs: sign test over the items where they differ."""
    from scipy.stats import binomtest

    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def paired_p(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided p that a and b (items x seeds) are equally good: exact for one run each, else normal or t."""
    from scipy.stats import t

    if a.shape[1] == 1 and b.shape[1] == 1:
        return mcnemar(a[:, 0], b[:, 0])
    variance = difference_variance([(a, b)])
    difference = float(a.mean() - b.mean())
    if variance == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    freedom = seed_freedom(a, b, variance)
    return float(2 * t.sf(abs(difference) / np.sqrt(variance), freedom))


def seed_freedom(a: NDArray[np.bool_], b: NDArray[np.bool_], variance: float) -> float:
    """Degrees of freedom (Satterthwaite): few seeds know their spread badly, many items know theirs well."""
    n = len(a)
    squares = seeds = 0.0
    for side in (a, b):
        part = max(0.0, seed_variance(side))
        seeds += part
        squares += part**2 / max(1, side.shape[1] - 1)
    squares += max(0.0, variance - seeds) ** 2 / (n - 1)
    return variance**2 / squares if squares > 0 else float(n - 1)


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


def effect(value: float, draws: Array) -> Effect:
    """A difference and its resampled values (resamples,)."""
    half = z_value() * float(np.std(draws, ddof=1))
    return Effect(float(value), Interval(float(value) - half, float(value) + half))


def resample(sets: Sequence[Answers], weights: Sequence[float], methods: int, resamples: int = 1000) -> Array:
    """(resamples, methods): weighted mean accuracy over data sets, items and seeds drawn again.

    All methods share the drawn items. Counts of drawn items times correctness is one matrix product per data set.
    Each data set has its own stream, named by its name and items, so that adding one moves no other.
    """
    total = np.zeros((resamples, methods))
    scale = _seed_scales(sets, weights, methods)
    for answers, weight in zip(sets, weights, strict=True):
        rng = np.random.default_rng(list(sha256(f"{answers.name}|{answers.items}".encode()).digest()))
        runs = [np.flatnonzero(np.array(answers.owner) == m) for m in range(methods)]
        right = answers.correct.astype(np.float32)
        observed = answers.correct.mean(0)
        mix = np.zeros((right.shape[1], methods))
        for m, own in enumerate(runs):
            mix[own, m] = 1.0 / len(own)
        for start in range(0, resamples, CHUNK):
            size = min(CHUNK, resamples - start)
            total[start:start + size] += weight * (_drawn(rng, len(right), size) @ right / len(right)) @ mix
        for m, own in enumerate(runs):
            if len(own) > 1 and scale[m] > 0:
                drawn = observed[own][rng.integers(0, len(own), (resamples, len(own)))].mean(1)
                total[:, m] += weight * scale[m] * (drawn - observed[own].mean())
    return total


def _drawn(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    """(size, n): how often each item is drawn in each of `size` resamples of n items."""
    counts = np.empty((size, n), np.float32)
    for row in counts:  # int64 draws: 76 µs for 20 000, 16 bits take 118; then 26 µs to count
        row[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    return counts


def _seed_scales(sets: Sequence[Answers], weights: Sequence[float], methods: int) -> list[float]:
    """Per method: drawing S of S seeds shows (S-1)/S of their variance, and part of that is the items' own noise."""
    scales = []
    for m in range(methods):
        seed = rest = 0.0
        s = 1
        for answers, weight in zip(sets, weights, strict=True):
            own = answers.correct[:, np.array(answers.owner) == m]
            if own.shape[1] > 1:
                n, s = own.shape
                ms = mean_squares(own)
                seed += weight**2 * ms.seed / (n * s)
                rest += weight**2 * ms.rest / (n * s)
        scales.append(float(np.sqrt(s / (s - 1) * max(0.0, 1 - rest / seed))) if s > 1 and seed > 0 else 0.0)
    return scales


@dataclass(frozen=True)
class Ranking:
    """Position by position of the given methods; ranks count from 1, the best."""

    mean: Array  # (K,)
    error: Array  # (K,) standard error of each mean
    adjusted: Array  # (K, K) Holm-adjusted p of each pair; 1 on the diagonal
    ranks: tuple[tuple[int, int], ...]  # range that holds all true ranks at once
    letters: tuple[str, ...]  # methods that share a letter are not told apart
    likely: tuple[tuple[int, int], ...]  # middle 95 % of the resampled ranks, for the picture


def ranking(mean: Sequence[float], draws: Array, level: float = LEVEL) -> Ranking:
    """Ranks and tie groups of K methods from their means and the resampled means (resamples, K)."""
    from scipy.stats import norm, rankdata

    k = len(mean)
    means = np.asarray(mean, dtype=np.float64)
    spread = np.atleast_2d(np.cov(draws, rowvar=False))
    variance = np.diag(spread)[:, None] + np.diag(spread)[None, :] - 2 * spread
    gap = np.abs(means[:, None] - means[None, :])
    error = np.sqrt(np.maximum(variance, 0.0))
    p_values = np.where(error > 1e-12, 2 * norm.sf(gap / np.maximum(error, 1e-12)), (gap == 0.0).astype(float))
    upper = np.triu_indices(k, 1)
    adjusted = np.ones((k, k))
    adjusted[upper] = holm(list(p_values[upper]))
    adjusted = np.minimum(adjusted, adjusted.T)
    sure = adjusted <= 1 - level
    better = [int(np.sum(sure[i] & (means > means[i]))) for i in range(k)]
    worse = [int(np.sum(sure[i] & (means < means[i]))) for i in range(k)]
    drawn = k - rankdata(draws, method="max", axis=1) + 1
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, method="closest_observation")
    return Ranking(means, np.std(draws, axis=0, ddof=1), adjusted,
                   tuple((1 + b, k - w) for b, w in zip(better, worse, strict=True)), tie_letters(means, sure),
                   tuple((int(a), int(b)) for a, b in zip(low, high, strict=True)))


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
    return chr(97 + position) if position < 26 else f"{_letter(position // 26 - 1)}{chr(97 + position % 26)}"
