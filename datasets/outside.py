"""Data sets from folders outside the checkout, as the variable REGATTA_EXTRA names them: files of cards in `datasets/`.

`mine/datasets/slides.py` is imported as `datasets.x_mine.slides`; it takes ours by `from datasets.card import Card`,
and one dot is its own folder.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import NoReturn

VARIABLE = "REGATTA_EXTRA"
KIND = "datasets"


def folders() -> tuple[Path, ...]:
    """The folders that are named, each once, in the order given."""
    return _folders(os.environ.get(VARIABLE, ""))


@cache
def _folders(told: str) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(Path(os.path.realpath(Path(one).expanduser())) for one in told.split(os.pathsep)
                               if one.strip()))


def package(folder: Path) -> str:
    """What the cards of a folder are imported below, made anew: `datasets.x_mine`."""
    name = f"{__package__}.x_{re.sub(r'[^0-9A-Za-z_]', '_', folder.name)}"
    for old in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[old]
    made = ModuleType(name, "Data sets from a folder outside the checkout.")
    made.__path__ = [str(folder / KIND)]
    sys.modules[name] = made
    return name


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


def source_hash(folder: Path, module: str) -> str:
    """12 hex digits over a module's file, or over all files of the package that it is; OSError for what is no file."""
    place = folder / KIND / module
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if odd := next((file for file in files if not file.is_file()), None):  # reading a pipe would wait for ever
        raise OSError(EINVAL, "no plain file", str(odd))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
