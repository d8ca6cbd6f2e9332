"""Where a run happens; nothing here may change its numbers. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .checkpoint import EVERY_S

MOST_CLASSES = 1000  # probabilities of more are stored when asked for by name alone


def keeps_members(wanted: str, classes: int) -> bool:
    """Whether `tune --members WANTED` stores the probabilities of a set of so many classes."""
    return wanted == "all" or (wanted == "small" and classes <= MOST_CLASSES)


@dataclass(frozen=True)
class Where:
    """The data folder, the cache folder (None keeps nothing), the weights file (None for random), the device; the file
    that the head starts from, where it starts from class names."""

    data_root: Path
    cache_root: Path | None
    weights_file: Path | None
    device: str = "cpu"
    deterministic: bool = True  # strict: an operation without a deterministic form is an error, not a difference
    checkpoints: Path | None = None  # folder; None: a killed run begins anew
    checkpoint_every_s: float = EVERY_S
    checkpoint_every_epochs: int = 0  # 0: by the clock alone
    time_limit_s: float | None = None  # then the run is stored where it stands, status timeout
    keep_weights: Literal["small", "all", "none"] = "small"  # which trained weights are stored beside the record
    keep_members: Literal["none", "small", "all"] = "none"  # trials: probabilities on val and weights, for ensembles

    follow: Path | None = None  # folder of curves for TensorBoard; None: none are written
    head_file: Path | None = None  # of class embeddings (`zeroshot`)

    def keeps_members(self, classes: int) -> bool:
        """Whether a trial on a set of so many classes stores what an ensemble is chosen from."""
        return keeps_members(self.keep_members, classes)

    def with_files(self, weights: Path | None, head: Path | None) -> Where:
        """The same place with a run's own files."""
        return replace(self, weights_file=weights, head_file=head)
