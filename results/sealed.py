"""Caches under a seal: the hash of everything in a file stands at its front, so that any damage is seen.

    <sha256 of the rest, in 64 hex digits, and the end of a line><the rest>
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

FRONT = 65  # the digits and the end of their line


def write(pieces: Sequence[bytes], path: Path) -> None:
    """The pieces, one after the other, under their seal."""
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    with path.open("wb") as stream:
        stream.write(digest.hexdigest().encode() + b"\n")
        stream.writelines(pieces)


def opened(data: bytes) -> memoryview | None:
    """What lies under the seal; None where it is not what was written."""
    inside = memoryview(data)[FRONT:]
    return inside if data[:FRONT] == sha256(inside).hexdigest().encode() + b"\n" else None
