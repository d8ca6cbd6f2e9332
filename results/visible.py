"""Signs that a screen obeys, or hides, made visible: `\\x1b[2J` is shown as it is written here.

A name or a message may come from a file that somebody else wrote. An escape sequence in it would move the cursor, ring
a bell or set a title; a mark of writing direction would show the letters in another order than they have. Every way
out has one place where such signs are spelled out: `guarded` for the terminal, and what markdown, LaTeX, CSV and HTML
are made by (`reports.table`, `reports.page`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Control signs (but line feed and tab), invisible ones, marks of direction, line separators, lone surrogates, tags.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                     "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]")


def visible(text: str) -> str:
    """The text with every hidden sign spelled out, as \\x1b or \\u202e; line feeds and tabs stay."""
    return _HIDDEN.sub(lambda sign: _spelled(ord(sign[0])), text)


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Shown:
    """A stream that shows hidden signs; in everything else it is the one that it stands before."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return int(self.stream.write(visible(text)))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever is printed inside passes through `visible`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Shown(before[0]), _Shown(before[1])  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def bare(stream: TextIO) -> TextIO:
    """The stream itself, for signs of our own that move the cursor; what is told through it must be `visible` first."""
    return stream.stream if isinstance(stream, _Shown) else stream
