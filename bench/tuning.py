"""Tuning: what may be searched for a method, and which configurations are tried. No torch.

Each part states its own search space in its file, `search = {"lr": (1e-4, 1e-2, "log"), "lora.rank": (4, 8, 16)}`:
a range with its scale ("log" or "linear"; whole numbers stay whole) or a list of choices. The spaces of a method's
parts are laid together, a later part's word on a shared setting wins. What the user has set herself is not searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import product
from math import exp, log, prod
from typing import Any, Literal

from methods.catalog import PartInfo, Scalar
from methods.grammar import MethodText, parse
from results.schema import RunSpec

Sampler = Literal["grid", "random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("grid", "random", "tpe")
Config = dict[str, Scalar]
FIELDS = ("lr", "weight_decay", "head_lr_scale")  # of a spec that tuning may choose: rows of a table may differ in them
DEFAULT: dict[str, tuple[Any, ...]] = {"lr": (1e-4, 1e-2, "log")}  # for an adapter that states nothing
DIGITS = 3  # drawn numbers are rounded to so many, so that they can be read and typed
STARTUP = 5  # trials before TPE begins to model
RETRIES = 50  # draws until a configuration is new; small spaces run out


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share: float) -> Scalar:
        """0: low, 1: high, on the range's scale."""
        if self.log:
            return self.clean(exp(log(self.low) + share * (log(self.high) - log(self.low))))
        return self.clean(self.low + share * (self.high - self.low))

    def clean(self, value: float) -> Scalar:
        """Inside the range, rounded."""
        inside = min(self.high, max(self.low, float(f"{value:.{DIGITS}g}")))
        return round(inside) if self.whole else float(inside)

    def levels(self, count: int) -> list[Scalar]:
        """So many values, evenly spread on the scale, ends included; one: the middle."""
        return list(dict.fromkeys(self.at(0.5 if count == 1 else i / (count - 1)) for i in range(count)))

    def holds(self, value: Scalar) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def text(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Options:
    values: tuple[Scalar, ...]

    def levels(self, count: int) -> list[Scalar]:
        """The first so many: a file names its most promising values first."""
        return list(self.values[:count])

    def holds(self, value: Scalar) -> bool:
        return value in self.values

    def text(self) -> str:
        return ", ".join(map(str, self.values))


Dimension = Range | Options
Space = dict[str, Dimension]


class SpaceError(ValueError):
    """A part's search space is wrong; the message names the part and the setting."""


def dimension(words: Sequence[Any]) -> Dimension:
    """`(1e-4, 1e-2, "log")` or `(4, 8, 16)`."""
    if len(words) == 3 and words[2] in ("log", "linear"):
        low, high = words[0], words[1]
        if not low < high or (words[2] == "log" and low <= 0):
            raise ValueError(f"{words!r} is no range")
        return Range(float(low), float(high), words[2] == "log", isinstance(low, int) and isinstance(high, int))
    if not words or len(set(words)) < len(words):
        raise ValueError(f"{words!r} is no list of different choices")
    return Options(tuple(words))


def space_of_part(part: PartInfo) -> Space:
    """What the part's file says; raises SpaceError."""
    stated = part.facts.get("search", DEFAULT if part.kind == "adapter" else {})
    known = {f"{part.name}.{o.name}": o for o in part.options}
    found: Space = {}
    for name, words in stated.items():
        if name not in FIELDS and name not in known:
            raise SpaceError(f"search space of {part.name!r}: {name!r} is neither one of {', '.join(FIELDS)} nor an "
                             f"option of the part ({', '.join(known) or 'it has none'})")
        try:
            found[name] = dimension(words)
        except (ValueError, TypeError) as error:
            raise SpaceError(f"search space of {part.name!r}: {name!r}: {error}") from None
        if name in known:
            one = found[name]
            ends = one.values if isinstance(one, Options) else (one.clean(one.low), one.clean(one.high))
            for value in ends:
                if problem := known[name].problem(value):
                    raise SpaceError(f"search space of {part.name!r}: {name!r} {problem}, not {value!r}")
    return found


def space_of(method: MethodText, fixed: Iterable[str] = (), instead: Mapping[str, Sequence[Any]] | None = None
             ) -> Space:
    """What is searched for a method: its parts' spaces but for what is `fixed` or differs from its default.

    `instead`: a suite's own words; a setting that it does not name is not searched.
    """
    held = set(fixed)
    for part in method.parts:
        default = {o.name: o.default for o in part.info.options}
        held |= {f"{part.name}.{k}" for k, v in part.options if v != default[k]}
    space: Space = {}
    for part in method.parts:
        space |= space_of_part(part.info)
    if instead:
        space = {name: dimension(instead[name]) for name in space if name in instead}
    return {name: one for name, one in space.items() if name not in held}


def config_of(spec: RunSpec, space: Space) -> Config:
    """The values that a spec has now."""
    options = dict(spec.options)
    return {name: options[name] if "." in name else getattr(spec, name) for name in space}


def with_config(spec: RunSpec, text: str, config: Mapping[str, Scalar]) -> RunSpec:
    """The spec under a configuration; `text` is its method before tuning. Raises MethodError for options that clash."""
    options = parse(text, dict(spec.options) | {k: v for k, v in config.items() if "." in k}).options
    fields: dict[str, Any] = {k: float(v) for k, v in config.items() if "." not in k}  # type: ignore[arg-type]
    return replace(spec, options=options, **fields)


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
        count = 1 if self.sampler == "tpe" else self.budget
        found: list[Config] = []
        while len(found) < count and not self.over:
            config = self._draw()
            if config is None:
                self.over = True
            else:
                found.append(config)
                self.tried.append(config)
        return found

    def tell(self, scores: Sequence[float | None]) -> None:
        """Scores of what `next` gave last; None for a configuration that failed."""
        for trial, score in zip(self._asked, scores, strict=True):
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
            self.study.tell(trial, state=_pruned())
        return None


def _study(sampler: Sampler, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.samplers.RandomSampler(seed) if sampler == "random" else optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, seed=seed)
    return optuna.create_study(direction="maximize", sampler=made)


def _pruned() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


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
