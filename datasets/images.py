"""Items become images: decoded by content, never by extension, always RGB; a broken file is named.

Greyscale, CMYK, RGBA, palette and 16-bit files are converted; a picture that claims more than `LIMIT` pixels is refused
before it is decoded. Hashes of what a split holds are defined here too.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import door
from .card import DataError, Item, Pair, Source, Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Picture = Image | NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
LIMIT = 89_478_485  # pixels; where Pillow begins to warn of a decompression bomb


class Sample(NamedTuple):
    """One image of a split; `index` is its position there and stays the same in every epoch."""

    image: Picture
    label: int | float
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


def name_of(image: Path | Source, root: Path | None = None) -> str:
    """The name by which an image is hashed and reported; below the data root where it is a file."""
    if isinstance(image, Path):
        return image.relative_to(root).as_posix() if root and image.is_relative_to(root) else image.as_posix()
    return image.name


def to_rgb(image: Image) -> Image:
    """Any mode to 8-bit RGB; alpha is dropped, not blended, as every peer does."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip at 255
        image = image.point(lambda value: value / 256).convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _decoded(opened: Image, image: Path | Source) -> Image:
    with opened:
        width, height = opened.size
        if width * height > LIMIT:
            raise DataError(f"{name_of(image)} claims {width} x {height} pixels; more than {LIMIT} are refused")
        opened.load()
        return to_rgb(opened)


def open_rgb(image: Path | Source) -> Image:
    """The picture as RGB, fully decoded."""
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)  # our own limit is stricter
            if not isinstance(image, Path):
                return _decoded(image.open(), image)
            with door.opened(image, "image") as handle:
                return _decoded(pil.open(handle, formats=FORMATS), image)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name_of(image)} does not exist") from None
    except MemoryError:
        raise
    except UnidentifiedImageError:  # Pillow's own sentence names the handle, not the file
        raise DataError(f"{name_of(image)} cannot be read as an image: it holds none of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise many kinds; whichever it is, this file cannot be read
        raise DataError(f"{name_of(image)} cannot be read as an image: {error or type(error).__name__}") from None


def to_array(image: Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8."""
    import numpy as np

    return np.asarray(image, dtype=np.uint8)


class ImageList(Sequence[Sample]):
    """A split, opened image by image: index -> (image, label, index)."""

    def __init__(self, items: Sequence[Item], as_array: bool = False):
        self.items = items
        self.as_array = as_array

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # slices make no sense here
        item = self.items[index]
        image = open_rgb(item.image)
        return Sample(to_array(image) if self.as_array else image, item.label, index % len(self.items))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @property
    def labels(self) -> list[int | float]:
        return [item.label for item in self.items]


def split_hash(items: Sequence[Item], root: Path | None = None) -> str:
    """SHA-256 over names and labels in order: the same images in the same places. Opens nothing."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{name_of(item.image, root)}\t{item.label}\n".encode())
    return digest.hexdigest()


def content_hash(items: Sequence[Item]) -> str:
    """SHA-256 over decoded pixels, texts and labels in order: the same pictures, whatever the files are called."""
    digest = hashlib.sha256()
    for item in items:
        held = item.image
        if isinstance(held, Text | Pair):
            text = held if isinstance(held, Text) else held.text
            digest.update(f"{(text.a, text.b, item.label)!r}\n".encode())
            if isinstance(held, Text):
                continue
            held = held.image
        image = open_rgb(held)
        digest.update(b"%d %d %d\n" % (*image.size, item.label))
        digest.update(image.tobytes())
    return digest.hexdigest()
