"""Which images and texts nothing may be pre-trained on: all for validation and test of packages' cards and of digits.

An image is known by its file's bytes and by its pixels at 64 x 64, so that a copy in another file, another folder or
another size of the same picture is found too. A text is known by its words, without regard to case and blanks; of a
pair both are.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from . import registry, sameness
from .card import Card, DataError, Group, Pair, Source, Text
from .door import sha256_of
from .images import name_of, open_rgb
from .packages import Held

SIDE = 64
HELD_OUT = ("val", "test")


class Print(NamedTuple):
    """What an image or a text is known by; `file` is empty for one that lies with others in a file."""

    card: str
    split: str
    name: str
    file: str
    pixels: str  # of a text: its words


def pixels_of(image: Path | Source) -> str:
    """SHA-256 over the picture as RGB, transparent places white, resized to 64 x 64 (bicubic)."""
    from PIL.Image import Resampling

    return sha256(open_rgb(image).resize((SIDE, SIDE), Resampling.BICUBIC).tobytes()).hexdigest()


def bytes_of(image: Path | Source) -> str:
    """SHA-256 over the image's file; empty for an image that is none of its own."""
    if isinstance(image, Held):
        return sha256(image.read()).hexdigest()
    return sha256_of(image) if isinstance(image, Path) else ""


def prints(card: Card, root: Path) -> Iterator[Print]:
    """Of every validation and test item of a card, in the order of its lists. Raises DataError if one is missing.

    A picture of several captions comes once.
    """
    for split in HELD_OUT:
        pictures: set[Path | Source] = set()
        for item in card.items(root, split) if split in card.splits else ():
            image = item.image
            if isinstance(image, Text | Pair):
                text = image if isinstance(image, Text) else image.text
                yield Print(card.name, split, text.name, "", sameness.print_of(text))
            if isinstance(image, Pair):
                image = image.image
            if not isinstance(image, Text) and image not in pictures:
                pictures.add(image)
                yield Print(card.name, split, name_of(image, root), bytes_of(image), pixels_of(image))


def held_out(root: Path = Path(), groups: tuple[Group, ...] = ("real",)) -> tuple[set[str], list[str]]:
    """(hashes of bytes, pixels and words of all that is held out, cards whose package is not here)."""
    found: set[str] = set()
    absent: list[str] = []
    for card in registry.cards(*groups):
        try:
            for one in prints(card, root):
                found |= {one.pixels, *filter(None, (one.file,))}
        except DataError:
            absent.append(card.name)
    return found, absent
