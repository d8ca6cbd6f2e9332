"""Archives: verified before they are opened, unpacked safely, and all or nothing.

Refused: a wrong checksum, a path that leaves the folder, links, devices, an archive that grows beyond its limit. What
was unpacked until then is removed; nothing is written outside the folder.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from .card import DataError
from .folder import publish

LIMIT_BYTES = 400 << 30  # more than any archive of the suites unpacks to
LIMIT_FILES = 3_000_000
LIMIT_RATIO = 200  # unpacked to packed, once past FREE_BYTES; photographs hardly shrink
FREE_BYTES = 64 << 20
CHUNK = 1 << 20
LIMIT_PADDING = 64  # chunks of zeros after the last entry


def digest(file: Path, kind: str) -> str:
    """Hex digest of a file by the named algorithm (md5 for the archives whose authors published nothing else)."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def verify(file: Path, expected: str, kind: str = "sha256", size: int | None = None) -> None:
    """Refuse a file whose length or digest is not the expected one."""
    if not file.is_file():
        raise DataError(f"{file} is missing; expected a file with {kind} {expected}")
    actual = file.stat().st_size
    if size is not None and actual != size:
        raise DataError(f"{file} has {actual} bytes; expected {size}")
    found = digest(file, kind)
    if found != expected:
        raise DataError(f"{file} has {kind} {found}; expected {expected}")


Entry = tuple[str, Callable[[], IO[bytes]]]  # path within the archive, and how to open it


def _safe(archive: Path, name: str) -> str:
    """The path of an entry, if it stays inside."""
    pure = PurePosixPath(name)
    bad = pure.is_absolute() or ".." in pure.parts or "\\" in name or any(ord(sign) < 32 for sign in name)
    if bad or not pure.parts or ":" in pure.parts[0]:
        raise DataError(f"{archive}: the entry {name!r} leaves the folder; nothing was unpacked")
    return str(pure)


def _tar(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as found:
        for member in found:
            if member.isdir():
                _safe(archive, member.name)
                continue
            if not member.isreg():
                raise DataError(f"{archive}: the entry {member.name!r} is a link or a device; nothing was unpacked")

            def opened(member: tarfile.TarInfo = member) -> IO[bytes]:
                handle = found.extractfile(member)
                assert handle is not None
                return handle

            yield _safe(archive, member.name), opened
        assert found.fileobj is not None
        for _ in range(LIMIT_PADDING):  # to the end: only there does a compressed stream check its sum
            if not found.fileobj.read(CHUNK):
                return
        raise DataError(f"{archive} goes on after its last entry; nothing was unpacked")


def _zip(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as found:
        for member in found.infolist():
            if member.is_dir():
                _safe(archive, member.filename)
                continue
            if (member.external_attr >> 16) & 0o170000 not in (0, 0o100000):
                raise DataError(f"{archive}: the entry {member.filename!r} is a link or a device; nothing was unpacked")

            def opened(member: zipfile.ZipInfo = member) -> IO[bytes]:
                return found.open(member)

            yield _safe(archive, member.filename), opened


def unpack(archive: Path, target: Path, limit: int = LIMIT_BYTES) -> Path:
    """Unpack a tar (plain, gz, bz2, xz) or zip into a new folder."""
    archive, target = Path(archive), Path(target)
    if not archive.is_file():
        raise DataError(f"{archive} is missing; expected an archive")
    try:
        kind = _zip if zipfile.is_zipfile(archive) else _tar if tarfile.is_tarfile(archive) else None
        if kind is None:
            raise DataError(f"{archive} is neither a tar nor a zip archive")
        with publish(target) as folder:
            _copy(archive, kind(archive), folder, limit)
    except DataError:
        raise
    except FileExistsError as error:
        raise DataError(f"{archive} holds two entries in one place: {error.filename}; nothing was unpacked") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{archive} is broken: {error or type(error).__name__}; nothing was unpacked") from None
    except Exception as error:  # zlib, lzma and bz2 have errors of their own
        raise DataError(f"{archive} is broken: {error}; nothing was unpacked") from None
    return target


def _copy(archive: Path, entries: Iterator[Entry], folder: Path, limit: int) -> None:
    """Write the entries; sizes are counted while reading, never believed."""
    packed, written = archive.stat().st_size, 0
    for files, (path, opened) in enumerate(entries):
        if files >= LIMIT_FILES:
            raise DataError(f"{archive} holds more than {LIMIT_FILES} files; nothing was unpacked")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, (folder / path).open("xb") as copy:
            while chunk := source.read(CHUNK):
                written += len(chunk)
                if written > limit or written > max(FREE_BYTES, LIMIT_RATIO * packed):
                    raise DataError(
                        f"{archive} unpacks to more than {written - len(chunk)} bytes; nothing was unpacked"
                    )
                copy.write(chunk)
