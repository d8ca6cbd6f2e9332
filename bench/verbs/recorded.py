"""Recorded runs by the first digits of their ids: the user's own, then committed ones, then received ones."""

from __future__ import annotations

from pathlib import Path

from results import received, store
from results.schema import RecordError

from .. import checkout
from ..planning.request import UsageError

FEWEST = 6  # digits that may name a run where other names are possible too


def roots(runs: Path) -> list[Path]:
    """Folders of records: the user's own, then each committed suite's, then each unpacked archive."""
    return [runs, *sorted(path.parent for path in checkout.REFERENCE.glob("*/suite.json")),
            *received.folders(["all"], checkout.RECEIVED)]


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


def pack_of(path: Path) -> str:
    """The first digits of the archive that the record came in; nothing for one that was not received."""
    home = path.parent.parent
    return home.name[:8] if home.parent == checkout.RECEIVED else ""


def origin(path: Path) -> str:
    """Where a record that was not made here comes from, and of a received one what `submit-check` found; else nothing.
    """
    home = path.parent.parent
    if suite := suite_of(path):
        return f"a committed run of suite {suite} (results/reference/{suite})"
    if not (pack := pack_of(path)):
        return ""
    try:
        found = received.verdicts(home).get(received.run_of(path))
    except RecordError as error:
        return f"received in pack {pack}, {error}"
    said = f"{found.verdict}: {found.why}" if found else "not checked here; `python -m bench submit-check` does"
    return f"received in pack {pack}, {said}"
