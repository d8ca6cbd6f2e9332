"""Suites from folders outside the checkout: `mine/suites/quick.py` is imported as `bench.suites.x_mine.quick`.

Such a file takes what it needs by `from bench.suites.base import Suite, VTAB, suite`. One that cannot be imported, or
takes a name that is taken, is broken: nothing of it is known, and the others go on.
"""

from __future__ import annotations

import sys
from errno import EINVAL
from importlib import import_module
from pathlib import Path
from types import ModuleType

from methods import outside

from .base import SUITES

_added: set[str] = set()
_broken: list[str] = []


def settle() -> None:
    """Make the register hold the suites of the folders that are named now, and of no others outside."""
    for name in _added:
        SUITES.pop(name, None)
    _added.clear()
    _broken.clear()
    for folder in outside.folders():
        package = f"{__package__}.{outside.package(folder, 'suites')}"
        for old in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            del sys.modules[old]
        made = ModuleType(package, "Suites from a folder outside the checkout.")
        made.__path__ = [str(folder / "suites")]
        sys.modules[package] = made
        for path in sorted((folder / "suites").glob("*.py")):
            _read(f"{package}.{path.stem}", f"{folder.name}/suites/{path.name}", path)


def broken() -> list[str]:
    """A phrase for each file that cannot be used."""
    return list(_broken)


def _read(module: str, file: str, path: Path) -> None:
    before = dict(SUITES)
    why = ""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise OSError(EINVAL, "no plain file", path.name)
        with outside.staying():
            import_module(module)
        taken = [name for name, make in before.items() if SUITES[name] is not make]
        why = f"{taken[0]!r} is the name of another suite; take another one" if taken else ""
        for name in [n for n in SUITES if n not in before]:
            SUITES[name]()  # what it names is looked at when it is asked for; that it can be made, here
    except (Exception, SystemExit) as error:  # of a user's file: whatever it says
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else ""
        why = line or f"{type(error).__name__}: {error}"
    if why:
        SUITES.clear()
        SUITES.update(before)
        _broken.append(f"{file} cannot be used: {why}")
    _added.update(n for n in SUITES if n not in before)
