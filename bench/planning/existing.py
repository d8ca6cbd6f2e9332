"""What exists of a planned run: done, missing, failed, stale, running. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from methods.grammar import parse
from results import store
from results.received import Received
from results.schema import RecordError

from .request import UsageError
from .resolve import Planned

RECEIVED = "received in pack"
AGAIN = {"killed", "node"}  # kinds of failure that say nothing about the run itself: run again without being asked


def stand_in(planned: Planned, counted: Mapping[str, Received]) -> Planned:
    """The planned run, done where a received record counts for it; a result of one's own, and a run at work, come
    first, and what was made with another source of the method counts for nothing."""
    one = counted.get(planned.spec.id)
    if one is None or planned.state in ("done", "running"):
        return planned
    record = store.load(one.path)
    if record.method.source_hash != parse(planned.text).source_hash:
        return planned
    return replace(planned, state="done", why=f"{RECEIVED} {one.pack[:8]}, {one.verdict}", record=record)


def look_up(planned: Planned, runs: Path, alive: set[str]) -> Planned:
    spec, path = planned.spec, store.path_of(planned.spec, runs)
    base = {f.name: getattr(planned, f.name) for f in fields(planned)}
    if not path.exists():
        if spec.id in alive:
            return Planned(**base | {"state": "running", "why": "a runner has claimed it"})
        return planned
    try:
        record = store.load(path)
    except RecordError as error:
        raise UsageError([f"{error}; move the file away to run it again"]) from None
    base["record"] = record
    other = record.method.source_hash != parse(planned.text).source_hash
    if record.status == "ok":
        if other:
            return Planned(**base | {"state": "stale", "why": "the method's source changed since"})
        return Planned(**base | {"state": "done"})
    if other:  # what failed may have been mended
        return Planned(**base | {"state": "missing", "why": f"{record.status} before, with the method's former source"})
    kind = record.failure.kind if record.failure else ""
    if kind in AGAIN or record.status in ("cancelled", "preempted", "timeout"):
        return Planned(**base | {"state": "missing", "why": f"{record.status} before: {kind}"})
    message = record.failure.message if record.failure else ""
    return Planned(**base | {"state": "failed", "why": f"{record.status}: {message}"})
