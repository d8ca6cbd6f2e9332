"""What lies in a user's folder: every image with its class, its split where one is given, its hash, and all problems.

Three forms are read: class folders; `train`, `val` and `test` folders of class folders; a CSV, TSV or JSON-lines file
with a path, a label and perhaps a split in each row. Nothing is ever written into her folder. Every image is decoded
once, so that all that is wrong is told together; what was found is kept by each file's size and times.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from .. import door
from ..card import DataError
from ..images import open_rgb
from ..lists import Tree

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
LISTS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # a folder's or a row's word -> the split it means
PATH, LABEL, SPLIT = ("path", "file", "filename", "image"), ("label", "class", "category"), ("split", "subset")
FORMS = ("class folders; train/, val/ and test/ folders of class folders; or a .csv, .tsv or .jsonl file with the "
         "columns path, label and perhaps split")

Known = dict[str, tuple[list[int], str, str]]  # path -> (stamp of the file, sha256, why it cannot be read)


@dataclass(frozen=True)
class Photo:
    """One image: its path below the folder, its class, the split that was given for it ("" for none), its content."""

    path: str
    label: str
    split: str
    sha256: str
    bytes: int


class Unread(NamedTuple):
    """An image that no run can use: its path below the folder, and why."""

    path: str
    why: str


@dataclass
class Found:
    """A folder as it lies there. `problems` stand in the way of a run, `remarks` are told.

    What is unreadable stands in the way too, unless it is to be left aside.
    """

    base: Path
    name: str
    photos: list[Photo] = field(default_factory=list)
    unreadable: list[Unread] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # folders whose names begin with a dot
    loose: list[str] = field(default_factory=list)  # images that lie in no class folder
    named: set[str] = field(default_factory=set)  # classes that a folder or a row names

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted; a label is its place here."""
        return sorted({photo.label for photo in self.photos})

    def judge_unreadable(self, aside: bool) -> None:
        """Tell what cannot be read: as left aside, which needs an image that can, or as what stands in the way."""
        count = len(self.unreadable)
        if not count:
            return
        what = f"{count} image{'s' if count > 1 else ''}"
        if aside and self.photos:
            self.remarks.append(f"{what} that cannot be read left aside: {_some([u.path for u in self.unreadable])}")
        else:
            self.problems.insert(0, f"{what} cannot be read: {_some([' '.join(u) for u in self.unreadable])}")
            if not aside:
                self.problems.append("mend or remove them, or give --partial to leave them aside")


def scan(place: Path, known: Known | None = None, tell: Callable[[], None] = lambda: None) -> Found:
    """Everything in the folder, or that the list names; `tell` is called after each image.

    `known` has what an earlier scan found and takes up what this one does. Raises DataError where the place is none of
    the forms.
    """
    if not place.exists():
        raise DataError(f"folder:{place} does not exist; expected there: {FORMS}")
    if place.is_file():
        if place.suffix.lower() not in LISTS:
            raise DataError(f"folder:{place} is a file; expected: {FORMS}")
        found = Found(place.parent, place.resolve().parent.name)
        rows = _listed(place, found)
    elif place.is_dir():
        found = Found(place, place.resolve().name)
        rows = _folders(found)
    else:
        raise DataError(f"folder:{place} is neither a folder nor a file; expected: {FORMS}")
    _read(found, list(rows), {} if known is None else known, tell)
    _tell_aside(found)
    if not found.photos and not found.unreadable and not found.problems:
        what = f"the images of {found.name}/ lie in no class folder" if found.loose else \
            f"no image ({', '.join(SUFFIXES)}) was found in {found.name}/"
        found.problems.append(f"{what}; expected there: {FORMS}")
    return found


def _tell_aside(found: Found) -> None:
    """What lies in the folder and is not read, and classes of which nothing is."""
    if names := sorted(dict.fromkeys(found.hidden)):
        found.remarks.append(f"hidden by the dot that {'their names begin' if len(names) > 1 else 'its name begins'} "
                             f"with, and left aside: {_some(names)}")
    if loose := found.loose:
        found.remarks.append(f"{len(loose)} image{'s lie' if len(loose) > 1 else ' lies'} in no class folder, left "
                             f"aside: {_some(loose)}")
    if bare := sorted(found.named - set(found.classes)):
        found.remarks.append(f"{_some(bare)} ha{'ve' if len(bare) > 1 else 's'} no image that can be read and "
                             f"{'are no classes' if len(bare) > 1 else 'is no class'}")


