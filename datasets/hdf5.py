"""HDF5 files that lead nowhere else: opened from the door's file, links and storage looked at before reading.

HDF5 may name other files in three ways: external links, virtual data sets and external storage. The library opens the
first two through the driver of the file at hand; as that is one open file and no path, they reach nothing. The third
takes paths of its own, and all three are refused by name.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from . import door

CHUNK = 1024 * door.MIB  # bytes of one stored piece, which is unpacked whole; real ones have a few


def unpacked(file: Path) -> Any:
    """An open HDF5 file, from memory where it is gzipped. Call within `reading`."""
    import h5py

    source = BytesIO(door.plain(file)) if file.suffix == ".gz" else door.opened(file, "stream")
    return h5py.File(source, "r")


@lru_cache(4)
def _kept(file: Path, process: int, identity: tuple[int, ...]) -> Any:
    return unpacked(file)


def kept(file: Path) -> Any:
    """As `unpacked`, but open until three others are: a list of images reads one file many thousand times.

    A file that was replaced or changed is opened anew; so is every file in a forked process, which would move the
    place where its parent reads.
    """
    at = file.stat()
    return _kept(file, os.getpid(), (at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns))


def dataset(handle: Any, key: str, limit: int, ndim: int | None = None, types: str = "uif") -> Any:
    """The data set of that path, whose rows (or, with `ndim` None, the whole) have at most `limit` bytes.

    `types` are the kinds of numpy types allowed: u, i, f numbers, S text of a fixed length. Raises KeyError where there
    is none, ValueError where it is something else, lies elsewhere, or claims more than can be.
    """
    import h5py

    at = handle
    for name in key.split("/"):
        link = at.get(name, getlink=True) if isinstance(at, h5py.Group) and name not in ("", ".", "..") else None
        if link is None:
            raise KeyError(f"it holds no {key!r}")
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__
            raise ValueError(f"{name!r} of {key!r} is a link ({kind}); only the file's own data are read")
        at = at[name]
    if not isinstance(at, h5py.Dataset):
        raise ValueError(f"{key!r} is no data set")
    if at.is_virtual or at.external:
        raise ValueError(f"the data of {key!r} lie in another file; only the file's own data are read")
    if at.dtype.kind not in types or at.shape is None or (ndim is not None and len(at.shape) != ndim):
        raise ValueError(f"{key!r} has the type {at.dtype} and the shape {at.shape}")
    size = at.dtype.itemsize * math.prod(at.shape[1:] if ndim is not None else at.shape)
    piece = at.dtype.itemsize * math.prod(at.chunks or (0,))
    if size > limit or piece > CHUNK:
        raise ValueError(f"{key!r} claims the shape {at.shape} in pieces of {piece} bytes; {limit} are the most")
    return at
