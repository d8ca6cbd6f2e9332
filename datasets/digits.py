"""Digits: 1,797 real handwritten digits of 8x8 pixels that ship inside scikit-learn (Alpaydin and Kaynak, UCI, 1998).

The split is fixed and stratified: in each class the images are ordered by the SHA-256 of their index; the first 24
train, the next 6 are val, the rest is test. Nothing lies under the data root.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .card import Card, DataError, Item
from .registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

TRAIN, VAL = 24, 6  # per class


@cache
def _load() -> tuple[list[bytes], list[int]]:
    """Grey pixels (values 0-16 stretched to 0-255) and labels.

    Its file is read as it lies: importing scikit-learn takes longer than many a run on these images.
    """
    import gzip
    from importlib.util import find_spec

    import numpy as np

    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits lies inside scikit-learn, which is not installed")
    try:
        with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as lines:
            table = np.fromstring(lines.read().replace("\n", ","), sep=",").reshape(-1, 65)
    except (OSError, ValueError) as error:
        raise DataError(f"digits cannot be read from scikit-learn: {error}") from None
    pixels = (table[:, :-1] * (255 / 16)).round().astype("uint8")
    return [image.tobytes() for image in pixels], [int(label) for label in table[:, -1]]


@dataclass(frozen=True)
class Digit:
    """One image of the bundled set."""

    index: int

    @property
    def name(self) -> str:
        return f"digits/{self.index:04d}"

    def open(self) -> Image:
        from PIL import Image

        return Image.frombytes("L", (8, 8), _load()[0][self.index])


@cache
def order(index: int) -> bytes:
    """The key by which images are sorted before the cut."""
    return hashlib.sha256(f"digits|{index}".encode()).digest()


def items(root: Path, split: str) -> list[Item]:
    """The items of one split, in hash order; the data root plays no part."""
    both = TRAIN + VAL
    taken = {"train": (0, TRAIN), "val": (TRAIN, both), "trainval": (0, both), "test": (both, None)}
    if split not in taken:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(taken)}")
    start, stop = taken[split]
    labels = _load()[1]
    chosen: list[int] = []
    for label in range(10):
        chosen += sorted((i for i, found in enumerate(labels) if found == label), key=order)[start:stop]
    return [Item(Digit(index), labels[index]) for index in sorted(chosen, key=order)]


register(
    Card(
        name="digits",
        title="Digits (scikit-learn)",
        group="real",
        classes=10,
        splits={"train": 240, "val": 60, "trainval": 300, "test": 1497},
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        license="CC BY 4.0 (recalled)",
        cite="alpaydin1998digits",
        folder="",
        layout="nothing: the images ship inside scikit-learn",
        items=items,
        note="8x8 pixels, enlarged",
    )
)
