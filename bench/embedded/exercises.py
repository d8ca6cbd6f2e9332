"""Sentences as batches with answers: what the embedded text encoder is asked in pre-training.

Half the examples are pairs. Of any example: which facts a sentence states, and how; how two sentences agree, fact by
fact (same, other, not stated in both), asked of the whole and again of every word that states a fact; were two
neighbours swapped, and which; do words of praise, of blame, of negation occur, without what the sentence says with
them; and the words that are masked. Everything follows from one number, so a run can go on anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.embedded import language
from bench.embedded.language import FACTS, FIRST, KINDS, MASK, PAD, SEPARATOR, SPECIAL, Said, Scene

LENGTH = 40  # tokens at most, marks included
NO_LABEL = -100
Array = NDArray[np.int64]
SAME, OTHER, UNSTATED = range(3)
STATED = {fact: len(values) + 1 for fact, values in language.WORDS.items()}  # what it can be, and not stated
PAIRS, VERDICTS, MASKED, SWAPPED = 0.6, 0.35, 0.4, 0.4  # shares: of all, of single ones, of all, of those not masked
MASKS = 0.15  # share of the words
NUMBERS = {word: number for number, word in enumerate(language.vocabulary())}
KIND_OF = {word: kind for kind, words in enumerate(KINDS.values()) for word in words}


@dataclass(frozen=True)
class Exercises:
    """B examples of L tokens with their answers, NO_LABEL where a question is not asked."""

    ids: Tensor  # (B, L) int64
    hidden: Tensor  # (B, L) the word that was masked
    stated: Tensor  # (B, 7) of single sentences: what each fact is, its number of values where it is not stated
    agree: Tensor  # (B, 7) of pairs: SAME, OTHER, UNSTATED
    agree_at: Tensor  # (B, L) the same at each word that states a fact
    swapped: Tensor  # (B,) 0 or 1
    swapped_at: Tensor  # (B, L)
    kinds: Tensor  # (B, 3) 0 or 1

    def __len__(self) -> int:
        return len(self.ids)


class Example(NamedTuple):
    """One or two sentences and what is known of them."""

    said: list[Said]
    scenes: list[Scene]  # of each sentence; none of a verdict


def _sentence(of: Scene, said: frozenset[str], chance: Random, company: float) -> Said:
    if len(said) < 4 and chance.random() < 0.2:
        return language.card(of, said - {"form"} if len(said) > 1 and chance.random() < 0.5 else said, chance)
    return language.sentence(of, said, chance, chance.random() < company)


def example(chance: Random, most: int) -> Example:
    """A pair, a single sentence or a verdict, of LENGTH tokens and `most` facts in a sentence at most."""
    if chance.random() >= PAIRS:
        if chance.random() < VERDICTS:
            return Example([language.verdict(chance)], [])
        of = language.scene(chance)
        return Example([_sentence(of, language.some(chance, 1, most), chance, 0.15)], [of])
    while True:
        of = language.scene(chance)
        other = language.changed(of, language.pick((0.0, 0.15, 0.4, 0.8), chance), chance)
        said = language.some(chance, 1, most)
        again = said if chance.random() < 0.5 else language.some(chance, 1, most)
        told = [_sentence(of, said, chance, 0.05), _sentence(other, again, chance, 0.05)]
        if sum(map(len, told)) + 3 <= LENGTH:
            return Example(told, [of, other])


def _facts(told: Said) -> frozenset[int]:
    return frozenset(fact for _, fact in told if fact >= 0)


def _swap(told: Said, chance: Random) -> int:
    """Swap two neighbours that differ, the last mark left alone; where the first of them stands."""
    places = [i for i in range(len(told) - 2) if told[i][0] != told[i + 1][0]]
    at: int = language.pick(places, chance)
    told[at], told[at + 1] = told[at + 1], told[at]
    return at


def draw(count: int, seed: int, most: int = len(FACTS)) -> Exercises:
    """So many examples, the same for the same number; `most`: facts in a sentence."""
    chance = Random(seed)
    rows = [example(chance, most) for _ in range(count)]
    length = max(1 + sum(len(told) + 1 for told in row.said) for row in rows)
    made = {name: np.full(shape, NO_LABEL, np.int64) for name, shape in {
        "ids": (count, length), "hidden": (count, length), "stated": (count, len(FACTS)),
        "agree": (count, len(FACTS)), "agree_at": (count, length), "swapped": (count,), "swapped_at": (count, length),
        "kinds": (count, len(KINDS))}.items()}
    made["ids"].fill(PAD)
    for i, row in enumerate(rows):
        _write(row, {name: value[i:i + 1] for name, value in made.items()}, chance)
    return Exercises(**{name: torch.from_numpy(value) for name, value in made.items()})


def _write(row: Example, made: dict[str, Array], chance: Random) -> None:
    """An example into its row: (1, ...) of each array."""
    masked = chance.random() < MASKED
    swap = not masked and chance.random() < SWAPPED
    side = int(chance.random() * len(row.said))
    at = _swap(row.said[side], chance) if swap else -2
    covered = [[masked and chance.random() < MASKS for _ in told] for told in row.said]
    unknown = {fact for told, cover in zip(row.said, covered, strict=True)
               for (_, fact), hidden in zip(told, cover, strict=True) if hidden}
    for fact in range(len(FACTS)) if row.scenes else ():
        if fact not in unknown:
            answer, name = _answer(row, fact)
            made[name][0, fact] = answer
    made["ids"][0, 0], place = FIRST, 1
    for number, (told, cover) in enumerate(zip(row.said, covered, strict=True)):
        for j, ((word, fact), hidden) in enumerate(zip(told, cover, strict=True)):
            made["ids"][0, place] = NUMBERS[word]
            if hidden:
                made["hidden"][0, place] = NUMBERS[word]
                made["ids"][0, place] = _cover(NUMBERS[word], chance)
            elif fact >= 0:
                made["agree_at"][0, place] = made["agree"][0, fact]
            if not masked:
                made["swapped_at"][0, place] = int(swap and number == side and j in (at, at + 1))
            place += 1
        made["ids"][0, place] = SEPARATOR
        place += 1
    if not masked:
        made["swapped"][0] = int(swap)
        found = {KIND_OF[word] for told in row.said for word, _ in told if word in KIND_OF}
        made["kinds"][0] = [int(kind in found) for kind in range(len(KINDS))]


def _answer(row: Example, fact: int) -> tuple[int, str]:
    """What is right of a fact, and which question that answers."""
    stated = [any(fact == known for _, known in told) for told in row.said]
    if len(row.said) == 1:
        return (row.scenes[0][fact] if stated[0] else STATED[FACTS[fact]] - 1), "stated"
    if not all(stated):
        return UNSTATED, "agree"
    return (SAME if row.scenes[0][fact] == row.scenes[1][fact] else OTHER), "agree"


def _cover(word: int, chance: Random) -> int:
    """The mask, or in one of ten cases any word, in one the word itself (Devlin et al., NAACL 2019)."""
    turn = chance.random()
    return MASK if turn < 0.8 else word if turn < 0.9 else \
        len(SPECIAL) + int(chance.random() * (len(NUMBERS) - len(SPECIAL)))
