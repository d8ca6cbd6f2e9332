"""Parts from folders outside the checkout: which folders, what their files import, under which names they are imported.

The variable REGATTA_EXTRA names the folders, apart by os.pathsep; `--extra` of the commands sets it, so that every
process of a command inherits it. A folder holds `adapters/`, `regularizers/`, `constraints/` as this package does. The
file `mine/adapters/rest.py` becomes the module `methods.x_mine_adapters.rest`: one dot is its own folder, two are this
package, and `from methods.base import Adapter` says the same in words. A file can be moved in and out as it is.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

VARIABLE = "REGATTA_EXTRA"
HERE = Path(__file__).resolve().parent
KINDS = ("adapters", "regularizers", "constraints")


def folders() -> tuple[Path, ...]:
    """The folders that are named, each once, in the order given."""
    return _folders(os.environ.get(VARIABLE, ""))


@cache
def _folders(told: str) -> tuple[Path, ...]:
    # realpath: a link to itself is no folder, and no error of this line
    return tuple(dict.fromkeys(Path(os.path.realpath(Path(one).expanduser())) for one in told.split(os.pathsep)
                               if one.strip()))


def package(folder: Path, kind: str) -> str:
    """What the files of one kind are imported below: `x_mine_adapters`."""
    return f"x_{re.sub(r'[^0-9A-Za-z_]', '_', folder.name)}_{kind}"


def home(file: Path) -> tuple[Path, Path] | None:
    """(the folder outside, the folder of parts in it) that a file lies in; None for every other file."""
    return next(((folder, folder / kind) for folder in folders() for kind in KINDS
                 if file.is_relative_to(folder / kind)), None)


def above(file: Path, level: int) -> Path:
    """The folder that so many dots mean in a file's import: beyond a folder of parts outside comes this package."""
    found, top = file.parent, home(file)
    for _ in range(level - 1):
        found = HERE if top is not None and found == top[1] else found.parent
    return found


def order(file: Path) -> tuple[bool, tuple[str, ...]]:
    """What files are sorted by, wherever checkout and folders lie: a hash over several follows from that."""
    top = home(file)
    return top is not None, file.relative_to(top[0].parent if top else HERE.parent).parts


@contextmanager
def staying() -> Iterator[None]:
    """In here `os._exit` of this thread raises SystemExit, as `sys.exit` does: importing a file ends no program."""
    leave, ours = os._exit, (os.getpid(), threading.get_ident())

    def stay(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != ours:
            leave(status)
        raise SystemExit(status)

    os._exit = stay
    try:
        yield
    finally:
        os._exit = leave


def imported(module: str) -> ModuleType:
    """The module of a part's file by its name below this package, `adapters.lora` or `x_mine_adapters.rest`.

    Raises whatever the file raises, ImportError where it would end the program.
    """
    for folder in folders():
        for kind in KINDS:
            if module.startswith(f"{package(folder, kind)}."):
                _open(f"{__package__}.{package(folder, kind)}", str(folder / kind))
    try:
        with staying():
            return import_module(f".{module}", __package__)
    except SystemExit:  # of a script that was meant to be run, not imported
        raise ImportError("the file ends the program (exit) where it should only define a part") from None


def _open(name: str, place: str) -> None:
    """Make the package of a folder, unless it is there; another folder of that name goes."""
    known = sys.modules.get(name)
    if known is not None and list(known.__path__) == [place]:
        return
    for old in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[old]
    made = ModuleType(name, "Parts from a folder outside the checkout.")
    made.__path__ = [place]
    sys.modules[name] = made
