"""Many records in two files: a pack, which reads like the folder of records that it was made of.

    <root>/records.jsonl      a record a line, in the order of their files' names, each with its keys in the order of
                              the schema, so that a line gives back the very bytes of the record's own file
    <root>/predictions.zip    what the records name as artifacts, uncompressed members under the same names

Both follow from the records alone: packing again gives the same bytes. Whoever reads asks `read(path)` for the path
that the file would have in a folder, `<root>/<dataset>/<name>`, and need not know which of the two there is.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock

from . import door
from .naming import name_of
from .parsing import parse
from .schema import RecordError

RECORDS, FILES = "records.jsonl", "predictions.zip"
MAX_BYTES = 1 << 30  # of one member: more than any predictions take
ALL_BYTES = 1 << 32  # of all predictions of a pack
_LOCK = Lock()  # a ZipFile's position is shared by those who read from it


@dataclass
class Pack:
    """One pack, its lines by the name that each record's file would have."""

    root: Path
    lines: dict[str, bytes]
    stamp: tuple[int, int]  # newest mtime_ns of both files, and a number that changes when the archive does
    _zip: zipfile.ZipFile | None = field(default=None, repr=False)

    def names(self) -> list[str]:
        """`svhn/lora-regatta_vit_48-s0-0123456789ab.json`, sorted as a folder's files are."""
        return list(self.lines)

    def record(self, name: str) -> bytes:
        """The bytes of the record's file; raises KeyError for a name that is not there."""
        return as_file(self.lines[name])

    def artifact(self, name: str) -> bytes:
        """The bytes of a stored artifact; raises FileNotFoundError, or OSError where the pack is damaged."""
        with _LOCK:
            try:
                if self._zip is None:
                    self._zip = zipfile.ZipFile(door.opened(self.root / FILES, ALL_BYTES))
                info = self._zip.getinfo(name)
                if info.file_size > MAX_BYTES:
                    raise OSError(f"{name} in {FILES} is larger than {MAX_BYTES} bytes")
                return self._zip.read(info)
            except KeyError:
                raise FileNotFoundError(f"{name} is not in {FILES}") from None
            except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
                raise OSError(f"{FILES} is damaged ({type(error).__name__})") from None


def find(root: Path) -> Pack | None:
    """The pack in this folder, or None; opened once for as long as its files stay as they are.

    Raises RecordError naming the line that is no record, or the file that cannot be read.
    """
    try:
        stamps = tuple((s.st_size, s.st_mtime_ns) for s in [(root / RECORDS).stat()])
    except OSError:
        return None
    try:
        more = (root / FILES).stat()
        stamps += ((more.st_size, more.st_mtime_ns),)
    except OSError:
        pass
    return _opened(root, stamps)


@lru_cache(maxsize=64)
def _opened(root: Path, stamps: tuple[tuple[int, int], ...]) -> Pack:
    lines: dict[str, bytes] = {}
    try:
        content = door.read(root / RECORDS, door.LARGE)
    except OSError as error:
        raise RecordError(f"{root.name}/{RECORDS}: cannot be read ({type(error).__name__})") from None
    for number, line in enumerate(content.splitlines(), 1):
        try:
            name = name_of(parse(line.decode()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RecordError(f"{root.name}/{RECORDS}: line {number} is no record") from None
        if name in lines:
            raise RecordError(f"{root.name}/{RECORDS}: line {number} repeats {name}")
        lines[name] = line
    newest = max(when for _, when in stamps)
    return Pack(root, lines, (newest, hash(stamps[1:]) & (1 << 56) - 1))


def as_line(content: bytes) -> bytes:
    """A record's file on one line."""
    return json.dumps(json.loads(content), separators=(",", ":"), ensure_ascii=False).encode()


def as_file(line: bytes) -> bytes:
    """The inverse of as_line."""
    return (json.dumps(json.loads(line), indent=1, ensure_ascii=False) + "\n").encode()


def read(path: Path) -> bytes:
    """The bytes of `<root>/<dataset>/<name>`, from its file or else from the pack in <root>; raises OSError."""
    try:
        return door.read(path, door.SMALL if path.suffix == ".json" else MAX_BYTES)
    except FileNotFoundError:
        pack = find(path.parent.parent)
        if pack is None:
            raise
    name = f"{path.parent.name}/{path.name}"
    return pack.record(name) if name in pack.lines else pack.artifact(name)


def there(path: Path) -> bool:
    """Whether `read` would find it."""
    if path.is_file():
        return True
    pack = find(path.parent.parent)
    try:
        return pack is not None and (f"{path.parent.name}/{path.name}" in pack.lines or bool(read(path)))
    except OSError:
        return False
