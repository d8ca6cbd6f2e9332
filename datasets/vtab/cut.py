"""VTAB-1k cut exactly from raw data, in the hash order of `pools`, and written as the community's export."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from .. import registry
from ..card import DataError
from ..folder import MARK, publish
from ..images import open_rgb
from .export import write
from .pools import Record, take
from .raw import RAW

Codec = Literal["jpeg75", "png"]
CODECS: dict[str, str] = {"jpeg75": "jpg", "png": "png"}


def encode(record: Record, codec: Codec) -> bytes:
    """A picture as it lies in the export: RGB, Pillow's default JPEG (quality 75, 4:2:0) or lossless PNG."""
    buffer = io.BytesIO()
    image = open_rgb(record.image)
    if codec == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG")
    return buffer.getvalue()


def members(name: str, root: Path) -> dict[str, list[Record]]:
    """The records of train800, val200 and test, in order. Reads labels, no pixels."""
    card = registry.get(name)
    if card.name not in RAW:
        raise DataError(f"{card.name} is no VTAB-1k task; there are: {', '.join(RAW)}")
    raw = RAW[card.name]
    if raw.cut is None:
        raise DataError(
            f"{card.name} cannot be cut from raw data: its training images were drawn in the unsorted listing order of "
            "one machine's file system; use the community's VTAB-1k export, or VPT's list vtab_trainval_splits.json"
        )
    if not Path(root).is_dir():
        raise DataError(f"{root} is missing; expected there: the raw form of {card.title}")
    return take(raw.cut, raw.read(Path(root)), small=(Path(root) / MARK).is_file())  # raw stand-ins


def vtab1k(name: str, root: Path, out: Path, codec: Codec = "jpeg75") -> Path:
    """Write the export of one task, cut from the raw data under `root`, to `out`; returns the folder made."""
    if codec not in CODECS:
        raise DataError(f"no codec is called {codec!r}; there are: {', '.join(CODECS)}")
    card = registry.get(name)
    chosen = members(card.name, root)
    with publish(Path(out) / card.folder) as folder:
        pictures = {
            split: ((encode(record, codec), record.label) for record in records) for split, records in chosen.items()
        }
        write(folder, pictures, CODECS[codec])  # picture by picture: a test split of 70,000 is never held in memory
        (folder / "ORIGIN.txt").write_text(
            f"cut from raw data in the hash order of TensorFlow Datasets; codec {codec}\n"
        )
    return Path(out) / card.folder
