"""`forget`: a set's suite file and its pages go; its records stay, and the same words make the set again. No torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from results import store
from results.spoken import many
from results.suites import amending

from .. import checkout
from ..planning.request import UsageError
from .words import Verb

ORDER = 45  # in the list of commands
FILE = r"(\.html|-(standin|real)-.+\.(csv|tex|svg))"  # what follows the set's name


def add(verb: Verb) -> None:
    """The command and its options."""
    going = verb("forget", act, "remove a set from the tables: its suite file, page and files; records stay",
                 parts=False)
    going.add_argument("sets", nargs="+", metavar="NAME", help="as `plan` prints it and its page is called")


def act(args: argparse.Namespace) -> int:
    folder = store.ROOT / "suites"
    with amending(folder):
        known = _known(folder, checkout.SITE)
        problems = [_unknown(name, known) for name in args.sets if name not in known]
        if problems:
            raise UsageError(problems)
        for name in dict.fromkeys(args.sets):
            files = [p for p in (folder / f"{name}.json",) if p.exists()] + files_of(name, known, checkout.SITE)
            for path in files:
                path.unlink(missing_ok=True)
            print(f"set {name}: {many(len(files), 'file')} removed; its records stay")
    left = any(not p.name.startswith(".") for p in folder.glob("*.json"))
    print("the leaderboard shows it until " + ("the next `python -m reports build`" if left else
                                               "another set is run, as no set is left to build"))
    return 0


def files_of(name: str, known: Iterable[str], site: Path) -> list[Path]:
    """The set's files among the pages, none of another set whose name begins with this one's."""
    others = [other for other in known if other != name and other.startswith(name)]
    return [p for p in sorted(site.glob("*")) if p.is_file() and re.fullmatch(re.escape(name) + FILE, p.name)
            and not any(re.fullmatch(re.escape(other) + FILE, p.name) for other in others)]


def _known(folder: Path, site: Path) -> set[str]:
    """Every set that has a suite file or a page."""
    pages = {p.stem for p in site.glob("*.html")} - {"index"}
    return {p.stem for p in folder.glob("*.json") if not p.name.startswith(".")} | pages


def _unknown(name: str, known: set[str]) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"no set is called {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else
                                             f"there are: {', '.join(sorted(known)) or 'none'}")
