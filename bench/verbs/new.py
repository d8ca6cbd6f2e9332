"""`new`: writes the file of a new adapter, regularizer, constraint or data set that works, to be changed from there."""

from __future__ import annotations

import argparse
import keyword
import re

from datasets import registry
from methods.catalog import aliases, catalog
from results.store import write_text

from .. import checkout
from ..planning.request import UsageError
from . import skeletons
from .words import Verb

ORDER = 26  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("new", act, "write the file of a new part or data set that passes its tests, to be changed from there")
    made.add_argument("kind", choices=tuple(skeletons.TEXTS))
    made.add_argument("name", help="small letters, digits and _; the file's name too")


def act(args: argparse.Namespace) -> int:
    kind, name = args.kind, args.name
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,39}", name) or keyword.iskeyword(name):
        raise UsageError([f"a name is 2 to 40 small letters, digits and _, not {name!r}; write for instance my_{kind}"])
    if name in catalog() or name in aliases() or name in registry.names():
        raise UsageError([f"{name!r} is taken; `python -m bench show {name}` says by what"])
    path = checkout.ROOT / skeletons.FOLDERS[kind] / f"{name}.py"
    if path.exists() or path.with_suffix("").exists():
        raise UsageError([f"there is a {path.relative_to(checkout.ROOT)} already; take another name"])
    write_text(path, skeletons.text(kind, name))
    print(f"{path.relative_to(checkout.ROOT)} written; it works as it stands. Next:")
    if kind == "dataset":
        print(f"  say what it holds, then python -m bench data check {name} --root DIR")
        print(f"  python -m pytest tests/datasets -k {name}")
    else:
        print(f"  python -m bench check-method {name}")
        print("  python -m bench docs   # docs/methods.md names it then")
        print(f"  python -m pytest tests/methods -k {name}")
    return 0
