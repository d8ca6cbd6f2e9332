"""Where a run happens; nothing here may change its numbers. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Where:
    """The data folder, the cache folder (None keeps nothing), the weights file (None for random), the device."""

    data_root: Path
    cache_root: Path | None
    weights_file: Path | None
    device: str = "cpu"
    deterministic: bool = True

    def with_weights(self, file: Path | None) -> Where:
        return replace(self, weights_file=file)
