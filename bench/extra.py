"""Folders outside the checkout that hold parts, data sets and suites: `--extra DIR`, or the variable REGATTA_EXTRA.

    mine/adapters/*.py  mine/regularizers/*.py  mine/constraints/*.py  mine/datasets/*.py  mine/suites/*.py

Here is what is asked for, whether it can be, and what a copy of it holds. The variable is how every process of a
command knows them: it is inherited by workers, and a submitted job's points at the copies in its snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from methods.outside import VARIABLE, folders, package

from . import checkout

__all__ = ["VARIABLE"]
KINDS = ("adapters", "regularizers", "constraints", "datasets", "suites")
COPIES = ".extra"  # of a snapshot: a copy of each folder under its last name
MOST_BYTES = 64 << 20  # of one folder's files: they are read, hashed and copied


class FolderError(Exception):
    """Folders that cannot be used; a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def problems(told: str) -> list[str]:
    """A sentence for every folder that cannot be used."""
    found, seen = [], dict[str, Path]()
    with _set(told):
        for folder in folders():
            why = _problem(folder)
            same = seen.setdefault(package(folder, ""), folder)
            if not why and same != folder:
                why = f"another folder is called {same.name!r} too; records name parts by it, so rename one of them"
            found += [f"--extra {folder.name or folder}: {why}"] if why else []
    return found


def _problem(folder: Path) -> str:
    if not folder.exists():
        return f"there is no such folder ({folder})"
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return "is no folder" if not folder.is_dir() else "this folder may not be read"
    if folder == Path(folder.anchor):
        return f"is the whole file system; name the folder that holds {_listed('or')}"
    root = checkout.ROOT
    if folder == root or any(folder == root / p or folder.is_relative_to(root / p)
                             for p in ("bench", "datasets", "methods", "results", "reports")):
        return "is of the checkout itself, whose parts are known without it; name a folder of your own"
    if not any((folder / kind).is_dir() for kind in KINDS):
        return (f"holds none of {_listed('or')}; `python -m bench new adapter NAME --into "
                f"{folder.name}` writes a first part")
    if sum(file.stat().st_size for file in files(folder).values()) > MOST_BYTES:
        return f"{_listed('and')} hold more than 64 MiB; keep images and weights elsewhere"
    return ""


def _listed(word: str) -> str:
    """The folders of parts, in words."""
    return f"{', '.join(f'{kind}/' for kind in KINDS[:-1])} {word} {KINDS[-1]}/"


def files(folder: Path) -> dict[str, Path]:
    """What belongs to the parts of a folder: name in it -> file, sorted."""
    found = (p for kind in KINDS for p in (folder / kind).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder).as_posix(): p for p in sorted(found)}


def copied() -> dict[str, Path]:
    """What a snapshot holds of the folders that are named: name in the snapshot -> file."""
    return {f"{COPIES}/{folder.name}/{name}": file for folder in folders() for name, file in files(folder).items()}


def below(snapshot: Path) -> str:
    """The variable for processes that run a snapshot."""
    return os.pathsep.join(str(snapshot / COPIES / folder.name) for folder in folders())


def joined(words: Sequence[str], into: Path | None = None) -> str:
    """The variable with what was typed behind what it holds; without a folder that is about to get its first part.

    Raises FolderError for a word that names nothing.
    """
    if any(not word.strip() for word in words):
        raise FolderError(["--extra names no folder, its text is empty; give --extra DIR, or leave it out"])
    told = os.pathsep.join(filter(None, (os.environ.get(VARIABLE, ""), *words)))
    if into is None or not _problem(into.resolve()):
        return told
    with _set(told):
        return os.pathsep.join(str(folder) for folder in folders() if folder != into.resolve())


@contextmanager
def named(told: str) -> Iterator[None]:
    """In here these are the folders, for this process and those that it starts. Raises FolderError."""
    if wrong := problems(told):
        raise FolderError(wrong)
    with _set(told):
        yield


@contextmanager
def _set(told: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = told
    if not told:
        del os.environ[VARIABLE]
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
