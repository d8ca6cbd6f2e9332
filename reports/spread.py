"""How far means would move with other test items and other seeds: variances, what is borrowed, and the quantiles.

A mean over seeds and items has two causes of error. The items' part is known from many items (paired: all rows answer
the same ones). The seeds' part is known from two to five seeds a data set, so badly that a normal quantile breaks its
promise. Two remedies:

Limited borrowing. Rows of one table share what they know of their seeds' spread: each row's variance is compared with
the mean of all; where they vary no more than few seeds explain, the mean stands for every row and has the degrees of
freedom of all rows together. Where they vary more, a row of large variance keeps part of its own (after Smyth 2004,
the prior's weight by moments), with fewer degrees of freedom. No row is taken to be steadier than the mean.

A quantile of both parts. With A the variance of the mean that the seeds show (it contains R, the items' chance noise,
known well from many items), A f / X with X of chi squared with f degrees is what A may truly be. The error is the
mixture of normals (t for few items) of variance V + max(0, A f / X - R), V being the items' part. It is Student's t
where seeds are everything, and the normal where they cannot matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NODES = 96  # of the mixture: p to 2e-4 of itself down to 1e-6, against Student's t
MANY = 1000  # items' degrees of freedom from which Student's t is taken for the normal, a tenth of its time
TINY = 1e-24
UNKNOWN = 0.25  # variance of an answer at most: what a single item leaves


@dataclass(frozen=True)
class Answers:
    """Correct or not, for every run of one data set on the same items in the same order."""

    name: str
    items: str  # hash of the test items; equal where data sets are tested on the same
    correct: NDArray[np.bool_]  # (n, runs)
    owner: tuple[int, ...]  # runs -> row
    training: str = ""  # further test sets of the same runs have the same; "" stands for `name`
    weight: float = 1.0  # in the mean: of its data set, and of its class where that is a mean over classes


class Luck(NamedTuple):
    """Of K rows, each a weighted mean: what their seeds show."""

    shown: Array  # (K,) variance of the mean from seeds and chance together, after borrowing: A
    chance: Array  # (K,) the share of items' chance in it: R
    freedom: float  # degrees of freedom behind `shown`; 0 when nothing is known
    lent: tuple[int, ...]  # rows of one seed somewhere, which have the spread of others
    alone: bool  # in some training set no row has two seeds: nothing is known of its spread


class Training(NamedTuple):
    """K rows trained on one data set; NaN where a row has fewer than two seeds."""

    seeds: Array  # (K,) how many
    variance: Array  # (K,) over seeds, of one run's weighted share
    chance: Array  # (K,) what the items' chance alone would make of it


def luck(trainings: Sequence[Training], lend: bool = True) -> Luck:
    """What K rows know of their seeds together; without `lend`, rows of one seed are given none."""
    rows = len(trainings[0].seeds)
    shown, chance, typical, own_squares = (np.zeros(rows) for _ in range(4))
    pooled = squares = 0.0
    lent: set[int] = set()
    alone = False
    own_typical = np.zeros(rows)
    for t in trainings:
        known = t.seeds > 1
        if not known.any():
            alone = True
            continue
        middle = float(np.average(t.variance[known], weights=t.seeds[known] - 1))
        noise = float(np.average(t.chance[known], weights=t.seeds[known] - 1))
        lent |= set(map(int, np.flatnonzero(~known)))
        counted = known if not lend else np.ones(rows, bool)
        shown += np.where(counted, np.where(known, t.variance, middle) / t.seeds, 0.0)
        chance += np.where(counted, np.where(known, t.chance, noise) / t.seeds, 0.0)
        typical += np.where(counted, middle / t.seeds, 0.0)
        own_typical += np.where(known, middle / t.seeds, 0.0)
        own_squares += np.where(known, (middle / t.seeds) ** 2 / np.maximum(t.seeds - 1, 1), 0.0)
        mean = middle / float(t.seeds[known].mean())
        pooled += mean
        squares += mean**2 / float((t.seeds[known] - 1).sum())
    if squares == 0.0:
        return Luck(np.zeros(rows), np.zeros(rows), 0.0, tuple(sorted(lent)), alone)
    freedom = np.where(own_squares > 0, own_typical**2 / np.maximum(own_squares, TINY), 0.0)
    factor, total = borrow(np.where(typical > 0, shown / np.maximum(typical, TINY), 1.0), freedom, pooled**2 / squares)
    return Luck(typical * factor, chance, total, tuple(sorted(lent)), alone)


def borrow(ratio: Array, freedom: Array, total: float) -> tuple[Array, float]:
    """(K,) variances over the common one, and how well each is known -> factors of at least 1, degrees of freedom.

    Ratios of equal rows vary by 2 / freedom. What they vary beyond it is the rows' own.
    """
    known = freedom > 0
    factor = np.ones(len(ratio))
    if known.sum() < 2:
        return factor, total
    own = float(freedom[known].mean())
    beyond = (float(ratio[known].var(ddof=1)) - 2 / own) / (1 + 2 / own)
    if beyond <= 0:
        return factor, total
    prior = 4 + 2 / beyond  # degrees of freedom of a scaled inverse chi squared of this relative variance
    factor[known] = np.maximum(1.0, (prior + own * ratio[known]) / (prior + own))
    return factor, min(total, prior + own)


@lru_cache(512)
def _nodes(freedom: float) -> tuple[Array, Array]:
    """f / X at quantiles of chi squared, dense where X is small, and their weights."""
    from scipy.special import gammaincinv

    v = (np.arange(NODES) + 0.5) / NODES
    weight = v**3
    return freedom / (2 * gammaincinv(freedom / 2, v**4)), weight / weight.sum()


def tail(gap: Array, items: Array, shown: Array, chance: Array, freedom: float, item_freedom: float = np.inf) -> Array:
    """Two-sided p of differences (...) under the mixture of the module's head; 1 or 0 where nothing varies."""
    from scipy.special import ndtr, stdtr

    scale, weight = _nodes(round(freedom, 3)) if freedom > 0 else (np.zeros(1), np.ones(1))
    variance = items[..., None] + np.maximum(0.0, shown[..., None] * scale - chance[..., None])
    error = np.abs(gap)[..., None] / np.sqrt(np.maximum(variance, TINY))
    below = ndtr(-error) if item_freedom > MANY else stdtr(item_freedom, -error)
    return np.asarray(np.minimum(1.0, (2 * below) @ weight), dtype=np.float64)


