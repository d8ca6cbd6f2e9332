"""A split, ready to be batched: what lies between the loaders, which open it, and everything that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from datasets.card import Item


@dataclass(frozen=True)
class Pictures:
    """A split of images or texts: items, their labels, and decoded pixels or token numbers when they are held.

    Of pairs `texts` has the token numbers, and the pixels are those of each picture once, by its number: the label.
    """

    items: Sequence[Item]
    labels: Tensor  # (N,) int64; scores float32
    pixels: np.ndarray[Any, Any] | None  # (N, 3, S, S) uint8, None when decoded on the fly; of texts (N, L) int32
    size: int  # pixels on a side, or tokens
    augment: str
    cut: int = 0  # texts that are longer
    texts: np.ndarray[Any, Any] | None = None  # (N, L) int32, of pairs

    def __len__(self) -> int:
        return len(self.items)

    def take(self, keep: Sequence[int]) -> Pictures:
        """The same pictures, fewer and in the given order; indices are counted anew."""
        rows = list(keep)
        if self.texts is not None:
            return replace(self, items=[self.items[i] for i in rows], labels=self.labels[rows], texts=self.texts[rows])
        pixels = None if self.pixels is None else self.pixels[rows]
        return Pictures([self.items[i] for i in rows], self.labels[rows], pixels, self.size, self.augment)
