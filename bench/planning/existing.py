"""What exists of a planned run: done, missing, failed, stale, running. No torch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from methods.grammar import parse
from results import store
from results.schema import RecordError

from .request import UsageError
from .resolve import Planned

AGAIN = {"killed", "node"}  # kinds of failure that say nothing about the run itself: run again without being asked


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
