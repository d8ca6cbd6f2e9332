"""An adapter's formula as a number: `L (2 d bottleneck + bottleneck + d)` or `27 w^2 + 60 w, w = width`.

Sums, differences, products (written side by side or with *), quotients, powers and brackets over whole numbers and
names. What follows a semicolon speaks of other options and is left out; a formula in words has no number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

EVERYTHING = "all weights of the backbone"
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(.))")


class _Words(ValueError):
    """It is no arithmetic, or a name in it has no value."""


def weights_of(formula: str, values: Mapping[str, int]) -> int | None:
    """The number of weights; None when the formula is in words."""
    text, *definitions = formula.partition(";")[0].split(",")
    known = {name: Fraction(value) for name, value in values.items()}
    try:
        for one in definitions:
            name, sign, what = one.partition("=")
            if not sign:
                raise _Words(one)
            known[name.strip()] = Fraction(_value(what, known).__floor__())  # a width is a whole number
        found = _value(text, known)
    except (_Words, ZeroDivisionError):
        return None
    return int(found) if found.denominator == 1 else None


def names_in(formula: str) -> frozenset[str]:
    """The names that the formula's number depends on."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", formula.partition(";")[0]))


def _value(text: str, known: Mapping[str, Fraction]) -> Fraction:
    tokens = [m.groups() for m in _TOKEN.finditer(text.strip())]
    reader = _Reader([Fraction(n) if n else known.get(name, name) if name else sign for n, name, sign in tokens])
    found = reader.sum()
    if reader.left:
        raise _Words(text)
    return found


class _Reader:
    """Reads from the left; an unknown name stays a text, which nothing here takes for a number."""

    def __init__(self, tokens: list[Fraction | str]) -> None:
        self.left = tokens

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
            return Fraction(base ** int(self.atom()))
        return base

    def atom(self) -> Fraction:
        token = self._next()
        if isinstance(token, Fraction):
            self.left.pop(0)
            return token
        if token != "(":
            raise _Words(token)
        self.left.pop(0)
        found = self.sum()
        if self._next() != ")":
            raise _Words("an open bracket")
        self.left.pop(0)
        return found
