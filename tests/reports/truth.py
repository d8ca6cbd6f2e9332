"""Answers whose truth is known: a share per item, alike for all methods, and luck per seed, method and data set.

An item is answered right with its own chance, drawn once and nearly the same for every method (few items are
undecided, as with trained networks). Every run, a seed of one method on one data set, moves all of these chances by its
luck, normal with the given spread. The true difference of two methods is the difference of their gaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from reports.spread import Answers

MIDDLE, WIDE, OWN, EDGE = 1.5, 8.0, 0.02, 0.05  # of the items' chances; the edge leaves room for luck and gaps
Draw = NDArray[np.bool_]  # (n, methods, seeds)


def drawn(rng: np.random.Generator, methods: int, sets: int, n: int, seeds: int, spread: float | Sequence[float],
          gaps: Sequence[float] | None = None) -> list[Draw]:
    """Data sets drawn anew; `spread` (of every method or of each) and `gaps` in points."""
    found = []
    for _ in range(sets):
        ease = np.sqrt(1 - OWN) * rng.standard_normal((n, 1)) + np.sqrt(OWN) * rng.standard_normal((n, methods))
        share = EDGE + (1 - 2 * EDGE) * expit(MIDDLE + WIDE * ease) + np.asarray(gaps or 0.0) / 100
        luck = np.broadcast_to(np.asarray(spread) / 100, methods)[:, None] * rng.standard_normal((methods, seeds))
        sure = np.clip((share[:, :, None] + luck) * 65536, 0, 65535.9).astype(np.uint16)
        found.append(np.frombuffer(rng.bytes(2 * sure.size), np.uint16).reshape(sure.shape) < sure)
    return found


def level() -> float:
    """The true accuracy of a method without a gap."""
    x = np.linspace(-8, 8, 4001)
    weight = np.exp(-x * x / 2)
    return float(EDGE + (1 - 2 * EDGE) * (expit(MIDDLE + WIDE * x) * weight).sum() / weight.sum())


def answers(draws: Sequence[Draw]) -> list[Answers]:
    """As the estimators take them."""
    found = []
    for d, right in enumerate(draws):
        n, methods, seeds = right.shape
        owner = tuple(int(m) for m in np.repeat(np.arange(methods), seeds))
        found.append(Answers(f"set {d}", f"items {d}", right.reshape(n, -1), owner))
    return found
