"""Which images nothing may be pre-trained on: every validation and test image of the cards of packages and of digits.

An image is known by its file's bytes and by its pixels at 64 x 64, so that a copy in another file, another folder or
another size of the same picture is found too.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from . import registry
from .card import Card, DataError, Source
from .door import sha256_of
from .images import name_of, open_rgb
from .packages import Held

SIDE = 64
HELD_OUT = ("val", "test")


class Print(NamedTuple):
    """What an image is known by; `file` is empty for one that lies with others in a file."""

    card: str
    split: str
    name: str
    file: str
    pixels: str


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
    """Of every validation and test image of a card, in the order of its lists. Raises DataError if one is missing."""
    for split in HELD_OUT:
        if split in card.splits:
            for item in card.items(root, split):
                yield Print(card.name, split, name_of(item.image, root), bytes_of(item.image), pixels_of(item.image))


def held_out(root: Path = Path()) -> tuple[set[str], list[str]]:
    """(hashes of bytes and of pixels of all held-out images, cards whose package is not here)."""
    found: set[str] = set()
    absent: list[str] = []
    for card in registry.cards("real"):
        try:
            for one in prints(card, root):
                found |= {one.pixels, *filter(None, (one.file,))}
        except DataError:
            absent.append(card.name)
    return found, absent
