"""YAML files that a person wrote: plain values out of them, or one sentence that says what is wrong.

PyYAML's safe loader builds no objects, yet raises whatever its conversions do (`!!timestamp x` an AttributeError), runs
out of stack in nested brackets, and keeps one list under many names, which no message may spell out.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from .request import UsageError

LONGEST = 1 << 20  # bytes
SHORT = reprlib.Repr()
SHORT.maxlevel = 1  # a list of lists shows that it is one


def read(path: Path, what: str) -> Any:
    """The value of a YAML file, an empty map for an empty one; `what` names it. Raises UsageError."""
    import yaml

    try:
        if not path.is_file():
            raise UsageError([f"{what}: " + ("is no file" if path.exists() else "No such file or directory")])
        if path.stat().st_size > LONGEST:
            raise UsageError([f"{what} has more than {LONGEST} bytes"])
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError([f"{what}: {error.strerror}"]) from None
    except RecursionError:
        raise UsageError([f"{what} is nested too deep"]) from None
    except Exception as error:  # of conversions: ValueError, KeyError, IndexError, AttributeError, TypeError
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError([f"{what} is not YAML: {first}"]) from None
    return {} if told is None else told


def plain(value: Any) -> bool:
    """Whether a value is one word, number or truth: no list, map, date or bytes."""
    return isinstance(value, str | int | float | bool)


def shown(value: Any) -> str:
    """A value in a message, cut short."""
    try:
        return SHORT.repr(value)
    except ValueError:  # a number of more digits than Python prints
        return f"a {type(value).__name__}"
