"""`new`: writes the file of a new adapter, regularizer, constraint or data set that works, to be changed from there."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from pathlib import Path

from datasets import registry
from methods.catalog import aliases, catalog
from methods.outside import VARIABLE, folders
from results.store import write_text

from .. import checkout
from ..planning.request import UsageError
from . import skeletons
from .words import Verb

ORDER = 26  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("new", act, "write the file of a new part or data set that passes its tests, to be changed from there")
    made.add_argument("kind", choices=tuple(skeletons.TEXTS), help="of what is written")
    made.add_argument("name", help="small letters, digits and _; the file's name too")
    made.add_argument("--into", type=Path, metavar="DIR", help="a folder of your own outside the checkout, which "
                      "`--extra DIR` then makes known")


def act(args: argparse.Namespace) -> int:
    kind, name = args.kind, args.name
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,39}", name) or keyword.iskeyword(name):
        raise UsageError([f"a name is 2 to 40 small letters, digits and _, not {name!r}; write for instance my_{kind}"])
    if name in catalog() or name in aliases() or name in registry.names():
        raise UsageError([f"{name!r} is taken; `python -m bench show {name}` says by what"])
    root = checkout.ROOT if args.into is None else _outside(args.into)
    path = root / (skeletons.FOLDERS[kind] if args.into is None else skeletons.OUTSIDE[kind]) / f"{name}.py"
    shown = path.relative_to(root if args.into is None else root.parent)
    if path.exists() or path.with_suffix("").exists():
        raise UsageError([f"there is a {shown} already; take another name"])
    write_text(path, skeletons.text(kind, name, outside=args.into is not None))
    print(f"{shown} written; it works as it stands. Next:")
    more = "" if args.into is None or root in folders() else f" --extra {shlex.quote(str(args.into))}"
    if kind == "dataset":
        print(f"  say what it holds, then python -m bench data check {name} --root DIR{more}")
    else:
        print(f"  python -m bench check-method {name}{more}")
    if args.into is None:
        print("  python -m bench docs   # docs/methods.md names it then" if kind != "dataset" else
              f"  python -m pytest tests/datasets -k {name}")
        if kind != "dataset":
            print(f"  python -m pytest tests/methods -k {name}")
    elif kind != "dataset":
        text = name if kind == "adapter" else f"lora+{name}"
        print(f"  python -m bench run --datasets digits --methods {text} --epochs 1{more}")
    if more:
        print(f"  export {VARIABLE}={shlex.quote(str(root))}   # in place of --extra")
    return 0


def _outside(into: Path) -> Path:
    """The folder, which may not be there yet. Raises UsageError for one that cannot hold parts."""
    root = into.expanduser().resolve()
    if root.is_relative_to(checkout.ROOT) and (root == checkout.ROOT or root.relative_to(checkout.ROOT).parts[0] in (
            "bench", "datasets", "methods", "results", "reports")):
        raise UsageError([f"--into {into}: is of the checkout itself; leave --into out, or name a folder of your own"])
    if root.exists() and not root.is_dir():
        raise UsageError([f"--into {into}: is no folder"])
    return root
