"""Which pictures the distilled backbone learns from: Open Clip Art and Fashion-MNIST's training images, less all tests.

No picture is used that is a validation or test image of any card, known by its file's bytes and by its pixels at
64 x 64 (`datasets.exclusion`). The card `shared_clipart` is tested on whole, so all drawings of the classes that clip
art shares with the stamps fall away. Stamps, solar cells and digits are read for their hashes alone. The drawings are
in the public domain by their authors' dedication, Fashion-MNIST is under the MIT licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling

from datasets import clipart, exclusion, fashion
from datasets.images import open_rgb
from datasets.packages import Grey, Held

GARMENTS = 15_000  # the first so many of Fashion-MNIST's 60,000 training images
GARMENT = 28  # pixels on a side
DRAWING = 160  # pixels on a side, stretched: a view shows all of a drawing at 128
APART = 10  # one picture in ten is never learnt from: recipes are compared on these
PRINT = 12  # hexadecimal digits of a hash that are committed


@dataclass(frozen=True)
class Collection:
    """Pictures in the order of their names, drawings first; prints are hashes of their pixels at 64 x 64."""

    names: list[str]
    prints: list[str]
    drawings: NDArray[np.uint8]  # (D, 160, 160, 3)
    garments: NDArray[np.uint8]  # (G, 28, 28)
    counts: dict[str, int]  # what was found, what fell away, what is used

    def rows(self, apart: bool) -> NDArray[np.int64]:
        """Positions of the pictures that are learnt from, or of those set apart; which is which follows from hashes."""
        chosen = [int(mark[:8], 16) % APART == 0 for mark in self.prints]
        return np.flatnonzero(np.array(chosen, dtype=bool) == apart)

    def save(self, file: Path) -> None:
        """Under another name first, so that no reader sees half a file."""
        draft = file.with_suffix(".part.npz")
        np.savez(draft, names=self.names, prints=self.prints, drawings=self.drawings, garments=self.garments,
                 counts=np.array(list(self.counts.items()), dtype=object).astype(str))
        draft.replace(file)


def load(file: Path) -> Collection:
    """What `save` wrote."""
    with np.load(file) as found:
        return Collection(found["names"].tolist(), found["prints"].tolist(), found["drawings"], found["garments"],
                          {name: int(number) for name, number in found["counts"]})


def barred(root: Path = Path()) -> set[str]:
    """Hashes, of bytes and of pixels, of every validation and test image. SystemExit where a card's are absent."""
    hashes, absent = exclusion.held_out(root)
    if absent:
        raise SystemExit(f"the images of {', '.join(absent)} are not here, so nothing can be kept apart from them; "
                         "`python -m bench data fetch NAME` says which package brings them")
    return hashes


def collect(hashes: set[str], root: Path = Path(), garments: int = GARMENTS) -> Collection:
    """All pictures that may be learnt from: none in `hashes`, none twice. Raises DataError naming an absent package."""
    names, prints, seen = [], [], set()
    pixels: dict[str, list[NDArray[np.uint8]]] = {"drawings": [], "garments": []}
    counts: dict[str, int] = {}
    for kind, images in (("drawings", _drawings(root)), ("garments", _garments(root, garments))):
        counts |= {f"{kind} found": 0, f"{kind} held out by a card": 0, f"{kind} shown before": 0, f"{kind} used": 0}
        for image in images:
            mark = exclusion.pixels_of(image)
            held_out = mark in hashes or exclusion.bytes_of(image) in hashes
            why = "held out by a card" if held_out else "shown before" if mark in seen else "used"
            counts[f"{kind} found"] += 1
            counts[f"{kind} {why}"] += 1
            if why == "used":
                seen.add(mark)
                names.append(image.name)
                prints.append(mark)
                pixels[kind].append(_pixels(image))
    return Collection(names, prints, np.stack(pixels["drawings"]), np.stack(pixels["garments"]), counts)


def _drawings(root: Path) -> Iterator[Held]:
    package, inner = clipart.SOURCES["clipart"]
    yield from clipart.scan(package.base(root, clipart.LAYOUT[0]) / inner, "clipart").images.values()


def _garments(root: Path, count: int) -> Iterator[Grey]:
    file = fashion.FASHION.base(root, fashion.LAYOUT) / "train-images-idx3-ubyte.gz"
    for i in range(count):
        yield Grey(file, f"fashion-mnist/train/{i:05d}", fashion.HEAD["images"] + i * GARMENT**2, GARMENT)


def _pixels(image: Any) -> NDArray[np.uint8]:
    if isinstance(image, Grey):
        return np.frombuffer(image.pixels(), np.uint8).reshape(GARMENT, GARMENT)
    return np.asarray(open_rgb(image).resize((DRAWING, DRAWING), Resampling.BICUBIC))
