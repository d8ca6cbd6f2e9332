"""Decoded images, once: uint8 memory maps keyed by content and transform, safe when two processes write at once.

A file is written under a temporary name and renamed, so a reader sees all of it or nothing. The key holds the names,
sizes and times of the image files, so a changed image is a new key.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from datasets.card import Item
from datasets.images import name_of, open_rgb

LIMIT_BYTES = int(float(os.environ.get("REGATTA_CACHE_GB", "2")) * 2**30)  # of one split; larger ones are not kept


class ImageCache:
    """A folder of decoded splits; `folder` None keeps nothing on disk."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def pixels(self, label: str, items: Sequence[Item], size: int) -> np.ndarray[Any, Any] | None:
        """(N, 3, size, size) uint8, bicubic; None when the split is too large to hold."""
        if len(items) * 3 * size * size > LIMIT_BYTES:
            return None
        if self.folder is None:
            return _decode(items, size)
        path = self.folder / f"{_key(label, items, size)}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=".npy", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as stream:
                    np.save(stream, _decode(items, size))
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        loaded: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
        return loaded


def _decode(items: Sequence[Item], size: int) -> np.ndarray[Any, Any]:
    from PIL.Image import Resampling

    pixels = np.empty((len(items), 3, size, size), np.uint8)
    for row, item in enumerate(items):
        image = open_rgb(item.image)
        if image.size != (size, size):
            image = image.resize((size, size), Resampling.BICUBIC)
        pixels[row] = np.asarray(image).transpose(2, 0, 1)
    return pixels


def _key(label: str, items: Sequence[Item], size: int) -> str:
    import PIL

    digest = sha256(f"{label}|{size}|bicubic|{PIL.__version__}".encode())
    for item in items:
        if isinstance(item.image, Path):
            stat = item.image.stat()
            digest.update(f"{item.image.parent.name}/{item.image.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
        else:
            digest.update(name_of(item.image).encode())
    return digest.hexdigest()[:24]