def half_width(items: Array, shown: Array, chance: Array, freedom: float, item_freedom: float = np.inf,
               level: float = 0.95) -> Array:
    """(...) gaps whose p is 1 - level: bisection, to a part in 10^6; 0 where nothing varies."""
    items, shown, chance = np.atleast_1d(items), np.atleast_1d(shown), np.atleast_1d(chance)
    unit = np.sqrt(items + shown)
    low, high = np.zeros_like(unit), unit * 1e4
    for _ in range(50):
        middle = (low + high) / 2
        wide = tail(middle, items, shown, chance, freedom, item_freedom) > 1 - level
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(unit > 0, high, 0.0)


@dataclass(frozen=True)
class Spread:
    """Weighted means of K rows over data sets, and everything that makes them uncertain."""

    mean: Array  # (K,)
    items: Array  # (K, K) covariance of the means over new items
    luck: Luck
    item_freedom: float

    def p_values(self) -> Array:
        """(K, K) two-sided p that two rows are equally good; 1 on the diagonal."""
        k = len(self.mean)
        first, second = np.triu_indices(k, 1)
        contrasts = np.zeros((len(first), k))
        contrasts[np.arange(len(first)), first] = 1.0
        contrasts[np.arange(len(first)), second] = -1.0
        p = np.ones((k, k))
        p[first, second] = p[second, first] = self.p_of(contrasts)
        return p

    def p_of(self, contrasts: Array) -> Array:
        """(C,) two-sided p that contrasts (C, K) of the means are 0."""
        return tail(contrasts @ self.mean, *self._parts(contrasts))

    def half(self, contrasts: Array, level: float = 0.95) -> Array:
        """(C,) half widths of the intervals of contrasts (C, K)."""
        return half_width(*self._parts(contrasts), level=level)

    def _parts(self, c: Array) -> tuple[Array, Array, Array, float, float]:
        items = np.maximum(0.0, np.einsum("ck,kl,cl->c", c, self.items, c, optimize=True))
        square = c**2
        return items, square @ self.luck.shown, square @ self.luck.chance, self.luck.freedom, self.item_freedom


