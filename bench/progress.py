"""How far work is, with the time left, on stderr: a bar on a terminal, elsewhere (a log) a line each minute.

The first line comes soon, so that somebody who waits knows that it is at work. What is done counts parts of runs,
several at once, so it is told as a share: two halves are not one finished run. The time left follows from the speed
since work first showed, not since the start: processes, imports and data come first and would make the first estimate
many times too long.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from results.visible import bare, visible

AFTER_S = 3.0  # shorter work shows no bar
FIRST_S, LINE_S = 10.0, 60.0  # until the first line and between lines where there is no terminal
SEEN = 0.1  # of all there is, or one run: so much must have been done at a measured speed before time is promised
FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total} [{elapsed}<LEFT] {postfix}"


class Bar:
    """Counts runs, parts of runs included."""

    def __init__(self, total: int, name: str) -> None:
        self.total, self.name, self.done = total, name, 0.0
        self.began = time.monotonic()
        self.next = self.began + FIRST_S
        self.first: tuple[float, float] | None = None  # when something first was done, and how much
        self.bar = tqdm(total=total, desc=visible(name), file=bare(sys.stderr), disable=not sys.stderr.isatty(),
                        delay=AFTER_S, bar_format=FORMAT.replace("LEFT", "?"))

    def to(self, done: float, label: str = "") -> None:
        """So much is done now; `label` says what is at work."""
        now = time.monotonic()
        self.done = done
        if self.first is None and done > 0:
            self.first = now, done
        left = self.left(now)
        self.bar.bar_format = FORMAT.replace("LEFT", "?" if left is None else _clock(left))
        self.bar.set_postfix_str(visible(label)[:40], refresh=False)
        self.bar.update(done - self.bar.n)
        if self.bar.disable and now >= self.next:
            self.next = now + LINE_S
            print(f"{self.name}: {self.line(now)}", file=sys.stderr, flush=True)

    def left(self, now: float) -> float | None:
        """Seconds until all is done, at the speed since something first was; None while that is not known."""
        since, before = self.first or (now, self.done)
        if self.done - before < min(1.0, SEEN * self.total) or now <= since:
            return None
        return (now - since) * (self.total - self.done) / (self.done - before)

    def line(self, now: float) -> str:
        """`15 % of 208 after 2:00, about 11:25 left`."""
        left = self.left(now)
        return (f"{100 * self.done / self.total:.0f} % of {self.total} after {_clock(now - self.began)}"
                + ("" if left is None else f", about {_clock(left)} left"))

    def one_more(self, label: str = "") -> None:
        """One whole piece of work is done."""
        self.to(self.done + 1, label)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bar.close()


def _clock(seconds: float) -> str:
    return tqdm.format_interval(round(seconds))  # type: ignore[no-any-return]
