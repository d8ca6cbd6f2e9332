"""Tuning: what may be searched for a method, and which configurations are tried. No torch.

Each part states its own search space in its file, `search = {"lr": (1e-4, 1e-2, "log"), "lora.rank": (4, 8, 16)}`:
a range with its scale ("log" or "linear"; whole numbers stay whole) or a list of choices. The spaces of a method's
parts are laid together, a later part's word on a shared setting wins. What the user has set herself is not searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

from methods.catalog import PartInfo, Scalar
from methods.grammar import MethodText, parse
from results.schema import RunSpec

Config = dict[str, Scalar]
FIELDS = ("lr", "weight_decay", "head_lr_scale")  # of a spec that tuning may choose: rows of a table may differ in them
DEFAULT: dict[str, tuple[Any, ...]] = {"lr": (1e-4, 1e-2, "log")}  # for an adapter that states nothing
DIGITS = 3  # drawn numbers are rounded to so many, so that they can be read and typed


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
