"""Successive halving over epochs: what is behind on validation early is trained no further. No torch.

Jamieson & Talwalkar, AISTATS 2016 (arXiv:1502.07943). A bracket of configurations is trained for a quarter of the
epochs; the better half goes on to half of them, and the better half of these to the end: half the epochs of a full
search.

Differs from Optuna's SuccessiveHalvingPruner, whose rule this is, in that a cut waits for the whole bracket: Optuna's
decides as each score arrives and lets everything through that equals the last one kept, so that the number of epochs
depends on order and on ties. Here it follows from the budget alone, which makes it the same for all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal

from results.selections import Candidate

Prune = Literal["none", "halving"]
PRUNE: tuple[Prune, ...] = ("none", "halving")
FACTOR = 2  # of a bracket one in so many goes on
CUTS = 2  # so a quarter of the epochs, half of them, all
BRACKET = FACTOR**CUTS  # configurations that a sampler which learns proposes together


def until(epochs: int, stage: int) -> int:
    """After how many epochs a run stops at a stage, from 0 on; 0: at its end."""
    stop = ceil(epochs / FACTOR**CUTS) * FACTOR**stage
    return 0 if stage >= CUTS or stop >= epochs else stop


def stages(epochs: Sequence[int]) -> int:
    """How often a bracket whose runs have so many epochs is scored, its end among them; short runs are over sooner."""
    return 1 + sum(any(until(e, stage) for e in epochs) for stage in range(CUTS))


def places(count: int) -> int:
    """How many of a bracket go on past a cut."""
    return max(1, count // FACTOR)


def keep(found: Sequence[Candidate], order: Sequence[int]) -> set[int]:
    """Numbers of those that go on: `order` ranks all that have a score, best first. One that failed goes nowhere."""
    alive = {c.number for c in found if c.score is not None}
    return set([number for number in order if number in alive][:places(len(found))])


def runs(count: int, epochs: Sequence[int]) -> int:
    """How many runs a bracket needs, `epochs` being those of one configuration's runs."""
    total, alive = 0, count
    for _ in range(stages(epochs)):
        total, alive = total + alive * len(epochs), places(alive)
    return total
