"""The one door through which every file of a data root is opened: inside, a regular file, of a bounded size.

A data root comes from others: an archive may hold links, pipes, devices and files of any length. So a file is held
(`O_PATH`: nothing is read, a pipe does not block, a device does not wake) and looked at before it is opened, and what
is opened is the very file that was looked at, whatever happens to its name meanwhile. The data root, and a folder
directly below it, may be links that the user placed; nothing below them may lead out. No other module of `datasets`
opens a file to read it.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import zlib
from functools import cache
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Literal

from .card import DataError

Kind = Literal["note", "list", "annotations", "image", "arrays", "stream"]
MIB = 1 << 20
LIMITS: dict[Kind, int] = {  # bytes; each several times its longest real example
    "note": MIB,
    "list": 256 * MIB,  # ImageNet's 1.3 million lines are below 100
    "annotations": 2048 * MIB,  # CLEVR's scenes, which are JSON of a few hundred
    "image": 512 * MIB,  # LIMIT pixels without compression
    "arrays": 8192 * MIB,  # read whole: PatchCamelyon, unpacked, has 7 GB
    "stream": 1 << 42,  # read piece by piece: shards, HDF5, files that are hashed
}
WHAT = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip
MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))

_HOMES: dict[str, str] = {}  # a folder by the name it was given -> where it really is


def within(real: str, home: str) -> bool:
    """Whether one resolved path is another or lies below it."""
    return real == home or real.startswith(home if home == "/" else home + "/")


def admit(folder: Path) -> str:
    """Make a folder the boundary of the files below it; returns where it is, links followed.

    For a data root and for the folders directly below it alone: those are the user's word.
    """
    _HOMES[str(folder)] = real = os.path.realpath(folder)
    return real


def settle(folder: Path) -> str:
    """Where a folder is, links followed. It must lie within the boundary above it; where there is none, it is one."""
    at, real = str(folder), os.path.realpath(folder)
    while at and at not in _HOMES:
        at = at.rpartition("/")[0]
    if at and not within(real, _HOMES[at]):
        raise DataError(f"{folder} is a link that leaves the folder of the data set")
    return real if at else admit(folder)


def home(path: str) -> str:
    """The boundary of a path: the nearest admitted folder above or at it, else its own folder."""
    at = path
    while at:
        if at in _HOMES:
            return _HOMES[at]
        at = at.rpartition("/")[0]
    named = _HOMES.get("/" if path.startswith("/") else ".")
    return named or os.path.realpath(path.rpartition("/")[0] or ("/" if path[0] == "/" else "."))


def _look(file: str, found: os.stat_result, real: str, limit: int) -> None:
    """Refuse what may not be opened."""
    if not within(real, home(file)):
        raise DataError(f"{file} is a link that leaves the folder of the data set")
    if not stat.S_ISREG(found.st_mode):
        what = next((name for test, name in WHAT if test(found.st_mode)), "something else")
        raise DataError(f"{file} is {what}; expected a file")
    if found.st_size > limit:
        raise DataError(f"{file} has {found.st_size} bytes; more than {limit} are refused there")


def opened(file: Path, kind: Kind) -> BufferedReader:
    """The file, open for reading. Raises DataError for what no file of its kind can be, OSError as `open` does."""
    name = str(file)
    if "\0" in name:
        raise DataError(f"{name!r} is not a path")
    held = os.open(name, os.O_PATH | os.O_CLOEXEC)
    try:
        place = f"/proc/self/fd/{held}"
        _look(name, os.fstat(held), os.readlink(place), LIMITS[kind])  # noqa: PTH115  # of every image: it must be quick
        return BufferedReader(FileIO(os.open(place, os.O_RDONLY | os.O_CLOEXEC), "rb"))
    finally:
        os.close(held)


def read(file: Path, kind: Kind) -> bytes:
    """All bytes of a file. One that grows meanwhile is refused."""
    with opened(file, kind) as handle:
        size = os.fstat(handle.fileno()).st_size
        data = handle.read(size + 1)
    if len(data) > size:
        raise DataError(f"{file} grew while it was read")
    return data


def plain(file: Path, kind: Kind = "arrays") -> bytes:
    """All bytes of a file, unpacked where its name ends in .gz; what unpacks beyond the limit is refused."""
    if file.suffix != ".gz":
        return read(file, kind)
    with opened(file, kind) as handle, gzip.GzipFile(fileobj=handle) as packed:
        out, limit = BytesIO(), LIMITS[kind]
        try:
            while chunk := packed.read(MIB):
                if out.tell() + len(chunk) > limit:
                    raise DataError(f"{file} unpacks to more than {limit} bytes, which are refused there")
                out.write(chunk)
        except (zlib.error, EOFError) as error:
            raise OSError(errno.EIO, f"is no whole gzip file: {error}") from None
    return out.getvalue()


def text(file: Path, kind: Kind = "list") -> str:
    """The text of a UTF-8 file without a byte-order mark."""
    data = read(file, kind)
    for mark, encoding in MARKS:
        if data.startswith(mark):
            raise DataError(f"{file} begins with a byte-order mark ({encoding}); save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file: byte {error.start} is not UTF-8") from None


def rows(file: Path, kind: Kind = "list") -> list[str]:
    """The lines of a UTF-8 file, whichever way they end."""
    return text(file, kind).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def first_line(file: Path) -> str:
    """The first line of a list, without reading the rest."""
    with opened(file, "list") as handle:
        return handle.readline(MIB).decode("utf-8").rstrip("\r\n")


def sha256_of(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with opened(file, "stream") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def ours(name: str) -> str:
    """A text that belongs to this program, by its path below `datasets`."""
    return (Path(__file__).parent / name).read_text(encoding="ascii")
