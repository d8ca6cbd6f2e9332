"""Sentences about a small world: so many things of a size, a colour, a fill and a form, at a place, on a ground.

What a scene is and how it is said; the questions that stand-ins ask about it are in `language` and `archives`. Words
are what pre-training on such sentences may share with them, questions are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")

WORDS: dict[str, tuple[tuple[str, ...], ...]] = {  # fact -> what it can be -> the words for that
    "number": (("one",), ("two",), ("three",), ("four",), ("five",)),
    "size": (("small", "little"), ("large", "big")),
    "hue": (("red",), ("orange",), ("yellow",), ("green",), ("blue",), ("purple",), ("pink",), ("brown",)),
    "fill": (("plain", "even"), ("striped", "lined"), ("spotted", "dotted"), ("hollow", "empty")),
    "form": (("disc",), ("square",), ("triangle",), ("ring",), ("oval",)),
    "place": (("left",), ("right",), ("top",), ("bottom",), ("middle",)),
    "ground": (("dark", "dim"), ("pale", "light"), ("sandy",), ("grassy",), ("misty",)),
}
FACTS = tuple(WORDS)
PRAISE = ("lovely", "clear", "charming", "fine", "pleasing", "clever", "bright", "graceful")
BLAME = ("dull", "ugly", "clumsy", "dreary", "poor", "boring", "shabby", "tiresome")


class Chance:
    """The random choices of one row, from its place alone; the same on every machine."""

    def __init__(self, *place: object) -> None:
        told = "|".join(map(str, place)).encode()
        self._source = Random(int.from_bytes(hashlib.sha256(told).digest()[:8], "big"))

    def below(self, count: int) -> int:
        """0 to count - 1."""
        return int(self._source.random() * count)

    def pick(self, values: Sequence[T]) -> T:
        """One of them."""
        return values[self.below(len(values))]

    def some(self, values: Sequence[T], count: int) -> list[T]:
        """So many of them, in their order."""
        left = list(range(len(values)))
        chosen = sorted(left.pop(self.below(len(left))) for _ in range(count))
        return [values[i] for i in chosen]


class Scene(NamedTuple):
    """A place in the words of each fact."""

    number: int
    size: int
    hue: int
    fill: int
    form: int
    place: int
    ground: int

    @property
    def plural(self) -> bool:
        return self.number > 0


def scene(chance: Chance) -> Scene:
    """Any scene."""
    return Scene(*(chance.below(len(WORDS[fact])) for fact in FACTS))


def changed(of: Scene, facts: Collection[str], chance: Chance) -> Scene:
    """The scene with another value of each of these facts."""
    new = {}
    for fact in (fact for fact in FACTS if fact in facts):
        most = len(WORDS[fact])
        new[fact] = (getattr(of, fact) + 1 + chance.below(most - 1)) % most
    return of._replace(**new)


def word(of: Scene, fact: str, chance: Chance) -> str:
    """One of the words for what this fact is there."""
    return chance.pick(WORDS[fact][getattr(of, fact)])


def things(of: Scene, said: Collection[str], chance: Chance, plural: bool | None = None) -> str:
    """`two small red discs`, of the facts that are said; `plural`: of the noun, where it is to be wrong."""
    told = named(of, said, chance, plural)
    if of.plural or "number" in said:
        return told
    return f"{'an' if told[0] in 'aeiou' else 'a'} {told}"


def named(of: Scene, said: Collection[str], chance: Chance, plural: bool | None = None) -> str:
    """The same without an article, for behind `the` and `this`."""
    words = [word(of, fact, chance) for fact in ("number", "size", "hue", "fill") if fact in said]
    noun = word(of, "form", chance) + ("s" if (of.plural if plural is None else plural) else "")
    return " ".join([*words, noun])


def lie(plural: bool) -> str:
    """The verb that agrees."""
    return "lie" if plural else "lies"


def sentence(of: Scene, said: Collection[str], chance: Chance, noun: bool | None = None,
             verb: bool | None = None) -> str:
    """The scene in one of four forms; `noun`, `verb`: whether these stand in the plural, where that is to be wrong."""
    what = things(of, said, chance, noun)
    plural = of.plural if verb is None else verb
    place = f" at the {word(of, 'place', chance)}" if "place" in said else ""
    ground = f"on a {word(of, 'ground', chance)} ground" if "ground" in said else ""
    after = f" {ground}" if ground else ""
    return chance.pick((
        f"{what} {lie(plural)}{place or ' there'}{after} .",
        f"there {'are' if plural else 'is'} {what}{place}{after} .",
        f"{ground or 'here'} {lie(plural)} {what}{place} .",
        f"in this picture {what} {lie(plural)}{place or ' there'}{after} .",
    ))


def verdict(good: bool, chance: Chance, thing: str) -> str:
    """Praise or blame of a thing; a denied word of the one is the other."""
    denied = chance.below(2) == 1
    told = chance.pick(PRAISE if good != denied else BLAME)
    much = chance.pick(("very ", "rather ", "so ", ""))
    if denied:
        return chance.pick((f"{thing} is not {much}{told} .", f"nobody calls {thing} {much}{told} .",
                            f"{thing} is never {told} ."))
    return chance.pick((f"{thing} is {much}{told} .", f"how {told} {thing} is .", f"{thing} is always {much}{told} ."))