Row = tuple[str, str, str]  # path below the folder, label, split


def _folders(found: Found) -> Iterator[Row]:
    """The images of class folders, or of the splits' folders of class folders."""
    tops = _below(found, found.base)
    splits = {name: SPLITS[name.lower()] for name in tops if name.lower() in SPLITS}
    if "train" in splits.values():
        if len(set(splits.values())) < len(splits):
            raise DataError(f"{found.name}/ has two folders of one split: {', '.join(sorted(splits))}; keep one")
        if aside := sorted(tops.keys() - splits.keys()):
            found.remarks.append(f"left aside beside the splits: {_some([f'{name}/' for name in aside])}")
        for top, split in sorted(splits.items()):
            yield from _classes(found, tops[top], _below(found, tops[top]), split)
        return
    lists = sorted(p.name for p in found.base.iterdir() if p.suffix.lower() in LISTS and not p.name.startswith("."))
    if lists and not any(True for name in tops for _ in _images(Found(found.base, ""), tops[name])):
        if len(lists) > 1:
            raise DataError(f"{found.name}/ holds {len(lists)} lists ({_some(lists)}); name the one that is meant, as "
                            f"folder:{found.base / lists[0]}")
        yield from _listed(found.base / lists[0], found)
        return
    if lists:
        found.remarks.append(f"class folders are read, not {_some(lists)}; to use a list, give folder:PATH/{lists[0]}")
    yield from _classes(found, found.base, tops, "")


def _classes(found: Found, place: Path, folders: dict[str, Path], split: str) -> Iterator[Row]:
    """The images of the class folders in a place. Raises DataError where one folder alone holds the class folders."""
    if len(folders) == 1 and (deep := _deeper(*folders.values())):
        inside = sorted(p.name for p in deep.iterdir() if p.is_dir() and not p.name.startswith("."))
        raise DataError(f"{place.resolve().name}/ has no class folders but one folder, "
                        f"{deep.relative_to(place).as_posix()}/, in which they lie ({_some(inside)}); "
                        + (f"give {shlex.quote(f'folder:{deep}')}" if not split else "move them up"))
    found.loose += sorted(p.relative_to(found.base).as_posix() for p in place.iterdir()
                          if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".") and p.is_file())
    found.named |= folders.keys()
    for name in sorted(folders):
        yield from ((path, name, split) for path in _images(found, folders[name]))


def _deeper(folder: Path) -> Path | None:
    """Where the only folder of a place holds class folders or a list, not images: it, or the one in it that does."""
    while True:
        names = [p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != "__MACOSX"]
        below = [name for name in names if (folder / name).is_dir()]
        if any(name.lower().endswith(SUFFIXES) for name in names):
            return None
        if len(below) > 1 or any(name.lower() in SPLITS or Path(name).suffix.lower() in LISTS for name in names):
            return folder
        if not below:
            return None
        folder /= below[0]


def _below(found: Found, folder: Path) -> dict[str, Path]:
    """The folders directly below; hidden ones are told, and left aside with the system's."""
    names = {p.name: p for p in folder.iterdir() if p.is_dir() and p.name != "__MACOSX"}
    found.hidden += [f"{p.relative_to(found.base).as_posix()}/" for name, p in names.items() if name.startswith(".")]
    return {name: p for name, p in names.items() if not name.startswith(".")}


