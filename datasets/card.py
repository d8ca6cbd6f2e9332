"""What a data set promises: its card, and the items that it lists. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

Group = Literal["natural", "specialized", "structured", "fgvc", "imagenet", "fewshot", "shift", "real", "own", "other",
                "glue", "text", "captions"]
Task = Literal["classify", "regress", "match"]
Input = Literal["image", "text", "pair"]
Metric = Literal["top1", "class_mean", "mcc", "f1_acc", "pearson_spearman", "rmean"]
THINGS: Mapping[Input, str] = {"image": "images", "text": "texts", "pair": "pairs"}
Split = Literal["train", "val", "trainval", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "trainval", "test")


class Source(Protocol):
    """An image that is not a file of its own (a row of an archive, a record of a shard)."""

    @property
    def name(self) -> str: ...

    def open(self) -> Image: ...


@dataclass(frozen=True)
class Text:
    """One text, or two that belong together; `name` says where it lies in its set, `file` which file holds it.

    It stands where an image stands in an `Item`, so that whatever names, counts and hashes items does so with texts.
    """

    name: str
    a: str
    b: str | None = None
    file: Path | None = None

    def open(self) -> Image:
        """A text has no picture: raises DataError."""
        raise DataError(f"{self.name} is a text and no image; it needs a text backbone")


@dataclass(frozen=True)
class Pair:
    """A picture and one caption of it."""

    image: Path | Source
    text: Text

    @property
    def name(self) -> str:
        """The caption's, which says the picture's too: a picture has several captions."""
        return self.text.name

    @property
    def file(self) -> Path | None:
        """The file that holds the picture."""
        return self.image if isinstance(self.image, Path) else getattr(self.image, "file", None)

    def open(self) -> Image:
        """A pair is no picture, but holds one: raises DataError."""
        raise DataError(f"{self.name} is a picture with a caption; it needs a backbone of two towers")


class Item(NamedTuple):
    """One image, text or pair, unopened, and its label: 0-based, or a score where the card's task is to regress.

    Where the task is to match, the label is the number of the picture in its split, the same for all its captions.
    """

    image: Path | Source  # a `Text` and a `Pair` are sources
    label: int | float


class File(NamedTuple):
    """A file to be fetched by hand or by script: where from, what it hashes to, how long it is."""

    url: str
    sha256: str
    bytes: int


def shown(text: str) -> str:
    """A foreign name, or a sentence that holds one, on one line: signs that print nothing are spelled out, as \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DataError(Exception):
    """The user's data is missing or broken: the message says which file, what was expected, and what to do.

    It is one line, whatever a file is called.
    """

    def __init__(self, text: str) -> None:
        super().__init__(shown(text))


@dataclass(frozen=True)
class Card:
    """A data set: its names, its classes, its promises (checked by `bench data check`), and how to list it."""

    name: str
    title: str
    group: Group
    classes: int  # 1 where there are none: a score, pairs to match
    splits: Mapping[str, int]  # images (texts, pairs) per split, keyed by SPLITS: a promise
    source: str
    license: str
    cite: str
    folder: str  # where it lies under the data root
    layout: str  # one phrase: what a user must place there
    items: Callable[[Path, str], Sequence[Item]]  # (data root, split) -> items in a fixed order
    metric: Metric = "top1"
    aliases: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    by_hand: str = ""  # what a person must accept or place
    note: str = ""  # what must be said beside every number (for instance "our reading")
    supersedes: str = ""
    train_transform: Literal["plain", "crop_flip"] = "plain"  # the protocol's augmentation for this family
    facts: Mapping[str, str] = field(default_factory=dict)
    folds: int = 1  # of a test split of pairs: so many runs of pictures are ranked each alone too, COCO's "1K" numbers
    class_names: tuple[str, ...] = ()  # by label; empty where they are not known
    home: Callable[[], Path] | None = None  # where it lies of itself (a package, a note); raises DataError: what to do
    task: Task = "classify"
    input: Input = "image"
    texts: int | None = None  # of a set of texts: 1, or 2 that belong together; None: its items tell
    remarks: Callable[[Path], Sequence[str]] | None = None  # (data root) -> what is passed over in reading, and why

    @property
    def things(self) -> str:
        """What its items are, in a word of many."""
        return THINGS[self.input]

    def many(self, count: int) -> str:
        """`1 image`, `2 images`."""
        return f"{count} {self.things.removesuffix('s') if count == 1 else self.things}"

    def place(self, root: Path) -> Path:
        """What `items` is given: the data root where it holds the set, else the set's own home if it has one.

        Raises DataError where there is neither, saying what to do.
        """
        if self.home is None or (self.folder and (root / self.folder).is_dir()):
            return root
        return self.home()
