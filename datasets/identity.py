"""What names a data set as it lies on disk: its lists, its texts, and a sample of what every file holds.

Each file gives its size and three kibibytes (head, middle, tail); a container of many images gives a thousand pieces.
Of more than SAMPLED files every n-th gives its sample and the others their size. What is read anyway tells whether a
test image is a training image under another name. What was found is kept by the files' sizes and times, so that only
changed data are read again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import NamedTuple

from . import door
from .card import Card, DataError, Item, Pair, Source, Text
from .door import sha256_of
from .folder import MARK
from .images import name_of
from .promises import TRAINING, broken, images, splits_of

FORM = 1  # of the hash and of what is kept
SAMPLED = 100_000  # files whose contents are sampled: some ten seconds, once
IMAGE, CONTAINER = (3, 1024), (1024, 4096)  # pieces of a file, bytes of each


class Looked(NamedTuple):
    """A data set as it lies there: the name of its images, and every promise of its card that it breaks."""

    hash: str
    broken: tuple[str, ...]


def look(card: Card, root: Path, keep: Path | None = None) -> Looked:
    """List every split, sample its files, compare with the card; `keep`: a folder for what was found.

    Raises DataError for a list or a file that is missing or malformed, and for a stand-in in the place of real data.
    """
    listed = {split: card.items(root, split) for split in sorted(splits_of(card))}
    files = _files(listed)
    _refuse_standin(files)
    kept = keep / f"{card.name}-{_key(card, root, listed, files)}.json" if keep else None
    found = _read(kept) if kept else None
    if found is None:
        samples = _samples(files)
        told = [*broken(card, listed, card.splits), *_equal(card, listed, files, samples)]
        found = Looked(_hash(root, listed, files, samples), tuple(told))
        if kept:
            _write(kept, found)
    return found


def file_of(image: Path | Source) -> Path | None:
    """The file that holds an image: its own, or its container; None for one that lies in none."""
    file = image if isinstance(image, Path) else getattr(image, "file", None)
    return file if isinstance(file, Path) else None


def words(item: Item) -> str:
    """The text of an item that has one, whole, for it is read with the lists; empty for an image."""
    text = item.image.text if isinstance(item.image, Pair) else item.image
    return f"\t{(text.a, text.b)!r}" if isinstance(text, Text) else ""


Files = dict[Path, tuple[os.stat_result, bool]]  # of every file: what the system says, whether it holds one image


def _files(listed: Mapping[str, Sequence[Item]]) -> Files:
    found: Files = {}
    for image in images(*listed.values()):
        file = file_of(image)
        if file is not None and file not in found:
            try:
                found[file] = file.stat(), file is image
            except OSError as error:
                raise DataError(f"{file} cannot be read: {error.strerror}") from None
    return found


def _key(card: Card, root: Path, listed: Mapping[str, Sequence[Item]], files: Files) -> str:
    """Of everything that the answer depends on, without opening a file; ctime cannot be set back."""
    digest = sha256(repr((FORM, SAMPLED, sorted(card.splits.items()), sorted(card.facts.items()), card.classes,
                          root.resolve())).encode())
    for split, items in listed.items():
        for item in items:
            digest.update(f"{split}\t{name_of(item.image)}\t{item.label}{words(item)}\n".encode())
    for file, (stat, _) in files.items():
        told = f"{file}\t{stat.st_ino}\t{stat.st_size}\t{stat.st_mtime_ns}\t{stat.st_ctime_ns}\n"
        digest.update(told.encode(errors="surrogateescape"))  # a folder's name may be no UTF-8
    return digest.hexdigest()[:32]


def _samples(files: Files) -> dict[Path, str]:
    """File -> hash of its pieces, for every file or every n-th."""
    step = -(-len(files) // SAMPLED)
    return {file: sample(file, stat.st_size, *(IMAGE if alone else CONTAINER))
            for number, (file, (stat, alone)) in enumerate(files.items()) if not alone or number % step == 0}


def sample(file: Path, size: int, count: int, piece: int) -> str:
    """16 digits of the hash of `count` pieces, evenly spread from the first byte to the last; a small file's of all."""
    digest = sha256(str(size).encode())
    try:
        with door.opened(file, "stream") as stream:
            handle = stream.fileno()
            if size <= count * piece:
                digest.update(os.pread(handle, size, 0))
            else:
                for number in range(count):
                    digest.update(os.pread(handle, piece, (size - piece) * number // (count - 1)))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


def _hash(root: Path, listed: Mapping[str, Sequence[Item]], files: Files, samples: Mapping[Path, str]) -> str:
    digest = sha256()
    for split, items in listed.items():
        for item in items:
            file = file_of(item.image)
            held = "" if file is None else f"{files[file][0].st_size}\t{samples.get(file, '')}"
            digest.update(f"{split}\t{name_of(item.image, root)}\t{item.label}\t{held}{words(item)}\n".encode())
    return digest.hexdigest()[:16]


def _refuse_standin(files: Files) -> None:
    """A generated miniature is never real data, not even a part of it."""
    folders = dict.fromkeys(above for file in dict.fromkeys(file.parent for file in files)
                            for above in (file, *file.parents))
    for folder in folders:
        if (folder / MARK).is_file():
            raise DataError(f"{folder.name}/ is a generated stand-in and no real data; DATA=standin runs it as what "
                            "it is")


def _equal(card: Card, listed: Mapping[str, Sequence[Item]], files: Files, samples: Mapping[Path, str]) -> list[str]:
    """Test images that are byte for byte training images: equal samples first, then all bytes of those."""
    if "repeats" in card.facts:
        return []
    known: dict[str, list[Path]] = {}
    for file in _alone(files, *(listed.get(split, ()) for split in TRAINING)):
        if file in samples:
            known.setdefault(samples[file], []).append(file)
    pairs = [(file, other) for file in _alone(files, listed.get("test", ()))
             for other in known.get(samples.get(file, ""), ()) if other != file and sha256_of(other) == sha256_of(file)]
    return [equal_bytes(pairs)] if pairs else []


def equal_bytes(pairs: Sequence[tuple[Path | Source, Path | Source]]) -> str:
    """The sentence about (test image, training image) of equal bytes."""
    test, training = pairs[0]
    count = len({name_of(one) for one, _ in pairs})
    return (f"{count} test image{'s are' if count > 1 else ' is'} byte for byte in the training lists, first "
            f"{name_of(test)}, which is {name_of(training)}")


def _alone(files: Files, *lists: Sequence[Item]) -> list[Path]:
    """The images that are files of their own."""
    return [image for image in images(*lists) if isinstance(image, Path) and files[image][1]]


def _read(path: Path) -> Looked | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Looked(str(told["hash"]), tuple(map(str, told["broken"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, found: Looked) -> None:
    """Whole or not at all; a disk that takes nothing costs time alone."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.json"):
            if len(old.name) == len(path.name):
                old.unlink(missing_ok=True)
        handle, part = mkstemp(prefix=".tmp-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(found._asdict(), stream)
        Path(part).replace(path)
