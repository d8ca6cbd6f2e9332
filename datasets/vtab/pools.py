"""Raw pools, and the order in which VTAB-1k was cut from them, without TensorFlow.

TensorFlow Datasets orders the records of a split by the 128-bit number md5(split name + key), ascending, and VTAB takes
slices of that order. With every raw image under its key, the same slices follow exactly. The recipe is verified on
CIFAR-100's published lists; for the other tasks the keys are read from the builders.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import door
from ..card import DataError, Source

if TYPE_CHECKING:
    from PIL.Image import Image

TRAIN, VAL = 800, 200
SMALL_TRAIN, SMALL_VAL = 128, 32  # where a stand-in's pool is cut in proportion


class Record(NamedTuple):
    """One raw image: the key that decides its place, its label, and where its pixels are."""

    key: str | bytes
    label: int
    image: Path | Source


Pools = dict[str, list[Record]]


@dataclass(frozen=True)
class Pixels:
    """A row of an array of images: (N, H, W) or (N, H, W, 3), anything that can be indexed."""

    name: str
    rows: Any
    index: int
    factor: int = 1

    def open(self) -> Image:
        import numpy as np
        from PIL import Image

        return Image.fromarray(np.ascontiguousarray(self.rows[self.index]) * np.uint8(self.factor))


def rank(key: str | bytes, salt: str) -> int:
    """The number by which a record is sorted."""
    text = key if isinstance(key, bytes) else key.encode()
    return int.from_bytes(hashlib.md5(salt.encode() + text, usedforsecurity=False).digest(), "big")


def in_hash_order(records: Sequence[Record], salt: str) -> list[Record]:
    """The records as TensorFlow Datasets would have written them."""
    return sorted(records, key=lambda record: rank(record.key, salt))


class Part(NamedTuple):
    """A slice of one pool in the order of one salt; `size` is the official number of records in that pool."""

    pool: str
    salt: str
    start: int
    stop: int
    size: int


class Cut(NamedTuple):
    train: Part
    val: Part
    test: Part


def one_pool(size: int, val_start: int, test: Part) -> Cut:
    """train and val from the same pool, as for sets that have no validation split of their own."""
    return Cut(Part("train", "train", 0, TRAIN, size), Part("train", "train", val_start, val_start + VAL, size), test)


def two_pools(train: int, val: int, test: int) -> Cut:
    """Official train and validation splits."""
    return Cut(
        Part("train", "train", 0, TRAIN, train),
        Part("validation", "validation", 0, VAL, val),
        Part("test", "test", 0, test, test),
    )


def _scaled(part: Part, size: int, wanted: int | None) -> Part:
    """The same slice of a smaller pool."""
    start = part.start * size // part.size
    stop = size if wanted is None else start + wanted
    return part._replace(start=start, stop=stop, size=size)


def take(cut: Cut, pools: Pools, small: bool = False) -> dict[str, list[Record]]:
    """train, val and test records in order; `small` cuts a stand-in's pools in proportion instead of exactly."""
    if small:
        sizes = [len(pools[part.pool]) for part in cut]
        cut = Cut(
            _scaled(cut.train, sizes[0], SMALL_TRAIN),
            _scaled(cut.val, sizes[1], SMALL_VAL),
            _scaled(cut.test, sizes[2], None),
        )
    orders: dict[tuple[str, str], list[Record]] = {}
    for part in cut:
        found = len(pools[part.pool])
        if found != part.size:
            raise DataError(f"the raw pool {part.pool!r} holds {found} images; the exact cut needs all {part.size}")
        if (part.pool, part.salt) not in orders:
            orders[part.pool, part.salt] = in_hash_order(pools[part.pool], part.salt)
    chosen = {
        name: orders[part.pool, part.salt][part.start : part.stop]
        for name, part in zip(("train", "val", "test"), cut, strict=True)
    }
    if small and (len(chosen["train"]), len(chosen["val"])) != (SMALL_TRAIN, SMALL_VAL):
        raise DataError(f"the stand-in's raw pools are too small to be cut: {sizes}")
    return chosen


@contextmanager
def reading(file: Path, what: str = "") -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault and is told with its name."""
    try:
        yield
    except (DataError, MemoryError, KeyboardInterrupt):
        raise
    except FileNotFoundError:
        raise DataError(f"{file} is missing{'; expected there: ' + what if what else ''}") from None
    except Exception as error:  # parsers of scipy, h5py, zlib and pickle raise many kinds
        raise DataError(
            f"{file} cannot be read{' as ' + what if what else ''}: {error or type(error).__name__}"
        ) from None


def place(root: Path, *candidates: str, what: str) -> Path:
    """The first of the candidates that exists under the raw root."""
    for candidate in candidates:
        found = root / candidate
        if found.exists():
            first = root / candidate.partition("/")[0]
            door.admit(root)
            door.admit(first if first.is_dir() else root)
            if not door.within(os.path.realpath(found), door.home(str(found))):
                raise DataError(f"{found} is a link that leaves the folder of the data set")
            return found
    also = f" (or {', '.join(candidates[1:])})" if len(candidates) > 1 else ""
    raise DataError(f"{root / candidates[0]}{also} is missing; expected there: {what}")
