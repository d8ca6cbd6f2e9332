"""JSON read strictly, for everything that this program keeps: no key twice, no NaN, no nesting that breaks Python.

Python's reader takes the last of two equal keys and any depth until it fails; what was signed with the one would be
read as the other. Everything wrong is a ValueError that says what, never another exception.
"""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> Any:
    """The parsed text. Raises ValueError in one sentence."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:60]!r} stands there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse)
