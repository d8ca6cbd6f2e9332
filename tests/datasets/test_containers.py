"""Files that hold others (HDF5, npz, MAT): they lead nowhere else, and claim no more than they have."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datasets import door, hdf5, matlab, npz
from datasets.card import DataError
from datasets.encoded import H5Image
from datasets.images import open_rgb
from datasets.vtab import arrays, folders, scenes
from datasets.vtab.pools import reading

PIXELS = np.frombuffer(b"not a picture", np.uint8)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside, as bytes and as HDF5."""
    (tmp_path / "secret.txt").write_bytes(b"secret bytes")
    with h5py.File(tmp_path / "secret.h5", "w") as handle:
        handle["x"] = np.frombuffer(b"secret bytes", np.uint8)
    (tmp_path / "svhn").mkdir()
    door.admit(tmp_path / "svhn")
    return tmp_path / "secret.h5"


def packed(secret: Path, kind: str) -> Path:
    """An images.hdf5 whose member a/b.jpg lies elsewhere."""
    file = secret.parent / "svhn" / "images.hdf5"
    with h5py.File(file, "w") as handle:
        group = handle.create_group("a")
        handle["own"] = PIXELS
        if kind == "external link":
            group["b.jpg"] = h5py.ExternalLink(str(secret), "x")
        elif kind == "link of a folder":
            del handle["a"]
            handle["a"] = h5py.ExternalLink(str(secret), "/")
        elif kind == "soft link":
            group["b.jpg"] = h5py.SoftLink("/own")
        elif kind == "external storage":
            group.create_dataset("b.jpg", (12,), "u1", external=[(str(secret.with_suffix(".txt")), 0, 12)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((12,), "u1")
            layout[:] = h5py.VirtualSource(str(secret), "x", (12,))
            group.create_virtual_dataset("b.jpg", layout)
    return file


@pytest.mark.parametrize(
    "kind", ["external link", "link of a folder", "soft link", "external storage", "virtual"]
)
def test_hdf5_that_leads_elsewhere_is_refused_and_not_followed(kind: str, secret: Path) -> None:
    file = packed(secret, kind)
    key = "a/x" if kind == "link of a folder" else "a/b.jpg"
    assert H5Image(file, "own").read() == PIXELS.tobytes()
    with pytest.raises(DataError, match=r"images\.hdf5 cannot be read.*only the file's own data are read"):
        H5Image(file, key).read()


def test_virtual_data_over_a_pipe_do_not_wait(secret: Path) -> None:
    """The library opens sources when the data set is opened; through the door's file it opens no path."""
    os.mkfifo(secret.parent / "pipe.h5")
    file = secret.parent / "svhn" / "images.hdf5"
    with h5py.File(file, "w") as handle:
        layout = h5py.VirtualLayout((4, 12), "u1", maxshape=(None, 12))
        source = h5py.VirtualSource(str(secret.parent / "pipe.h5"), "x", (4, 12), maxshape=(None, 12))
        layout[: h5py.h5s.UNLIMITED, :] = source[: h5py.h5s.UNLIMITED, :]
        handle.create_virtual_dataset("b.jpg", layout)
    with pytest.raises(DataError, match="only the file's own data"):
        H5Image(file, "b.jpg").read()


def test_a_linked_or_endless_hdf5_file_is_refused(secret: Path) -> None:
    file = secret.parent / "svhn" / "images.hdf5"
    for target, said in ((secret, "leaves the folder"), (Path("/dev/zero"), "leaves the folder")):
        file.symlink_to(target)
        with pytest.raises(DataError, match=said):
            H5Image(file, "x").read()
        file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError, match="is a pipe"):
        H5Image(file, "x").read()


def test_hdf5_that_claims_terabytes_is_refused_before_memory_is_taken(secret: Path) -> None:
    file = secret.parent / "svhn" / "images.hdf5"
    with h5py.File(file, "w") as handle:
        handle.create_dataset("vast", (1 << 42,), "u1", chunks=(1 << 16,))
        handle.create_dataset("text", data=np.array(["a"], dtype=h5py.string_dtype()))
        handle.create_dataset("piece", (8, 1 << 10), "u1", chunks=(8, 1 << 10))
    for key, said in (("vast", "claims the shape"), ("text", "has the type object")):
        with pytest.raises(DataError, match=rf"'{key}' {said}"):
            H5Image(file, key).read()
    with pytest.raises(ValueError, match="claims the shape"):
        hdf5.dataset(hdf5.unpacked(file), "piece", 1000, ndim=2)
    with pytest.raises(ValueError, match="the shape"):
        hdf5.dataset(hdf5.unpacked(file), "piece", 1 << 20, ndim=4)


def test_a_changed_file_is_opened_anew(secret: Path) -> None:
    file = secret.parent / "svhn" / "images.hdf5"
    for value in (b"one", b"three"):
        file.unlink(missing_ok=True)
        with h5py.File(file, "w") as handle:
            handle["a"] = np.frombuffer(value, np.uint8)
        assert H5Image(file, "a").read() == value
    with pytest.raises(DataError, match=r"cannot be read as an image"):
        open_rgb(H5Image(file, "a"))


def test_pacman_strings_of_fixed_length_are_read(secret: Path) -> None:
    file = secret.parent / "svhn" / "images.hdf5"
    with h5py.File(file, "w") as handle:
        handle["a"] = np.bytes_(b"as PACE wrote it")
    assert H5Image(file, "a").read() == b"as PACE wrote it"


# npz


def npy(shape: tuple[int, ...], data: bytes, descr: object = "|u1") -> bytes:
    """A .npy whose header claims that shape."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def zipped(file: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file


@pytest.mark.parametrize(
    "member",
    [npy((1 << 42,), b"abc"), npy((1 << 20, 1 << 22, 1 << 22), b""), npy((3,), b"abcd"), npy((4,), b"abc"),
     npy((-1,), b"abc"), npy((1,), b"abcdefgh", "|O"), npy((3,), b"", "|V0"), b"\x93NUMPY\x09\x00", b""],
)  # fmt: skip
def test_npz_headers_that_claim_what_is_not_there_are_refused(member: bytes, tmp_path: Path) -> None:
    file = zipped(tmp_path / f"{arrays.DSPRITES}.npz", imgs=member, latents_classes=member)
    with pytest.raises(DataError, match=r"dsprites_.*npz cannot be read as dSprites"):
        arrays.dsprites(tmp_path, "loc")
    assert file.exists()


@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_arrays_equal_numpys(order: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = np.asarray(rng.integers(0, 255, (5, 4, 3), np.uint8), order=order)  # type: ignore[call-overload]
    two = rng.standard_normal((7, 6))
    np.savez_compressed(tmp_path / "x.npz", one=one, two=two, empty=np.zeros((0, 3)))
    got = npz.arrays(tmp_path / "x.npz", "one", "two", "empty")
    for ours, given in zip(got, (one, two, np.zeros((0, 3))), strict=True):
        assert np.array_equal(ours, given) and ours.dtype == given.dtype


# MATLAB


def matrix(sort: int, shape: tuple[int, ...], inner: bytes) -> bytes:
    """A level 5 array of a class and a claimed shape."""
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    body = struct.pack("<IIII", 6, 8, sort, 0) + struct.pack("<II", 5, len(sizes)) + sizes + b"\0" * (-len(sizes) % 8)
    body += struct.pack("<II", 1, 1) + b"x" + bytes(7) + inner
    return struct.pack("<II", 14, len(body)) + body


def mat(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def nested(depth: int) -> bytes:
    inner = matrix(6, (0, 0), struct.pack("<II", 9, 0))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return inner


WIDTH = struct.pack("<HHI", 5, 4, 8)  # of the names of a struct
NAME = struct.pack("<II", 1, 8) + b"field".ljust(8, b"\0")
HOSTILE = {
    "cells without end": mat(matrix(1, (1 << 20, 1 << 20), b"")),
    "a struct without end": mat(matrix(2, (1 << 15, 1 << 15), WIDTH + NAME)),
    "a struct without names": mat(matrix(2, (1 << 15, 1 << 15), WIDTH + NAME[:4] + bytes(4))),
    "numbers without end": mat(matrix(9, (1 << 30, 1 << 10), struct.pack("<II", 2, 8) + bytes(8))),
    "negative sizes": mat(matrix(9, (-1, -8), struct.pack("<II", 2, 8) + bytes(8))),
    "two thousand cells in one another": mat(nested(2000)),
    "level 4 without end": struct.pack("<5i", 0, 1 << 30, 1 << 30, 0, 2) + b"X\0" + bytes(64),
    "a function": mat(matrix(16, (1, 1), b"")),
    "an object": mat(matrix(3, (1, 1), b"")),
    "numbers of a type that there is not": mat(matrix(9, (1, 8), struct.pack("<II", 0x7F, 8) + bytes(8))),
    "text of a type that there is not": mat(matrix(4, (1, 8), struct.pack("<II", 0x7F, 8) + bytes(8))),
    "complex numbers without a second part": mat(matrix(9 | 0x800, (1, 8), struct.pack("<II", 2, 8) + bytes(8))),
    "cut off": mat(matrix(9, (1, 8), struct.pack("<II", 2, 80) + bytes(8))),
    "an element without end": mat(struct.pack("<II", 14, 0xFFFFFFF0)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_mat_files_that_claim_what_is_not_there_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"train_32x32\.mat cannot be read as a MATLAB file"):
        arrays.svhn(tmp_path)


def test_mat_files_of_scipy_pass_whatever_they_hold(tmp_path: Path) -> None:
    cells = np.empty((2, 3), dtype=object)
    cells[:] = "a"
    cells[0, 0] = np.zeros((0, 0))
    rows = np.array([(b"x", 1.5)], dtype=[("name", "S1"), ("value", "f8")])
    held = {"X": np.zeros((3, 4, 5), np.uint8), "y": np.float64([[1, 2]]), "c": cells, "s": rows, "t": "text",
            "e": np.zeros((0, 0)), "z": np.array([[1 + 2j]]), "one": 3, "b": np.array([[True]])}  # fmt: skip
    for squeeze in (True, False):
        for packed_up in (True, False):
            savemat(tmp_path / "x.mat", held, do_compression=packed_up)
            ours, theirs = matlab.load(tmp_path / "x.mat", squeeze), loadmat(tmp_path / "x.mat", squeeze_me=squeeze)
            assert {k: repr(v) for k, v in ours.items()} == {k: repr(v) for k, v in theirs.items()}
    savemat(tmp_path / "x.mat", {"y": np.float64([[1, 2]])}, format="4")
    assert matlab.load(tmp_path / "x.mat")["y"].tolist() == [[1.0, 2.0]]


def test_any_altered_bytes_of_hdf5_npz_and_mat_end_in_the_named_error_or_a_result(tmp_path: Path) -> None:
    """Bounded: 3 x 250 files, with the memory of the process held to four more GB."""
    buffer = io.BytesIO()
    cells = np.empty(3, dtype=object)
    cells[:] = "abc"
    savemat(buffer, {"X": np.zeros((4, 4, 3, 5), np.uint8), "y": np.ones((5, 1)), "c": cells})
    with h5py.File(tmp_path / "good.h5", "w") as handle:
        handle.create_dataset("a/b", data=PIXELS, chunks=(4,), compression="gzip")
    np.savez_compressed(tmp_path / "good.npz", one=np.arange(50))
    good = {"mat": buffer.getvalue()} | {kind: (tmp_path / f"good.{kind}").read_bytes() for kind in ("h5", "npz")}
    dice, told = random.Random(0), 0
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), hard))
    try:
        for kind, data in good.items():
            file = tmp_path / f"x.{kind}"
            for _ in range(250):
                bad = bytearray(data)
                for _ in range(dice.randint(1, 6)):
                    bad[dice.randrange(len(bad))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
                file.write_bytes(bad[: dice.choice((len(bad), len(bad), dice.randrange(len(bad))))])
                try:
                    with reading(file):
                        if kind == "mat":
                            matlab.load(file)
                        elif kind == "npz":
                            npz.arrays(file, "one")
                        else:
                            H5Image(file, "a/b").read()
                except DataError:
                    told += 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert told > 300


# numbers that are none


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 1e300])
def test_a_label_that_is_no_whole_number_is_refused_and_not_rounded(value: float, tmp_path: Path) -> None:
    savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1.0], [value]])})
    with pytest.raises(DataError, match=r"train_32x32\.mat cannot be read.* (image 1 holds|1 to 10)"):
        arrays.svhn(tmp_path)
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[1.0]])})
    savemat(tmp_path / "setid.mat", {name: np.array([[value]]) for name in ("trnid", "valid", "tstid")})
    with pytest.raises(DataError, match=r"setid\.mat"):
        folders.flowers(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_distance_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is no distance"):
        scenes.kitti_objects("Car 0 0 0 0 0 0 0 0 0 0 0 0 " + value + " 0")


@pytest.mark.parametrize("drives", [1, 2])
def test_kitti_with_too_few_drives_to_cut_is_named(drives: int, tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "mapping").mkdir()
    rows = [f"2011_09_26 drive_{i % drives} 0000000000" for i in range(4)]
    (tmp_path / "mapping" / "train_mapping.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "mapping" / "train_rand.txt").write_text("1,2,3,4")
    with pytest.raises(DataError, match=rf"train_mapping\.txt cannot be read: {drives} drives cannot be cut"):
        scenes.kitti(tmp_path)