def spread_of(sets: Sequence[Answers], weights: Sequence[float], rows: int) -> Spread:
    """Means of `rows` rows over data sets, from every answer.

    Data sets on the same items share their noise; further test sets of the same runs share their luck.
    """
    mean = np.zeros(rows)
    told: dict[str, tuple[Array, float]] = {}  # items -> (n, K) weighted answers, their weight
    sums: dict[tuple[str, tuple[int, ...]], tuple[Array, Array]] = {}  # runs -> their weighted shares; chance (K,)
    for answers, weight in zip(sets, weights, strict=True):
        each, chance, share = _layout(answers, rows)
        mean += weight * each.mean(0)
        before, heavy = told.get(answers.items, (np.zeros_like(each), 0.0))
        told[answers.items] = before + weight * each, heavy + weight
        key = (answers.training or answers.name, answers.owner)
        luck_before, noise = sums.get(key, (np.zeros(len(share)), np.zeros(rows)))
        sums[key] = luck_before + weight * share, noise + weight**2 * chance
    items = np.zeros((rows, rows))
    total = squares = 0.0
    for each, heavy in told.values():
        part = _covariance(each, heavy)
        items += part
        size = float(np.trace(part))
        total, squares = total + size, squares + size**2 / max(1, len(each) - 1)
    trainings = [_training(np.array(owner), shares, chance, rows) for (_, owner), (shares, chance) in sums.items()]
    return Spread(mean, items, luck(trainings), total**2 / squares if squares > 0 else np.inf)


def chance_of(correct: NDArray[np.bool_]) -> float | None:
    """What the items' chance alone makes of the variance over seeds of one run's accuracy; None for one seed."""
    runs = correct.shape[1]
    return None if runs < 2 else float(_layout(Answers("", "", correct, (0,) * runs), 1)[1][0])


def _layout(answers: Answers, rows: int) -> tuple[Array, Array, Array]:
    """(n, K) share of a row's seeds that answer right; (K,) MS_rest / n; (runs,) share of items right."""
    owner = np.array(answers.owner)
    n = len(answers.correct)
    seeds = np.bincount(owner, minlength=rows).astype(np.float64)
    mix = np.zeros((len(owner), rows), np.float32)
    mix[np.arange(len(owner)), owner] = 1 / np.maximum(seeds[owner], 1)
    each = (answers.correct.astype(np.float32) @ mix).astype(np.float64)
    share = answers.correct.mean(0, dtype=np.float64)
    middle = each.mean(0)
    every = n * seeds * middle * (1 - middle)
    item = seeds * ((each - middle) ** 2).sum(0)
    seed = n * np.bincount(owner, (share - middle[owner]) ** 2, minlength=rows)
    rest = np.maximum(0.0, every - item - seed) / np.maximum((n - 1) * (seeds - 1), 1)
    return each, np.where(seeds > 1, rest / n, np.nan), share


def _covariance(each: Array, weight: float) -> Array:
    """(K, K) of the means of (n, K) answers over new items; one item tells nothing, so the most that can be."""
    n, rows = each.shape
    if n == 1:
        return np.eye(rows) * weight**2 * UNKNOWN
    centred = each - each.mean(0)
    return np.asarray(centred.T @ centred / (n - 1) / n, dtype=np.float64)


def _training(owner: NDArray[np.int_], shares: Array, chance: Array, rows: int) -> Training:
    seeds = np.bincount(owner, minlength=rows).astype(np.float64)
    middle = np.bincount(owner, shares, minlength=rows) / np.maximum(seeds, 1)
    squares = np.bincount(owner, (shares - middle[owner]) ** 2, minlength=rows)
    return Training(seeds, np.where(seeds > 1, squares / np.maximum(seeds - 1, 1), np.nan), chance)