def _images(found: Found, folder: Path) -> Iterator[str]:
    """The images anywhere below a class's folder, as paths below the base."""
    others = []
    for at, folders, files in os.walk(folder):
        found.hidden += [f"{Path(at, name).relative_to(found.base).as_posix()}/" for name in folders
                         if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(at, name).relative_to(found.base).as_posix()
            if name.lower().endswith(SUFFIXES):
                yield path
            elif not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                others.append(path)
    if others:
        found.remarks.append(f"{len(others)} file{'s are' if len(others) > 1 else ' is'} no image by the ending and "
                             f"left aside: {_some(others)}")


def _listed(file: Path, found: Found) -> Iterator[Row]:
    """The rows of a list; what is wrong with one is a problem with its file and line."""
    rows = _json_rows(file, found) if not LISTS[file.suffix.lower()] else _csv_rows(file)
    first = True
    for number, row in rows:
        where = f"{file.name}:{number}"
        keys = {str(key).strip().lower(): key for key in row}
        path, label, split = (next((keys[k] for k in names if k in keys), None) for names in (PATH, LABEL, SPLIT))
        if path is None or label is None:
            told = f"{where}: a row needs a path and a label; it has {_some(sorted(keys)) or 'nothing'}"
            if first:
                raise DataError(f"{told}. Name the columns {PATH[0]}, {LABEL[0]} and perhaps {SPLIT[0]}")
            found.problems.append(told)
            continue
        first = False
        text, name = str(row[path] or "").strip(), _text(row[label])
        word = _text(row[split]).lower() if split is not None else ""
        if not text or not name:
            found.problems.append(f"{where}: the {'path' if not text else 'label'} is empty")
        elif word and word not in SPLITS:
            found.problems.append(f"{where}: split {word!r} is none of train, val, test")
        else:
            yield _relative(text, found.base), name, SPLITS.get(word, "")


def _relative(path: str, base: Path) -> str:
    """A path as seen from the list's folder; a whole one is taken where it lies below it."""
    pure = Path(path)
    home = base.resolve()
    return pure.relative_to(home).as_posix() if pure.is_absolute() and pure.is_relative_to(home) else path


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _decoded(file: Path) -> str:
    """The text of a list; a mark in front of it, as spreadsheets leave one, is no part of it."""
    try:
        return door.read(file, "list").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is not a text file: byte {error.start} is not UTF-8") from None


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(io.StringIO(_decoded(file), newline=""), delimiter=LISTS[file.suffix.lower()])
    try:
        for row in reader:
            yield reader.line_num, {k: v for k, v in row.items() if k is not None}
    except csv.Error as error:
        raise DataError(f"{file.name}:{reader.line_num}: {error}") from None


def _json_rows(file: Path, found: Found) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(_decoded(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield number, row
        else:
            found.problems.append(f"{file.name}:{number}: expected a JSON object, found {line[:60]!r}")


def _read(found: Found, rows: list[Row], known: Known, tell: Callable[[], None]) -> None:
    """Hash and decode every image once; all that cannot be read or used is told together."""
    tree, taken, twice = Tree(found.base), set[str](), []
    for path, label, split in rows:
        tell()
        if path in taken:
            twice.append(path)
            continue
        taken.add(path)
        found.named.add(label)
        if fault := tree.fault(path):
            found.unreadable.append(Unread(path, fault))
            continue
        stat = (found.base / path).stat()
        stamp = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        if path not in known or known[path][0] != stamp or known[path][2]:  # what was wrong is told in today's words
            known[path] = (stamp, *_look(found.base / path))
        _, digest, why = known[path]
        if why:
            found.unreadable.append(Unread(path, why))
        else:
            found.photos.append(Photo(path, label, split, digest, stat.st_size))
    if twice:
        found.problems.append(f"{len(twice)} path{'s stand' if len(twice) > 1 else ' stands'} in two rows or more: "
                              f"{_some(twice)}")


def _look(file: Path) -> tuple[str, str]:
    """(sha256, why it cannot be read, "" when it can)."""
    try:
        digest = door.sha256_of(file)
        open_rgb(file)
    except (DataError, OSError) as error:
        text = str(error).replace(str(file), "").strip()
        return "", text or type(error).__name__
    return digest, ""


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def content(photos: list[Photo], classes: list[str]) -> str:
    """Eight digits that name these images in these splits under these labels, whatever the files are called."""
    digest = sha256("\n".join(classes).encode())
    for photo in sorted(photos, key=lambda p: (p.split, p.label, p.sha256)):
        digest.update(f"{photo.split}\t{photo.label}\t{photo.sha256}\n".encode())
    return digest.hexdigest()[:8]
