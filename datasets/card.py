"""What a data set promises: its card, and the items that it lists. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

Group = Literal["natural", "specialized", "structured", "fgvc", "imagenet", "fewshot", "shift", "real", "own", "other"]
Split = Literal["train", "val", "trainval", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "trainval", "test")


class Source(Protocol):
    """An image that is not a file of its own (a row of an archive, a record of a shard)."""

    @property
    def name(self) -> str: ...

    def open(self) -> Image: ...


class Item(NamedTuple):
    """One image, unopened, and its label (0-based)."""

    image: Path | Source
    label: int


class File(NamedTuple):
    """A file to be fetched by hand or by script: where from, what it hashes to, how long it is."""

    url: str
    sha256: str
    bytes: int


class DataError(Exception):
    """The user's data is missing or broken: the message says which file, what was expected, and what to do."""


@dataclass(frozen=True)
class Card:
    """A data set: its names, its classes, its promises (checked by `bench data check`), and how to list it."""

    name: str
    title: str
    group: Group
    classes: int
    splits: Mapping[str, int]  # images per split, keyed by SPLITS: a promise
    source: str
    license: str
    cite: str
    folder: str  # where it lies under the data root
    layout: str  # one phrase: what a user must place there
    items: Callable[[Path, str], Sequence[Item]]  # (data root, split) -> items in a fixed order
    metric: Literal["top1", "class_mean"] = "top1"
    aliases: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    by_hand: str = ""  # what a person must accept or place
    note: str = ""  # what must be said beside every number (for instance "our reading")
    supersedes: str = ""
    train_transform: Literal["plain", "crop_flip"] = "plain"  # the protocol's augmentation for this family
    facts: Mapping[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()  # by label; empty where they are not known
    home: Callable[[], Path] | None = None  # where it lies of itself (a package, a note); raises DataError: what to do

    def place(self, root: Path) -> Path:
        """What `items` is given: the data root where it holds the set, else the set's own home if it has one.

        Raises DataError where there is neither, saying what to do.
        """
        if self.home is None or (self.folder and (root / self.folder).is_dir()):
            return root
        return self.home()
