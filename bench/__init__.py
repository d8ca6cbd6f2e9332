"""Runs things. This file makes sure that `datasets` is ours and not another library of that name, and has the door.

`from bench import plan, run, results` gives the functions of `bench.door`, which is imported when one is asked for.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

_found = importlib.util.find_spec("datasets")
_ours = Path(__file__).resolve().parent.parent / "datasets"
if _found is None or _found.origin is None or Path(_found.origin).resolve().parent != _ours:
    sys.exit("regatta: run from the checkout's root (`python -m bench` there): the package `datasets` that Python "
             "finds is not the one beside `bench`")

DOOR = ("plan", "results", "run")


def __getattr__(name: str) -> Any:
    """The door's functions, found late: a command needs none of them."""
    if name in DOOR:
        return getattr(importlib.import_module(".door", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
