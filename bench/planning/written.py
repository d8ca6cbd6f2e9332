"""YAML files that a person wrote: plain values out of them, or one sentence that says what is wrong.

PyYAML's safe loader builds no objects, yet raises whatever its conversions do (`!!timestamp x` an AttributeError), runs
out of stack in nested brackets, and keeps one list under many names, which no message may spell out. It also
takes the last of two equal keys, 1:30 for 90 and 010 for 8: here two equal keys are refused, and such a number is text.
"""

from __future__ import annotations

import re
import reprlib
from functools import cache
from pathlib import Path
from typing import Any

from .request import UsageError

LONGEST = 1 << 20  # bytes
SHORT = reprlib.Repr()
SHORT.maxlevel = 1  # a list of lists shows that it is one
ODD_NUMBER = re.compile(r"[-+]?(?:.*:.*|0[0-9_]+)")  # to the base 60, or 8 because of a zero in front


class Twice(Exception):
    """A key of a map stands there twice; the message is a phrase."""


@cache
def _loader() -> type:
    """PyYAML's safe loader, stricter; made when it is needed, since few commands read YAML."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            lines: dict[Any, int] = {}
            for key, _ in node.value:  # before `<<` adds keys, which the map's own rightly replace
                if isinstance(key, yaml.ScalarNode) and not key.tag.endswith((":merge", ":value")):
                    found, line = self.construct_object(key), key.start_mark.line + 1
                    if found in lines:
                        raise Twice(f"has the key {shown(found)} twice, in line {lines[found]} and in line {line}")
                    lines[found] = line
            return node

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
            number = kind is yaml.ScalarNode and tag.endswith((":int", ":float"))
            return "tag:yaml.org,2002:str" if number and ODD_NUMBER.fullmatch(value) else tag

    return Loader


def read(path: Path, what: str) -> Any:
    """The value of a YAML file, an empty map for an empty one; `what` names it. Raises UsageError."""
    import yaml

    try:
        if not path.is_file():
            raise UsageError([f"{what}: " + ("is no file" if path.exists() else "No such file or directory")])
        if path.stat().st_size > LONGEST:
            raise UsageError([f"{what} has more than {LONGEST} bytes"])
        told = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except UsageError:
        raise
    except OSError as error:
        raise UsageError([f"{what}: {error.strerror}"]) from None
    except Twice as error:
        raise UsageError([f"{what} {error}"]) from None
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
