"""`pack` and `unpack`: runs leave this checkout in one file, and come into another, beside its own, never over them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from results import archive, store
from results.schema import RecordError
from results.spoken import many, word
from results.suites import SuiteView, load_suite

from .. import checkout
from ..planning.examine import rows
from ..planning.request import UsageError
from . import recorded
from .words import Verb

ORDER = 130  # in the list of commands


def add(verb: Verb) -> None:
    """The commands and their options."""
    packing = verb("pack", act, "put finished runs with their predictions and small weights into one file",
                   parts=False)
    packing.add_argument("what", nargs="+", metavar="WHAT", help="the name of a set (a suite that was run here), or "
                         "ids of runs, or enough of their first digits")
    packing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    taking = verb("unpack", take_out, "take a pack out into results/received, beside one's own runs; nothing of it "
                                      "counts before `submit-check`", parts=False)
    taking.add_argument("file", type=Path, metavar="FILE", help="that `pack` wrote")


def act(args: argparse.Namespace) -> int:
    suite, paths = chosen(args.what, checkout.RUNS)
    told = archive.write(paths, args.out, suite)
    for sentence in told.left_out:
        print(f"left out: {sentence}")
    lacking = rows([r for r in map(store.load, paths) if r.status == "ok" and r.spec.phase == "final"], suite)
    for (method, _), why in lacking.items():
        print(f"incomplete: {method}: {why}; `submit-check` refuses such a row")
    print(f"{args.out.name}: {many(told.records, 'run')}, {told.adapters} of them with weights, pack "
          f"{archive.digest_of(args.out)}")
    return 0


def chosen(what: Sequence[str], runs: Path) -> tuple[SuiteView | None, list[Path]]:
    """The suite, where one is named, and its records that are here; else the records of the runs that are named.

    Raises UsageError.
    """
    if len(what) == 1:
        file = checkout.REFERENCE / what[0] / "suite.json"
        home = file.parent if file.exists() else runs
        own = store.ROOT / "suites" / f"{what[0]}.json"
        if own.exists() or file.exists():
            suite = load_suite(own if own.exists() else file)
            wanted = {e.run_id for e in suite.entries}
            found = [p for p in store.record_files(runs if own.exists() else home)
                     if p.stem.rpartition("-")[2] in wanted]
            if not found:
                raise UsageError([f"no run of {what[0]!r} has a record; `python -m bench run` makes them"])
            return suite, found
    return None, list(dict.fromkeys(recorded.find(name, runs)[0] for name in what))


def take_out(args: argparse.Namespace) -> int:
    try:
        folder = archive.unpack(args.file, checkout.RECEIVED)
    except RecordError as error:
        print(f"refused: {error}")
        return 1
    stored = len(store.record_files(folder))
    print(f"results/received/{folder.name}: {many(stored, 'run')}; "
          f"`python -m bench submit-check {args.file.name}` says what {word(stored, 'it is', 'they are')} worth")
    return 0
