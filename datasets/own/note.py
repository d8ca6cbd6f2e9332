"""What is kept of a user's folder: a note beside the records, and the card that is made of it.

The note has the classes and every image's split, label and hash, so that a run on another day or in another process
reads the same images or says which has changed. Its name is the folder's last name and eight digits of its content;
the folder's place stands in the note alone, never in a record.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from .. import door
from ..card import Card, DataError, Item, shown
from ..images import FORMATS
from .divide import divide
from .scan import Found, Photo, content

if TYPE_CHECKING:
    from PIL.Image import Image

NOTES = Path(__file__).resolve().parents[2] / "results" / "folders"
PLACE = "REGATTA_FOLDERS"  # the variable that tells another process, in a snapshot perhaps, where the notes lie
MARK = "@"  # in the name of a data set: it is a user's folder, and what follows is its content


@dataclass(frozen=True)
class Own:
    """One image of a folder, known by its content."""

    name: str  # its path below the folder
    file: Path
    sha256: str

    def open(self) -> Image:
        """Raises DataError for a file that is not what it was when the data set was named."""
        from PIL import Image as pil

        data = door.read(self.file, "image")
        if sha256(data).hexdigest() != self.sha256:
            raise DataError(f"{self.name} has changed since the data set was read; name the folder again")
        return pil.open(BytesIO(data), formats=FORMATS)


def folder() -> Path:
    """Where the notes lie."""
    return Path(os.environ.get(PLACE) or NOTES)


def there(name: str, notes: Path | None = None) -> bool:
    """Whether the folder of that name was noted."""
    return ((notes or folder()) / f"{name}.json").is_file()


def here(name: str) -> bool:
    """Whether the images of that folder lie where they lay when it was noted, as far as its first one tells."""
    if not there(name):
        return False
    first = next((item.image for held in note(name, folder()).items.values() for item in held), None)
    return isinstance(first, Own) and first.file.is_file()


def settle(found: Found, seed: int, notes: Path, partial: bool = False, wanted: str = "") -> tuple[Card, list[Photo]]:
    """Divide what was found and write its note; raises DataError with all that stands in the way.

    `partial`: images that cannot be read are left aside in place of standing in the way; `wanted`: the name of the data
    set that it must be, whatever its folder is called here.
    """
    photos = divide(found, seed)
    found.judge_unreadable(partial)
    if found.problems:
        raise DataError(f"{found.name}/: " + "; ".join(found.problems))
    classes = found.classes
    label = {name: number for number, name in enumerate(classes)}
    known = wanted.rpartition(MARK)[0] or re.sub(r"[^A-Za-z0-9_-]+", "_", found.name).strip("_") or "images"
    name = f"{known}{MARK}{content(photos, classes)}"
    if wanted and name != wanted:
        raise DataError(f"{found.name}/ holds other images than {wanted!r} was made of, or was divided with another "
                        "seed, as `python -m bench data split FOLDER --seed N` divides it")
    # by content within a split: the same images in the same order, whatever the files are called
    rows = sorted(photos, key=lambda p: (p.split, p.sha256))
    told = {"name": name, "title": shown(found.name), "place": str(found.base.resolve()), "seed": seed,
            "left_out": len(found.unreadable), "classes": classes,
            "images": [[p.path, p.split, label[p.label], p.sha256] for p in rows]}
    notes.mkdir(parents=True, exist_ok=True)
    part = notes / f".{name}.part"
    # a folder's place may be no UTF-8: what no text can hold is written as JSON spells it, and read back as it was
    part.write_text(json.dumps(told, ensure_ascii=False, indent=0) + "\n", encoding="utf-8", errors="backslashreplace")
    part.replace(notes / f"{name}.json")
    _note.cache_clear()
    return card(name, notes), rows


@dataclass(frozen=True)
class Note:
    """A note as it was read: the seed of what was drawn, the classes' names, the items of train, val and test, how many
    images it lacks."""

    title: str
    seed: int
    classes: tuple[str, ...]
    items: dict[str, tuple[Item, ...]]
    left_out: int


@cache
def _note(file: Path, stamp: int) -> Note:
    try:
        told = json.loads(door.text(file))
        place = Path(told["place"])
        items: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
        for path, split, label, digest in told["images"]:
            items[split].append(Item(Own(str(path), place / path, str(digest)), int(label)))
        lost = int(told.get("left_out", 0))  # notes of before it was counted lack it
        return Note(str(told["title"]), int(told["seed"]), tuple(map(str, told["classes"])),
                    {k: tuple(v) for k, v in items.items()}, lost)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{file.name} is no note of a folder; name the folder again with folder:PATH") from None


def note(name: str, notes: Path) -> Note:
    """The note of that data set. Raises DataError where there is none."""
    file = notes / f"{name}.json"
    if not file.is_file():
        raise DataError(f"nothing is known of the folder that {name!r} was made of; name it again with folder:PATH")
    return _note(file, file.stat().st_mtime_ns)


def items(root: Path, split: str, name: str) -> list[Item]:
    """The images of a split; `root` is the folder of the notes."""
    held = note(name, root).items
    if split == "trainval":
        return [*held["train"], *held["val"]]
    if split not in held:
        raise DataError(f"no split is called {split!r}; there are: train, val, trainval, test")
    return list(held[split])


def card(name: str, notes: Path, unseen: bool = False) -> Card:
    """The card of a noted folder; `unseen`: where there is no note, one without images, for plans that look at none.

    Raises DataError where there is no note.
    """
    nothing = Note(name, 0, (), {"train": (), "val": (), "test": ()}, 0)
    found = nothing if unseen and not there(name, notes) else note(name, notes)
    sizes = {split: len(found.items[split]) for split in ("train", "val", "test")}
    return Card(
        name=name, title=found.title, group="own", classes=len(found.classes),
        splits={"train": sizes["train"], "val": sizes["val"], "trainval": sizes["train"] + sizes["val"],
                "test": sizes["test"]},
        source="a folder of the user's", license="the user's", cite="", folder="",
        layout="class folders, splits' folders, or a list", items=partial(items, name=name),
        facts={"left_out": str(found.left_out)} if found.left_out else {}, class_names=found.classes,
        home=lambda: notes)
