"""What a stand-in is: which classes are populated, and how a picture of each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .canvas import Dice

SIZES = {"train": 128, "val": 32, "test": 200}


class Task(NamedTuple):
    """`draw(dice, kind)` makes the pictures of one kind; `labels[kind]` is that kind's label in the real data set."""

    labels: tuple[int, ...]
    draw: Callable[[Dice, int], NDArray[np.uint8]]  # (N, SIDE, SIDE, 3)
    shares: tuple[float, ...] = ()  # of each kind; balanced where empty

    def counts(self, size: int) -> list[int]:
        """Images of each kind in a split of that size."""
        kinds = len(self.labels)
        if not self.shares:
            return [size // kinds + (kind < size % kinds) for kind in range(kinds)]
        rare = [max(4 if size > 50 else 1, round(size * share)) for share in self.shares[1:]]
        return [size - sum(rare), *rare]
