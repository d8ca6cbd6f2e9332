"""MATLAB's MAT files (level 4 and 5), looked through before scipy reads them.

A few bytes can claim an array of terabytes or a hundred thousand nested cells, at which a reader dies. So the elements
of a level 5 file are walked first: every claimed length must lie in the file, every claimed cell needs the eight bytes
of its own tag, and what is no number, text, cell or struct is refused. Source: MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

from . import door

HEADER, TAG, DEPTH, ITEMS = 128, 8, 16, 1 << 26
COMPRESSED, MATRIX, INT32, UINT32 = 15, 14, 5, 6
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # of each type in which numbers are stored
TEXTS = (1, 2, 4, 16, 17, 18)
COMPLEX = 0x800
UNPACKED = door.LIMITS["arrays"]
Element = tuple[int, memoryview, int]  # type, content, where the next one begins


def _element(data: memoryview, at: int, order: str) -> Element:
    """The element at a place; short ones keep type and length in one word."""
    if at + TAG > len(data):
        raise ValueError("an element is cut off")
    kind, length = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:
        kind, length = kind & 0xFFFF, kind >> 16
        if length > 4:
            raise ValueError(f"a short element claims {length} bytes")
        return kind, data[at + 4 : at + 4 + length], at + TAG
    if at + TAG + length > len(data):
        raise ValueError(f"an element claims {length} bytes; {len(data) - at - TAG} are left")
    stop = at + TAG + length
    return kind, data[at + TAG : stop], stop if kind == COMPRESSED else stop + -length % 8


def _matrix(data: memoryview, order: str, depth: int) -> None:
    """Look through one array: flags, sizes, name, and what it holds."""
    if depth > DEPTH:
        raise ValueError(f"its cells are nested more than {DEPTH} deep")
    if not len(data):
        return  # how an empty cell is written
    kind, flags, at = _element(data, 0, order)
    if kind != UINT32 or len(flags) != 8:
        raise ValueError("an array has no flags")
    marks = struct.unpack_from(f"{order}I", flags)[0]
    sort = marks & 0xFF
    kind, sizes, at = _element(data, at, order)
    if kind != INT32 or not 8 <= len(sizes) <= 32 * 4 or len(sizes) % 4:
        raise ValueError("an array has no sizes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    count = math.prod(shape)
    if min(shape) < 0 or max(shape) > UNPACKED or count > UNPACKED:
        raise ValueError(f"an array claims the sizes {shape}")
    kind, _, at = _element(data, at, order)
    if kind not in TEXTS:
        raise ValueError("an array has no name")
    if sort == CELL:
        _inner(data, at, order, depth, count)
    elif sort == STRUCT:
        first, width, at = _element(data, at, order)
        second, names, at = _element(data, at, order)
        size = struct.unpack(f"{order}i", width)[0] if first == INT32 and len(width) == 4 else 0
        if size <= 0 or second not in TEXTS or not names or len(names) % size:
            raise ValueError("a struct has no names")
        _inner(data, at, order, depth, count * (len(names) // size))
    elif sort == CHAR:
        kind, held, _ = _element(data, at, order)
        if kind not in TEXTS or count > len(held):  # a letter needs a byte at least
            raise ValueError(f"a text claims the sizes {shape} and holds {len(held)} bytes of the type {kind}")
    elif sort in NUMBERS:
        for _ in range(2 if marks & COMPLEX else 1):
            kind, held, at = _element(data, at, order)
            if kind not in BYTES or count * BYTES[kind] != len(held):
                raise ValueError(f"an array claims the sizes {shape} and holds {len(held)} bytes of the type {kind}")
    else:
        raise ValueError(f"it holds an array of the class {sort}: neither numbers, text, cells nor a struct")


def _inner(data: memoryview, at: int, order: str, depth: int, count: int) -> None:
    """Look through the arrays that a cell or a struct holds."""
    if count * TAG > len(data) - at or count > ITEMS:
        raise ValueError(f"{count} cells are claimed and {max(0, len(data) - at)} bytes are left")
    for _ in range(count):
        kind, inner, at = _element(data, at, order)
        if kind != MATRIX:
            raise ValueError(f"a cell is an element of the type {kind}")
        _matrix(inner, order, depth + 1)


def _unpacked(data: memoryview, left: int) -> memoryview:
    """The element inside a compressed one."""
    stream = zlib.decompressobj()
    out = stream.decompress(data, left)
    if stream.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {UNPACKED} bytes")
    return memoryview(out)


def look_through(data: bytes) -> None:
    """Raise ValueError for a level 5 file that claims what it does not hold; level 4 has no nesting, and passes."""
    if len(data) < HEADER or 0 in data[:4]:
        return  # level 4, or too short for scipy too
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("its header has no mark of the byte order")
    if data[125 if order == "<" else 124] != 1:
        raise ValueError("it is HDF5 inside (version 7.3); save it as version 7 or older")
    whole, at, left = memoryview(data), HEADER, UNPACKED
    while at < len(whole):
        kind, held, at = _element(whole, at, order)
        if kind == COMPRESSED:
            held = _unpacked(held, left)
            left -= len(held)
            kind, held, _ = _element(held, 0, order)
        if kind != MATRIX:
            raise ValueError(f"it holds an element of the type {kind} where an array should be")
        _matrix(held, order, 0)


def load(file: Path, squeeze: bool = False) -> dict[str, Any]:
    """scipy's `loadmat` of a file that was looked through. Call within `reading`."""
    from scipy.io import loadmat

    data = door.read(file, "arrays")
    look_through(data)
    found: dict[str, Any] = loadmat(BytesIO(data), squeeze_me=squeeze)
    return found
