"""A progress bar with the time left, on stderr; quiet when that is no terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

AFTER_S = 3.0  # shorter work shows no bar


class Bar:
    """Counts runs, parts of runs included."""

    def __init__(self, total: int, name: str) -> None:
        self.bar = tqdm(total=total, desc=name, file=sys.stderr, disable=not sys.stderr.isatty(), delay=AFTER_S,
                        bar_format="{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total} [{elapsed}<{remaining}] "
                                   "{postfix}")

    def to(self, done: float, label: str = "") -> None:
        """So much is done now; `label` says what is at work."""
        self.bar.set_postfix_str(label[:40], refresh=False)
        self.bar.update(done - self.bar.n)

    def one_more(self, label: str = "") -> None:
        """One whole piece of work is done."""
        self.to(self.bar.n + 1, label)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bar.close()
