"""Decoded images, once: uint8 memory maps keyed by content and transform, safe when two processes write at once.

A file is written under a temporary name and renamed, so a reader sees all of it or nothing; it ends with its digest, so
a damaged one is noticed; of several runs that want the same split one decodes it. The key holds the names, sizes and
times of the image files, so a changed image is a new key. The folder is kept below a limit: what was longest unused
goes first; who has it open does not notice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from datasets.card import Item
from datasets.images import name_of, open_rgb

LIMIT_BYTES = int(float(os.environ.get("REGATTA_CACHE_GB", "2")) * 2**30)  # of one split; larger ones are not kept
TOTAL_BYTES = int(float(os.environ.get("REGATTA_CACHE_TOTAL_GB", "20")) * 2**30)  # of a folder
DIGEST = 32  # bytes at a file's end
ABANDONED_S = 3600.0  # what a killed process left half-written


class ImageCache:
    """A folder of decoded splits; `folder` None keeps nothing on disk."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def pixels(self, label: str, items: Sequence[Item], size: int) -> np.ndarray[Any, Any] | None:
        """(N, 3, size, size) uint8, bicubic; None when the split is too large to hold."""
        if len(items) * 3 * size * size > LIMIT_BYTES:
            return None
        if self.folder is None:
            return _decode(items, size)
        key = _key(label, items, size)
        path = self.folder / f"{key}.npy"
        try:
            with alone(self.folder, key):
                if not path.exists():
                    self._write(path, items, size)
            os.utime(path)
            loaded: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
            if loaded.shape == (len(items), 3, size, size) and loaded.dtype == np.uint8 and _sound(path):
                return loaded
        except (OSError, ValueError, EOFError):  # a full or read-only disk, evicted this moment, or cut short
            pass
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # the next run writes it anew; this one pays with time
        return _decode(items, size)

    def _write(self, path: Path, items: Sequence[Item], size: int) -> None:
        assert self.folder is not None
        pixels = _decode(items, size)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=".npy", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.save(stream, pixels)
                stream.flush()
                stream.write(_digest(Path(name), stream.tell()))
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        make_room(self.folder, keep=path.name)


def _sound(path: Path) -> bool:
    """Whether the file is what was written: its last bytes are the digest of all others."""
    size = path.stat().st_size - DIGEST
    with path.open("rb") as stream:
        stream.seek(max(0, size))
        return stream.read() == _digest(path, size)


def _digest(path: Path, size: int) -> bytes:
    """sha256 of the first `size` bytes."""
    digest = sha256()
    with path.open("rb") as stream:
        while size > 0 and (piece := stream.read(min(size, 2**20))):
            digest.update(piece)
            size -= len(piece)
    return digest.digest()


@contextlib.contextmanager
def alone(folder: Path, key: str) -> Iterator[None]:
    """One process at a time for keys of the same first letters; one that dies lets go. Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".lock-{key[:2]}").open("w") as lock:  # 256 empty files at most
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_room(folder: Path, limit: int | None = None, keep: str = "") -> None:
    """Remove the longest unused entries (files ending in .npy, folders of them) until the rest is below the limit."""
    limit = TOTAL_BYTES if limit is None else limit
    found = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # another process removes too
            used = entry.stat().st_mtime
            if entry.name.startswith(".tmp-") and time.time() - used > ABANDONED_S:
                _remove(entry)
            size = _size(entry)
            if size is not None:
                found.append((entry.name != keep, -used, size, entry))
    total = 0
    for evictable, _, size, entry in sorted(found, key=lambda row: row[:2]):
        total += size
        if total > limit and evictable:
            _remove(entry)


def _size(entry: Path) -> int | None:
    """Bytes of an entry; None for what is none."""
    if entry.name.startswith(".") or not (entry.suffix == ".npy" or (entry / "facts.json").exists()):
        return None
    return sum(f.stat().st_size for f in entry.iterdir()) if entry.is_dir() else entry.stat().st_size


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _decode(items: Sequence[Item], size: int) -> np.ndarray[Any, Any]:
    from PIL.Image import Resampling

    pixels = np.empty((len(items), 3, size, size), np.uint8)
    for row, item in enumerate(items):
        image = open_rgb(item.image)
        if image.size != (size, size):
            image = image.resize((size, size), Resampling.BICUBIC)
        pixels[row] = np.asarray(image).transpose(2, 0, 1)
    return pixels


def _key(label: str, items: Sequence[Item], size: int) -> str:
    import PIL

    digest = sha256(f"{label}|{size}|bicubic|{PIL.__version__}".encode())
    containers: set[Path] = set()
    for item in items:
        if isinstance(item.image, Path):
            stat = item.image.stat()
            digest.update(f"{item.image.parent.name}/{item.image.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
        else:
            digest.update(name_of(item.image).encode())
            container = getattr(item.image, "file", None)
            if isinstance(container, Path) and container not in containers:
                containers.add(container)
                stat = container.stat()
                digest.update(f"{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]
