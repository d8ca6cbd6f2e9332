"""TFRecord and tf.train.Example, read exactly and without TensorFlow; and DMLab, the raw set that comes in them.

A record is its length (uint64, little endian), the masked CRC-32C of those eight bytes, the payload, and the payload's
masked CRC-32C. An Example is a protocol buffer: features (1) -> entries (1) of key (1) and feature (2), which holds a
list of bytes (1), floats (2) or integers (3).
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import door
from ..card import DataError
from .arrays import in_range
from .pools import Pools, Record, reading

if TYPE_CHECKING:
    from PIL.Image import Image

MASK = 0xA282EAD8
LONGEST = door.LIMITS["image"]  # bytes of a record, which holds one picture


@cache
def _tables() -> list[list[int]]:
    """Four tables, so that four bytes are folded at once."""
    first = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        first.append(value)
    tables = [first]
    for _ in range(3):
        tables.append([first[value & 255] ^ (value >> 8) for value in tables[-1]])
    return tables


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum."""
    zero, one, two, three = _tables()
    crc, whole = 0xFFFFFFFF, len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        crc ^= word
        crc = three[crc & 255] ^ two[crc >> 8 & 255] ^ one[crc >> 16 & 255] ^ zero[crc >> 24]
    for byte in data[whole:]:
        crc = (crc >> 8) ^ zero[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The form in which a TFRecord stores a checksum."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """A payload as a record."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked(length)) + payload + struct.pack("<I", masked(payload))


def records(file: Path, verify: bool = True) -> Iterator[tuple[int, bytes]]:
    """(offset of the payload, payload) of every record; a torn or altered file is told with the byte where it is."""
    with door.opened(file, "stream") as handle:
        offset, size = 0, os.fstat(handle.fileno()).st_size
        while header := handle.read(12):
            if len(header) < 12:
                raise DataError(f"{file} is cut off at byte {offset}: a record's header needs 12 bytes")
            length, check = struct.unpack("<QI", header)
            if masked(header[:8]) != check:
                raise DataError(f"{file}: the length of the record at byte {offset} does not match its checksum")
            if offset + 16 + length > size:
                raise DataError(f"{file} is cut off: the record at byte {offset} claims {length} bytes")
            if length > LONGEST:
                raise DataError(f"{file}: the record at byte {offset} has {length} bytes; at most {LONGEST} are read")
            payload = handle.read(length)
            (check,) = struct.unpack("<I", handle.read(4))
            if verify and masked(payload) != check:
                raise DataError(f"{file}: the record at byte {offset} does not match its checksum")
            yield offset + 12, payload
            offset += 16 + length


class Span(NamedTuple):
    """A range of bytes within a payload."""

    start: int
    stop: int


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= stop or shift > 63:
            raise ValueError("a number is cut off")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data: bytes, span: Span) -> Iterator[tuple[int, Span | int]]:
    """(number, bytes or integer) of every field of a message; fixed-width fields are given as their bytes."""
    at = span.start
    while at < span.stop:
        tag, at = _varint(data, at, span.stop)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at, span.stop)
            yield number, value
            continue
        if kind == 2:
            length, at = _varint(data, at, span.stop)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        if at + length > span.stop:
            raise ValueError("a field is cut off")
        yield number, Span(at, at + length)
        at += length


def _inner(data: bytes, span: Span, number: int) -> Iterator[Span]:
    for found, value in fields(data, span):
        if found == number and isinstance(value, Span):
            yield value


def example(data: bytes) -> dict[str, list[Span] | list[int]]:
    """Feature name -> spans of its bytes, or its integers."""
    found: dict[str, list[Span] | list[int]] = {}
    for features in _inner(data, Span(0, len(data)), 1):
        for entry in _inner(data, features, 1):
            names = list(_inner(data, entry, 1))
            for feature in _inner(data, entry, 2):
                if not names:
                    raise ValueError("a feature has no name")
                name = data[names[0].start : names[0].stop].decode()
                for kind, value in fields(data, feature):
                    if kind == 1 and isinstance(value, Span):
                        found[name] = list(_inner(data, value, 1))
                    elif kind == 3 and isinstance(value, Span):
                        found[name] = _integers(data, value)
    return found


def _integers(data: bytes, span: Span) -> list[int]:
    """A packed or unpacked list."""
    values = []
    for number, value in fields(data, span):
        if number != 1:
            continue
        if isinstance(value, int):
            values.append(value)
            continue
        at = value.start
        while at < value.stop:
            one, at = _varint(data, at, value.stop)
            values.append(one)
    return [value - (1 << 64) if value >> 63 else value for value in values]


def _field(number: int, data: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(data)) + data


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def encode(features: dict[str, bytes | int]) -> bytes:
    """An Example of one value a feature (for stand-ins and tests)."""
    entries = b""
    for name, value in features.items():
        inner = _field(1, _field(1, value)) if isinstance(value, bytes) else _field(3, _field(1, _number(value)))
        entries += _field(1, _field(1, name.encode()) + _field(2, inner))
    return _field(1, entries)


@dataclass(frozen=True)
class Part:
    """An encoded image inside a larger file."""

    file: Path
    offset: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.file.as_posix()}@{self.offset}"

    def open(self) -> Image:
        from PIL import Image

        from ..images import FORMATS

        with door.opened(self.file, "stream") as handle:
            handle.seek(self.offset)
            return Image.open(io.BytesIO(handle.read(self.size)), formats=FORMATS)


def dmlab(root: Path) -> Pools:
    """Shards `dmlab-{train,validation,test}.tfrecord*` of image, filename and label; the filename is the key."""
    pools: Pools = {}
    for split in ("train", "validation", "test"):
        for folder in (root, root / "dmlab"):
            door.admit(folder)
        shards = sorted(found for folder in (root, root / "dmlab") for found in folder.glob(f"dmlab-{split}.tfrecord*"))
        if not shards:
            raise DataError(f"{root / f'dmlab-{split}.tfrecord*'} is missing; expected there: DMLab's shards")
        pools[split] = []
        for shard in shards:
            for offset, payload in records(shard):
                with reading(shard, f"an Example of image, filename and label at byte {offset}"):
                    found = example(payload)
                    (image,), (key,), (label,) = found["image"], found["filename"], found["label"]
                    if not isinstance(image, Span) or not isinstance(key, Span) or not isinstance(label, int):
                        raise ValueError("a feature is of another kind")
                    source = Part(shard, offset + image.start, image.stop - image.start)
                    pools[split].append(Record(payload[key.start : key.stop], in_range(label, 6, "record"), source))
    return pools
