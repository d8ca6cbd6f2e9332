"""Ways in which a file of predictions can be broken; each gives bytes, or makes something that is no file."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

LABEL = np.arange(40, dtype=np.int32) % 4


def npz(compress: bool = True, **arrays: object) -> bytes:
    stream = io.BytesIO()
    held = {"pred": LABEL, "label": LABEL, "margin": np.ones(40, np.float32), "confidence": np.ones(40, np.float32),
            "nll": np.ones(40, np.float32), "items": np.array("items")} | arrays
    (np.savez_compressed if compress else np.savez)(stream, **{k: v for k, v in held.items() if v is not None})
    return stream.getvalue()


def member(head: str, body: bytes = b"", magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    """An .npz whose `pred` has this head."""
    text = head.encode() + b"\n"
    raw = magic + struct.pack("<H", len(text)) + text + body
    stream = io.BytesIO(npz(pred=None))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("pred.npy", raw)
    return stream.getvalue()


def _twice() -> bytes:
    stream = io.BytesIO(npz())
    with zipfile.ZipFile(stream, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("pred.npy", b"")
    return stream.getvalue()


def _bent(offset: int, value: int) -> bytes:
    """A byte changed in every entry of the archive's directory."""
    content = bytearray(npz(compress=False))
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + offset] = value
        at = content.find(b"PK\x01\x02", at + 1)
    return bytes(content)


def _objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, pred=np.array([{}], dtype=object), label=LABEL)
    return stream.getvalue()


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "no archive": b"PK\x03\x04 no archive",
    "cut off": npz()[:-60],
    "cut at the front": npz()[10:],
    "a byte changed": npz()[:90] + b"\xff\xff" + npz()[92:],
    "an array missing": npz(pred=None),
    "label missing": npz(label=None),
    "an array twice": _twice(),
    "objects": _objects(),
    "a text": npz(pred=np.array(["a"] * 40)),
    "floats": npz(pred=LABEL + 0.5),
    "complex": npz(pred=LABEL * 1j),
    "two sides": npz(pred=LABEL.reshape(8, 5)),
    "a number": npz(pred=np.array(3)),
    "other lengths": npz(pred=LABEL[:-1]),
    "no images": npz(pred=LABEL[:0], label=LABEL[:0]),
    "negative classes": npz(label=LABEL - 1),
    "classes without end": npz(label=LABEL.astype(np.int64) + 2**40),
    "more than it holds": member("{'descr': '<i4', 'fortran_order': False, 'shape': (40,)}", b"\0" * 8),
    "less than it holds": member("{'descr': '<i4', 'fortran_order': False, 'shape': (40,)}", b"\0" * 800),
    "terabytes": member("{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,)}"),
    "negative sides": member("{'descr': '<i4', 'fortran_order': False, 'shape': (-40,)}", b"\0" * 160),
    "a head of another kind": member("[1, 2"),
    "a head that calls": member("{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (4,)}"),
    "a nested head": member("(" * 5000),
    "another version": member("{}", magic=b"\x93NUMPY\x09\x00"),
    "no magic": member("{}", magic=b"\x93GRUMPY\x01"),
    "another compression": _bent(10, 99),
    "encrypted": _bent(8, 1),
}

NO_FILES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}
