"""How far work is, with the time left, on stderr: a bar on a terminal, elsewhere (a log) a line each minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

AFTER_S = 3.0  # shorter work shows no bar
LINE_S = 60.0  # between lines where there is no terminal


class Bar:
    """Counts runs, parts of runs included."""

    def __init__(self, total: int, name: str) -> None:
        self.total, self.name, self.done = total, name, 0.0
        self.began = self.told = time.monotonic()
        self.bar = tqdm(total=total, desc=name, file=sys.stderr, disable=not sys.stderr.isatty(), delay=AFTER_S,
                        bar_format="{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total} [{elapsed}<{remaining}] "
                                   "{postfix}")

    def to(self, done: float, label: str = "") -> None:
        """So much is done now; `label` says what is at work."""
        self.done = done
        self.bar.set_postfix_str(label[:40], refresh=False)
        self.bar.update(done - self.bar.n)
        if self.bar.disable and time.monotonic() - self.told >= LINE_S:
            self.told = time.monotonic()
            print(f"{self.name}: {self.line(self.told - self.began)}", file=sys.stderr, flush=True)

    def line(self, elapsed: float) -> str:
        """`31 of 208 after 2:00, about 11:25 left`."""
        left = f", about {_clock(elapsed * (self.total - self.done) / self.done)} left" if self.done > 0 else ""
        return f"{self.done:.0f} of {self.total} after {_clock(elapsed)}{left}"

    def one_more(self, label: str = "") -> None:
        """One whole piece of work is done."""
        self.to(self.done + 1, label)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bar.close()


def _clock(seconds: float) -> str:
    return tqdm.format_interval(seconds)  # type: ignore[no-any-return]
