"""Folders that appear whole or not at all, and the manifest that tells later whether a byte has changed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from . import door
from .card import DataError
from .door import sha256_of

MANIFEST = ".manifest.json"  # path -> [bytes, sha256] of every file below the folder
MARK = ".standin.json"  # tells a stand-in from a user's data, and from which generator it came
OWN = (MANIFEST, MARK)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """One writer of a folder at a time; the system releases the lock of a process that died."""
    import fcntl

    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty folder that takes the target's place when the block ends well. Call with the lock held."""
    for left in target.parent.glob(f".{target.name}.part-*"):  # of writers that died: nobody else holds the lock
        shutil.rmtree(left)
    part = Path(mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        new, old = part / "new", part / "old"
        new.mkdir()
        yield new
        write_manifest(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """As `staged`, for a folder that must not exist yet or be empty."""
    with locked(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(f"{target} exists already; nothing is overwritten, remove it or choose another place")
        with staged(target) as folder:
            yield folder


def files_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(relative path, entry) of every file, links not followed, our own notes apart."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda found: found.name):
            if entry.is_dir(follow_symlinks=False):
                for path, inner in files_below(Path(entry.path)):
                    yield f"{entry.name}/{path}", inner
            elif entry.name not in OWN:
                yield entry.name, entry


def weigh(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder."""
    sizes = [entry.stat(follow_symlinks=False).st_size for _, entry in files_below(folder)]
    return len(sizes), sum(sizes)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy, as of a link; a target that is there stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    with door.opened(source, "stream") as handle:
        try:
            if source.is_symlink():  # its own hard link would point from another place, to another file or none
                raise OSError(errno.EXDEV, "a link")
            os.link(source, target)
        except OSError:
            with target.open("xb") as copy:
                shutil.copyfileobj(handle, copy)


def write_manifest(folder: Path) -> Path:
    """Note every file's size and hash beside them."""
    found = {path: [entry.stat().st_size, sha256_of(Path(entry.path))] for path, entry in files_below(folder)}
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(found, indent=0) + "\n")
    part.replace(folder / MANIFEST)
    return folder / MANIFEST


def compare_manifest(folder: Path) -> list[str]:
    """Every difference between the files and the manifest; empty where there is no manifest."""
    file = folder / MANIFEST
    if not file.is_file():
        return []
    try:
        noted = json.loads(door.text(file))
        expected = {str(path): (int(size), str(digest)) for path, (size, digest) in noted.items()}
    except DataError as error:
        return [str(error)]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return [f"{file} is no manifest: expected a JSON object of path: [bytes, sha256]"]
    found = dict(files_below(folder))
    problems = [f"{folder / path} is missing; expected {size} bytes, sha256 {digest}"
                for path, (size, digest) in expected.items() if path not in found]  # fmt: skip
    problems += [f"{folder / path} is not in the manifest" for path in found if path not in expected]
    for path, (size, digest) in expected.items():
        if path not in found:
            continue
        actual = found[path].stat(follow_symlinks=False).st_size
        if actual != size:
            problems.append(f"{folder / path} has {actual} bytes; expected {size} bytes, sha256 {digest}")
        elif found[path].is_symlink() or sha256_of(folder / path) != digest:
            problems.append(f"{folder / path} has other content; expected {size} bytes, sha256 {digest}")
    return problems
