"""Raw sets that come as arrays: CIFAR-100, SVHN, PatchCamelyon, dSprites, small NORB."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import door, hdf5, matlab, npz
from ..card import DataError
from ..door import LIMITS
from . import labels, unpickle
from .pools import Pixels, Pools, Record, place, reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW = 64 << 20  # bytes of one picture in an array


def _check(file: Path, images: int, found: int) -> None:
    if images != found:
        raise DataError(f"{file} holds {images} images but {found} labels")


def cifar100(root: Path) -> Pools:
    """Python pickles or the binary form; the fine label; key = place in the file."""
    import numpy as np

    what = "cifar-100-python/{train,test} or cifar-100-binary/{train,test}.bin"
    base = place(root, "cifar-100-python", "cifar-100-binary", "cifar/cifar-100-python", what=what)
    pools: Pools = {}
    for split in ("train", "test"):
        if base.name.endswith("binary"):
            file = base / f"{split}.bin"
            with reading(file, "3,074 bytes an image: coarse label, fine label, pixels"):
                rows = np.frombuffer(door.read(file, "arrays"), np.uint8).reshape(-1, 3074)
            fine, planes = rows[:, 1].tolist(), rows[:, 2:]
        else:
            file = base / split
            with reading(file, "a pickle of data and fine_labels"):
                found = unpickle.load(door.read(file, "arrays"))
                planes, fine = found["data"], found["fine_labels"]
                if not isinstance(planes, np.ndarray) or type(fine) is not list:
                    raise ValueError("data is no array of bytes, or fine_labels is no list")
                planes = planes.reshape(-1, 3072)
        _check(file, len(planes), len(fine))
        pictures = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        with reading(file):
            pools[split] = [
                Record(str(i), in_range(label, 100, f"image {i}"), Pixels(f"{file.name}[{i}]", pictures, i))
                for i, label in enumerate(fine)
            ]
    return pools


def in_range(label: float, classes: int, where: str) -> int:
    """The label, if it is one."""
    if not 0 <= whole(label, where) < classes:
        raise ValueError(f"{where}: label {label} is out of range; the labels are 0 to {classes - 1}")
    return int(label)


def whole(value: float, where: str) -> int:
    """A whole number out of a file, whatever type it is stored in; 1.5 is none, and is not rounded."""
    value = value.item() if hasattr(value, "item") else value  # of numpy; one of several raises ValueError
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{where} holds a {type(value).__name__} where a whole number should be")
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{where} holds {value} where a whole number should be")
    return int(value)


def svhn(root: Path) -> Pools:
    """MATLAB files with the image number on the last axis; 10 means 0."""
    import numpy as np

    pools: Pools = {}
    for split in ("train", "test"):
        file = place(root, f"{split}_32x32.mat", f"svhn/{split}_32x32.mat", what="SVHN's cropped digits")
        with reading(file, "a MATLAB file with X (32,32,3,N) and y"):
            found = matlab.load(file)
            pictures, y = np.moveaxis(found["X"], -1, 0), found["y"].reshape(-1).tolist()
            _check(file, len(pictures), len(y))
            pools[split] = [
                Record(str(i), labels.svhn(whole(value, f"image {i}")), Pixels(f"{file.name}[{i}]", pictures, i))
                for i, value in enumerate(y)
            ]
    return pools


def patch_camelyon(root: Path) -> Pools:
    """HDF5 pairs x (N,96,96,3) and y; TensorFlow Datasets calls its keys train_0, valid_0, test_0."""
    pools: Pools = {}
    for split, pool in (("train", "train"), ("valid", "validation"), ("test", "test")):
        stem = f"camelyonpatch_level_2_split_{split}"
        places = [f"{folder}{stem}_%s.h5{zipped}" for folder in ("", "pcam/") for zipped in ("", ".gz")]
        x, y = (place(root, *(name % axis for name in places), what="PatchCamelyon's HDF5 files") for axis in "xy")
        with reading(x, "HDF5 with the dataset x"):
            pictures = hdf5.dataset(hdf5.unpacked(x), "x", ROW, ndim=4)
        with reading(y, "HDF5 with the dataset y"):
            marks = hdf5.dataset(hdf5.unpacked(y), "y", LIMITS["list"])[:].reshape(-1).tolist()
            _check(y, len(pictures), len(marks))
            pools[pool] = [
                Record(f"{split}_{i}", in_range(mark, 2, f"image {i}"), Pixels(f"{x.name}[{i}]", pictures, i))
                for i, mark in enumerate(marks)
            ]
    return pools


DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"


def dsprites(root: Path, task: str) -> Pools:
    """HDF5 or npz; labels come from the stored latent classes, never from index arithmetic."""
    file = place(root, f"{DSPRITES}.hdf5", f"{DSPRITES}.npz", f"dsprites/{DSPRITES}.hdf5", f"dsprites/{DSPRITES}.npz",
                 what="dSprites as .hdf5 or .npz")  # fmt: skip
    with reading(file, "dSprites: imgs and latents of every row"):
        if file.suffix == ".hdf5":
            found = hdf5.unpacked(file)
            pictures = hdf5.dataset(found, "imgs", ROW, ndim=3)
            latents = hdf5.dataset(found, "latents/classes", LIMITS["list"])[:]
        else:  # the metadata, a pickled object, is never looked at
            pictures, latents = npz.arrays(file, "imgs", "latents_classes")
        _check(file, len(pictures), len(latents))
        column, rule = (4, labels.dsprites_location) if task == "loc" else (3, labels.dsprites_orientation)
        values = [rule(whole(value, f"row {i}")) for i, value in enumerate(latents[:, column].tolist())]
        records = [
            Record(str(i), in_range(value, 16, f"row {i}"), Pixels(f"{file.name}[{i}]", pictures, i, factor=255))
            for i, value in enumerate(values)
        ]
    return {"train": records}


NORB_TYPES = {0x1E3D4C55: "uint8", 0x1E3D4C54: "int32"}


def read_norb(file: Path) -> NDArray[Any]:
    """A NORB binary file: magic, number of dimensions, at least three sizes (padded with 1), row-major data."""
    import numpy as np

    with reading(file, "a NORB binary matrix (not MATLAB's, whatever its ending)"):
        data = door.plain(file)
        magic, dims = struct.unpack_from("<ii", data)
        if magic not in NORB_TYPES:
            raise ValueError(f"its first four bytes are 0x{magic & 0xFFFFFFFF:08X}")
        if not 1 <= dims <= 8:
            raise ValueError(f"it claims {dims} dimensions")
        sizes = struct.unpack_from(f"<{max(3, dims)}i", data, 8)[:dims]
        start = 8 + 4 * max(3, dims)
        dtype = np.dtype(NORB_TYPES[magic]).newbyteorder("<")
        expected = start + dtype.itemsize * int(np.prod(sizes, dtype=object))
        if min(sizes) < 0 or expected != len(data):
            raise ValueError(f"it should be {expected} bytes long for the shape {sizes}, and is {len(data)}")
        return np.frombuffer(data, dtype, offset=start).reshape(sizes)


def smallnorb(root: Path, task: str) -> Pools:
    """Camera 0 of each stereo pair; info = instance, elevation, azimuth, lighting."""
    pools: Pools = {}
    for pool, stem in (
        ("train", "smallnorb-5x46789x9x18x6x2x96x96-training"),
        ("test", "smallnorb-5x01235x9x18x6x2x96x96-testing"),
    ):
        ends = [(folder, zipped) for folder in ("", "smallnorb/") for zipped in ("", ".gz")]
        what = "small NORB's dat and info files"
        dat, info_file = (
            place(root, *(f"{folder}{stem}-{part}.mat{zipped}" for folder, zipped in ends), what=what)
            for part in ("dat", "info")
        )
        pairs, info = read_norb(dat), read_norb(info_file)
        with reading(info_file, f"four numbers for each stereo pair of {dat.name}"):
            if pairs.ndim != 4 or pairs.shape[1] != 2 or info.shape != (len(pairs), 4):
                raise ValueError(f"shapes {pairs.shape} and {info.shape}")
            column, rule = (2, labels.norb_azimuth) if task == "azi" else (1, labels.norb_elevation)
            left: NDArray[np.uint8] = pairs[:, 0]
            pools[pool] = [
                Record(str(i), rule(int(row[column])), Pixels(f"{dat.name}[{i}]", left, i))
                for i, row in enumerate(info)
            ]
    return pools
