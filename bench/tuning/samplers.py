"""Which configurations are tried: grid, random, TPE; all from one seed. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from math import prod
from typing import Any, Literal

from .spaces import Config, Options, Range, Space

Sampler = Literal["grid", "random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("grid", "random", "tpe")
STARTUP = 5  # trials before TPE begins to model
RETRIES = 50  # draws until a configuration is new; small spaces run out


def grid(space: Space, budget: int) -> list[Config]:
    """At most `budget` points: levels are added to the settings in turn, first named first, while they fit."""
    most = {name: len(one.values) if isinstance(one, Options) else budget for name, one in space.items()}
    levels = dict.fromkeys(space, 1)
    grown = True
    while grown:
        grown = False
        for name in space:
            wider = levels | {name: levels[name] + 1}
            if levels[name] < most[name] and prod(wider.values()) <= budget:
                levels, grown = wider, True
    axes = [space[name].levels(count) for name, count in levels.items()]
    return [dict(zip(levels, point, strict=True)) for point in product(*axes)]


@dataclass
class Proposer:
    """Proposes configurations and is told their scores. The same scores give the same proposals, so that an
    interrupted or widened search goes on where it was: what was tried is proposed again and found done."""

    space: Space
    sampler: Sampler
    budget: int
    seed: int
    first: Config = field(default_factory=dict)  # tried first by random and tpe: the settings as they are
    bracket: int = 1  # configurations that tpe proposes together, before it is told of any

    def __post_init__(self) -> None:
        self.tried: list[Config] = []
        self.over = False
        self._asked: list[Any] = []
        if self.sampler != "grid":
            self.study = _study(self.sampler, self.seed)
            if self.first and all(self.space[k].holds(v) for k, v in self.first.items()):
                self.study.enqueue_trial(self.first)

    def next(self) -> list[Config]:
        """The configurations that can be tried now; none when the budget or the space is used up."""
        if self.over or len(self.tried) >= self.budget:
            return []
        if self.sampler == "grid":
            self.over = True
            self.tried = grid(self.space, self.budget)
            return list(self.tried)
        count = min(self.bracket, self.budget - len(self.tried)) if self.sampler == "tpe" else self.budget
        found: list[Config] = []
        while len(found) < count and not self.over:
            config = self._draw()
            if config is None:
                self.over = True
            else:
                found.append(config)
                self.tried.append(config)
        return found

    def tell(self, scores: Sequence[float | None], stopped: Sequence[int] = ()) -> None:
        """Scores of what `next` gave last; None for a configuration that failed.

        `stopped`: at which stage each was set aside, from 1 on; 0: never. TPE ranks these behind all that went on.
        """
        for trial, score, stage in zip(self._asked, scores, stopped or [0] * len(scores), strict=True):
            if stage and score is not None:
                trial.report(score, stage)
                self.study.tell(trial, state=_state("PRUNED"))
            else:
                self.study.tell(trial, 0.0 if score is None else score)
        self._asked = []

    def _draw(self) -> Config | None:
        for _ in range(RETRIES):
            trial = self.study.ask(_distributions(self.space))
            config = {name: one.clean(trial.params[name]) if isinstance(one, Range) else trial.params[name]
                      for name, one in self.space.items()}
            if config not in self.tried:
                self._asked.append(trial)
                return config
            self.study.tell(trial, state=_state("FAIL"))
        return None


def _study(sampler: Sampler, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.samplers.RandomSampler(seed) if sampler == "random" else optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, seed=seed)
    return optuna.create_study(direction="maximize", sampler=made)


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, one in space.items():
        if isinstance(one, Options):
            found[name] = CategoricalDistribution(one.values)
        elif one.whole:
            found[name] = IntDistribution(round(one.low), round(one.high), log=one.log)
        else:
            found[name] = FloatDistribution(one.low, one.high, log=one.log)
    return found


def seed_of(seed: int, *names: str) -> int:
    """A sampler's seed for one study, 31 bits."""
    return int.from_bytes(sha256("|".join((str(seed), *names)).encode()).digest()[:4], "big") >> 1
