"""Digits: 1,797 real handwritten digits of 8x8 pixels that ship inside scikit-learn (Alpaydin and Kaynak, UCI, 1998).

The split is fixed and stratified: in each class the images are ordered by the SHA-256 of their index; the first 24
train, the next 6 are val, the rest is test. `digits_10` has the first 2 and 1 of these, a tenth, and the same test
images. Nothing lies under the data root.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from .card import Card, DataError, Item
from .registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

TRAIN, VAL = 24, 6  # per class
CLASSES = 10
SHARES = {100: (TRAIN, VAL), 10: (2, 1)}  # percent of the training images -> what of these is kept


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


def items(root: Path, split: str, share: int = 100) -> list[Item]:
    """The items of one split, in hash order; the data root plays no part."""
    train, val = SHARES[share]
    pieces: dict[str, list[tuple[int, int | None]]] = {
        "train": [(0, train)], "val": [(TRAIN, TRAIN + val)], "test": [(TRAIN + VAL, None)]}
    pieces["trainval"] = pieces["train"] + pieces["val"]
    if split not in pieces:
        raise DataError(f"no split is called {split!r}; there are: train, val, trainval, test")
    labels = _load()[1]
    chosen: list[int] = []
    for label in range(CLASSES):
        row = sorted((i for i, found in enumerate(labels) if found == label), key=order)
        chosen += [index for start, stop in pieces[split] for index in row[start:stop]]
    return [Item(Digit(index), labels[index]) for index in sorted(chosen, key=order)]


for _share, (_train, _val) in SHARES.items():
    register(Card(
        name="digits" + (f"_{_share}" if _share < 100 else ""),
        title="Digits (scikit-learn)" + (f", {_share} % of the training images" if _share < 100 else ""), group="real",
        classes=CLASSES, splits={"train": CLASSES * _train, "val": CLASSES * _val,
                                 "trainval": CLASSES * (_train + _val), "test": 1497},
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        license="CC BY 4.0 (recalled)", cite="alpaydin1998digits", folder="",
        layout="nothing: the images ship inside scikit-learn", items=partial(items, share=_share),
        note="8x8 pixels, enlarged"))
