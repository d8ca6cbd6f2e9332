"""Recorded runs by the first digits of their ids: the user's own, then the committed ones of results/reference."""

from __future__ import annotations

from pathlib import Path

from results import store

from .. import checkout
from ..planning.request import UsageError

FEWEST = 6  # digits that may name a run where other names are possible too


def roots(runs: Path) -> list[Path]:
    """Folders of records: the user's own, then each committed suite's."""
    return [runs, *sorted(path.parent for path in checkout.REFERENCE.glob("*/suite.json"))]


def find(name: str, runs: Path) -> list[Path]:
    """Every record of the one run that begins so, own records first.

    Raises UsageError where no run does, or several do.
    """
    hits = [path for root in roots(runs) for path in store.record_files(root)
            if path.stem.rpartition("-")[2].startswith(name)]
    ids = {path.stem.rpartition("-")[2] for path in hits}
    if not hits:
        raise UsageError([f"no run is called {name!r}; the ids stand in `plan --why`, in the records' names and in the "
                          "tables' files ending in -runs.csv"])
    if len(ids) > 1:
        raise UsageError([f"{name!r} begins {len(ids)} ids; give more digits"])
    return hits


def suite_of(path: Path) -> str:
    """The committed suite that the record belongs to; nothing for the user's own."""
    home = path.parent.parent
    return home.name if home.parent == checkout.REFERENCE else ""
