"""An adapter's formula as a number: `L (2 d bottleneck + bottleneck + d)` or `27 w^2 + 60 w, w = width`.

Sums, differences, products (written side by side or with *), quotients, powers and brackets over whole numbers and
names. What follows a semicolon speaks of other options and is left out; a formula in words has no number. One that is
no words and cannot be read either is a mistake in a method's file (`problem`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fractions import Fraction

EVERYTHING = "all weights of the backbone"
LONGEST, DEEPEST, HIGHEST = 500, 50, 16  # characters, brackets within one another, a power
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(.))")


class _Words(ValueError):
    """It is no arithmetic, or a name in it has no value."""


def weights_of(formula: str, values: Mapping[str, int]) -> int | None:
    """The number of weights; None when the formula is in words."""
    try:
        found = _number(formula, values)
    except (_Words, ZeroDivisionError):
        return None
    return int(found) if found.denominator == 1 else None


def problem(formula: str, names: Collection[str]) -> str:
    """What is wrong with the formula, as a phrase; empty for one that can be read and for one in words.

    `names` are those that have values. Words are two letters or more that are no such name: beside them nothing is a
    mistake. What has none and cannot be read was meant to be read.
    """
    text = formula.partition(";")[0]
    if not text.strip():
        return ""
    if len(text) > LONGEST:
        return f"has {len(text)} characters, of at most {LONGEST}: {text[:40]!r} ..."
    defined = {one.partition("=")[0].strip() for one in text.split(",")[1:] if "=" in one}
    if {n for n in names_in(text) if len(n) > 1} - {*names} - defined:
        return ""
    try:
        _number(text, dict.fromkeys(names, 1))
    except ZeroDivisionError:  # by these values, not by every one
        return ""
    except _Words as error:
        return f"cannot be read: {text[:80]!r}, at {str(error)[:20]!r}; known are numbers, + - * / ^ ( ) and the " \
               f"names {', '.join(sorted(names))}"
    return ""


def _number(formula: str, values: Mapping[str, int]) -> Fraction:
    """Raises _Words, ZeroDivisionError."""
    bare = formula.partition(";")[0]
    if len(bare) > LONGEST:
        raise _Words("its length")
    text, *definitions = bare.split(",")
    known = {name: Fraction(value) for name, value in values.items()}
    for one in definitions:
        name, sign, what = one.partition("=")
        if not sign:
            raise _Words(one)
        known[name.strip()] = Fraction(_value(what, known).__floor__())  # a width is a whole number
    return _value(text, known)


def names_in(formula: str) -> frozenset[str]:
    """The names that the formula's number depends on."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", formula.partition(";")[0]))


def _value(text: str, known: Mapping[str, Fraction]) -> Fraction:
    tokens = [m.groups() for m in _TOKEN.finditer(text.strip())]
    reader = _Reader([Fraction(n) if n else known.get(name, name) if name else sign for n, name, sign in tokens])
    found = reader.sum()
    if reader.left:
        raise _Words(reader.left[0])
    return found


class _Reader:
    """Reads from the left; an unknown name stays a text, which nothing here takes for a number."""

    def __init__(self, tokens: list[Fraction | str]) -> None:
        self.left = tokens
        self.depth = 0

    def _next(self) -> Fraction | str:
        return self.left[0] if self.left else ""

    def sum(self) -> Fraction:
        found = self.product()
        while self._next() in ("+", "-"):
            sign = self.left.pop(0)
            found = found + self.product() if sign == "+" else found - self.product()
        return found

    def product(self) -> Fraction:
        found = self.power()
        while self._next() in ("*", "/", "(") or isinstance(self._next(), Fraction):
            sign = self.left.pop(0) if self._next() in ("*", "/") else "*"
            found = found / self.power() if sign == "/" else found * self.power()
        return found

    def power(self) -> Fraction:
        base = self.atom()
        if self._next() == "^":
            self.left.pop(0)
            power = self.atom()
            if power.denominator != 1 or not 0 <= power <= HIGHEST:
                raise _Words("^")
            return Fraction(base ** int(power))
        return base

    def atom(self) -> Fraction:
        token = self._next()
        if isinstance(token, Fraction):
            self.left.pop(0)
            return token
        if token != "(":
            raise _Words(token or "its end")
        self.left.pop(0)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _Words("an open bracket")
        found = self.sum()
        self.depth -= 1
        if self._next() != ")":
            raise _Words("an open bracket")
        self.left.pop(0)
        return found
