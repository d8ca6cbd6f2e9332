"""Fixed splits that keep the classes' shares: in each class images are ordered by a hash of their names and cut.

No random numbers: the same names give the same splits on every machine, and a smaller share of a training list lies
within every larger one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol, TypeVar

from .card import DataError, Item


class Named(Hashable, Protocol):
    """What an order needs of an image."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)
Splits = dict[str, list[Item]]
KNOWN = ("train", "val", "trainval", "test")


def key(salt: str, name: str) -> bytes:
    """By which images are ordered before a cut."""
    return sha256(f"{salt}|{name}".encode()).digest()


def ordered(salt: str, images: Iterable[N]) -> list[N]:
    """The images in the order of their keys."""
    return sorted(images, key=lambda image: key(salt, image.name))


def counts(size: int, shares: tuple[float, float]) -> tuple[int, int]:
    """(train, val) of a class of this size; the rest is test, and each of the three has one image at least."""
    val, test = max(1, round(size * shares[1])), max(1, round(size * (1 - sum(shares))))
    if size - val - test < 1:
        raise DataError(f"a class of {size} images cannot be cut into train, val and test")
    return size - val - test, val


def cut(salt: str, classes: Mapping[int, Sequence[N]], shares: tuple[float, float], cap: int = 0) -> dict[
        str, dict[int, list[N]]]:
    """Split -> label -> images; `shares`: of train and val, `cap`: images of a class at most, the first in order."""
    found: dict[str, dict[int, list[N]]] = {"train": {}, "val": {}, "test": {}}
    for label, members in classes.items():
        row = ordered(salt, members)[:cap or None]
        train, val = counts(len(row), shares)
        found["train"][label] = row[:train]
        found["val"][label] = row[train:train + val]
        found["test"][label] = row[train + val:]
    return found


def listed(salt: str, parts: Mapping[str, Mapping[int, Sequence[N]]], split: str, percent: int = 100) -> list[Item]:
    """The items of a split in the order of their keys; `percent` of each class's training and validation images."""
    if split not in KNOWN:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(KNOWN)}")
    wanted = ("train", "val") if split == "trainval" else (split,)
    found: list[tuple[bytes, Item]] = []
    for part in wanted:
        for label, row in parts[part].items():
            kept = row if part == "test" else row[:max(1, round(len(row) * percent / 100))]
            found += [(key(salt, image.name), Item(image, label)) for image in kept]  # type: ignore[arg-type]
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]
