"""List files: `path label` lines, read strictly, with every path kept inside the data set's own folder.

A data set's folder may itself be a symbolic link (the user put it there); nothing below it may lead out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from . import door
from .card import DataError, Item

Problems = list[str]


def complain(problems: Problems | None, text: str) -> None:
    """Raise at once, or, when a list is given, note the problem and go on (`data check` wants all of them)."""
    if problems is None:
        raise DataError(text)
    problems.append(text)


def find_folder(root: Path, folders: tuple[str, ...], layout: str) -> Path:
    """The first of the folders that exists under the data root."""
    for folder in folders:
        if (root / folder).is_dir():
            door.admit(root / folder)
            return root / folder
    also = f" (or {', '.join(folders[1:])})" if len(folders) > 1 else ""
    reason = "is missing" if root.is_dir() else "is missing, and so is the data root itself"
    raise DataError(f"{root / folders[0]}{also} {reason}; expected there: {layout}")


def text_of(file: Path, layout: str) -> str:
    """The text of a list, with an error that says what should lie there."""
    try:
        return door.text(file)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; expected there: {layout}") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None


class Tree:
    """A data set's folder; turns the relative paths of a list into files that exist inside it.

    Each folder is listed once, so that a million lines cost no system call each.
    """

    def __init__(self, base: Path):
        self.base = base
        self.real = door.settle(base)
        self._folders: dict[str, dict[str, os.DirEntry[str]] | None] = {}

    def inside(self, path: str) -> bool:
        """Whether a path, links followed, lies in the tree."""
        return door.within(os.path.realpath(path), self.real)

    def _entries(self, parent: str) -> dict[str, os.DirEntry[str]] | None:
        """What lies in a folder of the tree; None where the folder leads out of it."""
        if parent not in self._folders:
            path = str(self.base / parent)
            if not self.inside(path):
                self._folders[parent] = None
            else:
                try:
                    with os.scandir(path) as found:
                        self._folders[parent] = {entry.name: entry for entry in found}
                except OSError:
                    self._folders[parent] = {}
        return self._folders[parent]

    def fault(self, relative: str) -> str:
        """Why this path cannot be used, or an empty text."""
        pure = PurePosixPath(relative)
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in relative):
            return "has a control character in its name; rename it"
        if any("\ud800" <= sign <= "\udfff" for sign in relative):  # bytes that the system could not make a text of
            return "has a name that is not UTF-8; rename it"
        if not pure.parts or "\\" in relative:
            return "is not a path"
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
            return "leaves the folder of the data set"
        parent = str(pure.parent)
        entries = self._entries(parent)
        if entries is None:
            return f"leaves the folder of the data set through the link {parent}"
        entry = entries.get(pure.name)
        if entry is None:
            return "does not exist"
        if entry.is_symlink() and not self.inside(entry.path):
            return "is a link that leaves the folder of the data set"
        return "" if entry.is_file() else "is not a file"

    def file(self, relative: str, where: str, problems: Problems | None = None) -> Path | None:
        """The file that a list names; `where` is the list and the line, for the error."""
        fault = self.fault(relative)
        if fault:
            complain(problems, f"{where}: {relative!r} {fault}")
            return None
        return self.base / relative


def lines(file: Path, layout: str, problems: Problems | None = None) -> Iterator[tuple[str, str, str]]:
    """(where, path, label text) of every line, split at the last space: file names may contain spaces."""
    text = text_of(file, layout)
    rows = text.split("\n")
    if rows[-1] == "":
        rows.pop()
    if not rows:
        complain(problems, f"{file} is empty; expected there: {layout}")
    for number, row in enumerate(rows, 1):
        where = f"{file}:{number}"
        path, space, label = row.removesuffix("\r").rpartition(" ")
        if not space or not path.strip() or not (label.isascii() and label.isdecimal() and len(label) < 10):
            complain(problems, f"{where}: expected 'path label', found {row[:80]!r}")
            continue
        yield where, path, label


def read_list(
    file: Path, tree: Tree, classes: int, layout: str, problems: Problems | None = None, prefix: str = ""
) -> list[Item]:
    """The items of a list file, in its order; labels count from 0."""
    found = []
    for where, path, text in lines(file, layout, problems):
        label = int(text)
        if label >= classes:
            complain(problems, f"{where}: label {label} is out of range; the labels are 0 to {classes - 1}")
            continue
        image = tree.file(prefix + path, where, problems)
        if image is not None:
            found.append(Item(image, label))
    return found
