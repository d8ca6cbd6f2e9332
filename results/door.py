"""The door through which this program reads its own files: regular files of bounded size, and nothing is waited for.

What lies where a record, a note or a lock should lie may be anything: a pipe that nobody writes into, a device without
end, a folder, a file of forty gigabytes without content. Whoever opens those by name waits for ever or runs out of
memory. Here a file is opened without waiting, looked at, and only then read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

from .schema import RecordError

SMALL = 2**26  # bytes of one record, suite, selection or sign of life; the largest take some megabytes
LARGE = 2**30  # of what holds many of them
_ODD = {errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}  # what opening says of folders, links, sockets


class NoRegularFileError(OSError):
    """A pipe, a device or a socket lies there."""


class TooLargeError(OSError):
    """A file lies there that is larger than anything this program writes under such a name."""


def read(path: Path | str, most: int = SMALL) -> bytes:
    """The file's bytes, at most `most` of them. Raises OSError (NoRegularFileError, TooLargeError among them)."""
    handle, size = _enter(path, most)
    try:
        content = os.read(handle, size + 1)
        if len(content) == size:  # the end was seen
            return content
        pieces, total = [content], len(content)
        while pieces[-1]:  # it grows, or came in parts
            if total > most:
                raise TooLargeError(errno.EFBIG, "is too large", str(path))
            pieces.append(os.read(handle, 2**20))
            total += len(pieces[-1])
        return b"".join(pieces)
    finally:
        os.close(handle)


def read_text(path: Path | str, most: int = SMALL) -> str:
    """`read` as UTF-8. Raises UnicodeDecodeError too."""
    return read(path, most).decode("utf-8")


def opened(path: Path | str, most: int = LARGE) -> BinaryIO:
    """The file, open for reading; for the caller to close. Raises OSError as `read` does."""
    return os.fdopen(_enter(path, most)[0], "rb")


def holds(path: Path | str, text: str) -> bool:
    """Whether a regular file lies there with just this text, so that it need not be written."""
    try:
        return read(path, LARGE) == text.encode()
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among those who lock this file, which is made where it is missing.

    Raises RecordError for what is no file to lock, OSError where none can be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in _ODD:
            raise
        raise _no_lock(path) from None
    with os.fdopen(handle, "rb+", 0):
        if not S_ISREG(os.fstat(handle).st_mode):
            raise _no_lock(path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _no_lock(path: Path) -> RecordError:
    return RecordError(f"{path.parent.name}/{path.name}: is no regular file and cannot be locked; remove it")


def _enter(path: Path | str, most: int) -> tuple[int, int]:
    """An open handle, and the size in bytes."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stat = os.fstat(handle)
    if S_ISREG(stat.st_mode) and stat.st_size <= most:
        return handle, stat.st_size
    os.close(handle)
    if S_ISDIR(stat.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if S_ISREG(stat.st_mode):
        raise TooLargeError(errno.EFBIG, "is too large", str(path))
    raise NoRegularFileError(errno.EINVAL, "is no regular file", str(path))
