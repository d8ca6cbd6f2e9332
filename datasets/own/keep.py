"""A user's folder made lasting: a card of its own in this package, or her splits written beside her images."""

from __future__ import annotations

import csv
import json
import keyword
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .. import door
from ..card import Card, DataError
from . import note
from .scan import Photo

NAME = re.compile(r"[a-z][a-z0-9_]*")
SPLIT_FILE = "regatta-split.csv"
CARD = '''"""{title}: a folder of images, divided as {name}.json beside this file says."""

from __future__ import annotations

from pathlib import Path

from .own.keep import kept
from .registry import register

# What a reader of the tables should know; the classes, the splits and every image's hash are in {name}.json.
register(kept(
    Path(__file__).with_suffix(".json"),
    title={title!r},
    source="https://example.org/ (say where the images come from)",
    license="say under which terms they may be used",
    cite="",
))
'''


def kept(file: Path, title: str, source: str, license: str, cite: str) -> Card:
    """The card of a noted folder, under the note's own name; the images lie in `<data root>/<name>` or where they lay.

    Raises DataError for a note that is none.
    """
    name, home = file.stem, file.parent
    found = note.note(name, home)
    sizes = {split: len(found.items[split]) for split in ("train", "val", "test")}
    return Card(
        name=name, title=title, group="own", classes=len(found.classes),
        splits={"train": sizes["train"], "val": sizes["val"], "trainval": sizes["train"] + sizes["val"],
                "test": sizes["test"]},
        source=source, license=license, cite=cite, folder="", layout=f"the images that {name}.json names",
        note=f"without {lost} of their images, which could not be read" if (lost := found.left_out) else "",
        items=partial(note.items, name=name), class_names=found.classes, home=lambda: home)


def write_card(name: str, card: Card, notes: Path, package: Path) -> list[Path]:
    """Write `<name>.py` and `<name>.json` into the package of data sets; returns them. Nothing is overwritten.

    Raises DataError for a name that cannot be one.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise DataError(f"a card's name has small letters, digits and _ and begins with a letter; {name!r} has not")
    files = [package / f"{name}.py", package / f"{name}.json"]
    if found := next((f for f in files if f.exists()), None):
        raise DataError(f"{found.parent.name}/{found.name} exists already; choose another name or remove it")
    told = json.loads(door.text(notes / f"{card.name}.json"))
    files[1].write_text(json.dumps(told | {"name": name}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    files[0].write_text(CARD.format(name=name, title=card.title), encoding="utf-8")
    return files


def write_split(base: Path, photos: Sequence[Photo]) -> Path:
    """Write every image's path, label and split into the user's own folder; nothing is overwritten."""
    file = base / SPLIT_FILE
    try:
        with file.open("x", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(("path", "label", "split"))
            rows.writerows((p.path, p.label, p.split) for p in sorted(photos, key=lambda p: (p.split, p.path)))
    except FileExistsError:
        raise DataError(f"{SPLIT_FILE} exists already in {base.name}/; remove it to write another") from None
    except OSError as error:
        raise DataError(f"{base.name}/ takes no file: {error.strerror}") from None
    return file
