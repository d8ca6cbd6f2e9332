"""Encoded images inside one HDF5 file, under the path that a list names: PACE's form of image lists."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import hdf5
from .card import DataError, Item
from .door import LIMITS
from .lists import Problems, complain, lines
from .vtab.pools import reading

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "images.hdf5"


@dataclass(frozen=True)
class H5Image:
    """One encoded image inside an HDF5 file."""

    file: Path
    key: str

    @property
    def name(self) -> str:
        return f"{self.file.as_posix()}/{self.key}"

    def read(self) -> bytes:
        """The encoded bytes, stored as a fixed-length string (PACE) or as a vector of uint8 (ours)."""
        with reading(self.file):
            try:
                held = hdf5.dataset(hdf5.kept(self.file), self.key, LIMITS["image"], types="uS")
            except KeyError:
                raise DataError(f"{self.file} holds no {self.key!r}") from None
            value = held[()]
            return value.tobytes() if value.dtype == "uint8" else bytes(value)

    def open(self) -> Image:
        from PIL import Image

        from .images import FORMATS

        return Image.open(io.BytesIO(self.read()), formats=FORMATS)


def read_list(
    file: Path, packed: Path, classes: int, layout: str, problems: Problems | None = None, drop: str = ""
) -> list[Item]:
    """As `lists.read_list`, for images inside an HDF5 file; `drop` is the start of a path that keys leave out."""
    found = []
    for where, path, text in lines(file, layout, problems):
        if path.startswith("/") or ".." in path.split("/"):
            complain(problems, f"{where}: {path!r} leaves the folder of the data set")
        elif int(text) >= classes:
            complain(problems, f"{where}: label {int(text)} is out of range; the labels are 0 to {classes - 1}")
        else:
            found.append(Item(H5Image(packed, path.removeprefix(drop)), int(text)))
    return found
