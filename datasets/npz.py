"""Arrays out of numpy's .npz files, whose headers are held against the bytes that follow before memory is taken."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import door

if TYPE_CHECKING:
    from numpy.typing import NDArray


def arrays(file: Path, *names: str) -> list[NDArray[Any]]:
    """The arrays of those names, in that order; a pickled object is refused. Call within `reading`."""
    with door.opened(file, "arrays") as handle, zipfile.ZipFile(handle) as archive:
        return [_array(archive, name) for name in names]


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    import numpy as np
    from numpy.lib import format as npy

    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of the version {version}")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(stream)
        if dtype.kind not in "buif":
            raise ValueError(f"{name} is no array of numbers but of {dtype}")
        size, held = dtype.itemsize * math.prod(shape), member.file_size - stream.tell()
        if min(shape, default=0) < 0 or size != held or size > door.LIMITS["arrays"]:
            raise ValueError(f"{name} claims the shape {shape} of {dtype} and has {held} bytes")
        data, at = bytearray(size), 0
        while at < size and (piece := stream.read(min(door.MIB, size - at))):
            data[at : at + len(piece)] = piece
            at += len(piece)
    if at < size:
        raise ValueError(f"{name} is cut off")
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
