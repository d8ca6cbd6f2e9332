"""What a user is told of mistakes: no more than can be read, whatever was typed."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

LONG, KEPT = 160, 80  # characters of one quoted text or word: beyond the first, only so many are repeated
ALIKE, LINES = 5, 40  # problems that are told of one kind, and in all
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
_WORD = re.compile(rf"\S{{{LONG + 1},}}")


def short(message: str) -> str:
    """The message with every long quotation and every long word cut."""
    quoted = _QUOTED.sub(lambda m: m[0] if len(m[0]) <= LONG else f"{m[0][:KEPT]} ...{m[0][0]}", message)
    return _WORD.sub(lambda m: f"{m[0][:KEPT]} ...", quoted)


def few(problems: Sequence[str]) -> list[str]:
    """A few of each kind, each cut, and how many more there are. One kind differs in what is quoted or counted."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kind = re.sub(r"\d+", "", _QUOTED.sub("", problem)).partition(";")[0]
        kinds.setdefault(kind, []).append(problem)
    told = [line for alike in kinds.values()
            for line in [*map(short, alike[:ALIKE]), *[f"and {len(alike) - ALIKE} more like this"][:len(alike) - ALIKE]]
            if line]
    return told if len(told) <= LINES else [*told[:LINES], f"and {len(told) - LINES} more"]


def missing(error: OSError) -> Path | None:
    """What is not there any more: the uppermost folder of the file's path that is gone, or the file.

    None where the error says something else.
    """
    if error.errno not in (errno.ENOENT, errno.ENOTDIR) or not isinstance(error.filename, str | Path):
        return None
    path = Path(error.filename)
    while path.parent != path and not path.parent.is_dir():
        path = path.parent
    return path
