"""Runs things. This file only makes sure that `datasets` is ours and not another library of that name."""

import importlib.util
import sys
from pathlib import Path

_found = importlib.util.find_spec("datasets")
_ours = Path(__file__).resolve().parent.parent / "datasets"
if _found is None or _found.origin is None or Path(_found.origin).resolve().parent != _ours:
    sys.exit("regatta: run from the checkout's root (`python -m bench` there): the package `datasets` that Python "
             "finds is not the one beside `bench`")
