"""Where in a part's file something stands, as `methods/adapters/x.py, line 43`: for sentences to its author.

No path of the machine is in it: below the checkout it begins at its root, elsewhere at the folder of the parts' folder.
"""

from __future__ import annotations

import ast
import inspect
import os
import traceback
from pathlib import Path
from types import CodeType
from typing import Any

from .outside import home

HERE = Path(__file__).resolve().parent
FOLDERS = ("adapters", "regularizers", "constraints")


def shown(path: Path) -> str:
    """The file as its author calls it."""
    path = Path(os.path.realpath(path))  # a link to itself has a name too
    if top := home(path):
        return path.relative_to(top[0].parent).as_posix()
    return path.relative_to(HERE.parent).as_posix() if path.is_relative_to(HERE.parent) else "/".join(path.parts[-3:])


def at(function: Any) -> str:
    """Where a function or method begins; nothing for one that no file defines."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return f"{shown(Path(code.co_filename))}, line {code.co_firstlineno}" if isinstance(code, CodeType) else ""


def at_class(cls: type) -> str:
    """Where a class begins; nothing where its source is not there."""
    try:
        return f"{shown(Path(inspect.getfile(cls)))}, line {inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return ""


def at_attribute(cls: type, name: str) -> str:
    """Where `self.name` is set in a class or one that it comes from, else where the class begins."""
    for one in cls.__mro__:
        try:
            lines, first = inspect.getsourcelines(one)
            path = Path(inspect.getfile(one))
            tree = ast.parse(inspect.cleandoc("".join(lines)) if lines[0][:1].isspace() else "".join(lines))
        except (OSError, TypeError, SyntaxError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store):
                return f"{shown(path)}, line {first + node.lineno - 1}"
    return at_class(cls)


def in_error(error: BaseException) -> str:
    """The innermost line of an author's file on the way to an error; nothing where there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent.name in FOLDERS]
    return f"{shown(Path(frames[-1].filename))}, line {frames[-1].lineno}" if frames else ""
