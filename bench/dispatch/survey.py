"""How far a set is: from records, claims and the tasks' signs of life; the scheduler is asked last and only for a hint.

Ten thousand records answer in under two seconds (measured in tests/perf/test_perf_status.py): states come from the
index of columns, not from the records themselves. Works where there is no squeue and no sacct. No torch.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from methods.grammar import parse
from results import door, store
from results.columns import Columns
from results.index import read
from results.received import Received
from results.schema import RecordError

from ..planning.existing import AGAIN, RECEIVED, stand_in
from ..planning.price import Price, price
from ..planning.request import Request
from ..planning.resolve import Planned
from . import jobs, queue
from .state import Claims

State = Literal["done", "running", "queued", "failed", "stale", "lost", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "failed", "stale", "lost", "missing")
MEANING = {"lost": "sent to a task that ended without a record; `retry` sends them again",
           "missing": "never begun, or cut short; `run` or `submit` does them",
           "stale": "the method's source changed since"}
UNFINISHED = ("cancelled", "preempted", "timeout")  # what the same command takes up again


@dataclass(frozen=True)
class Line:
    """One run: its state and why."""

    planned: Planned
    state: State
    why: str = ""
    kind: str = ""  # of failure: oom, diverged, data, ...
    share: float | None = None  # done of it, where its task tells
    since: float | None = None  # seconds since the epoch
    job: str = ""
    row: int = -1  # in the columns, where there is a record


@dataclass(frozen=True)
class Report:
    """What `status` shows."""

    suite: str
    lines: tuple[Line, ...]
    columns: Columns
    elsewhere: dict[str, str]  # runs of other sets: queued, running
    now: float
    hints: tuple[str, ...] = ()
    ended: tuple[tuple[float, float], ...] = ()  # of done runs: when, and how many seconds of work
    price: Price | None = field(default=None)

    def count(self) -> dict[State, int]:
        found = Counter(line.state for line in self.lines)
        return {state: found[state] for state in STATES}

    def received(self) -> list[str]:
        """Of the done runs, where each one that was made elsewhere comes from."""
        return [line.why for line in self.lines if line.state == "done" and line.why.startswith(RECEIVED)]

    @property
    def at_work(self) -> bool:
        return any(line.state in ("running", "queued") for line in self.lines)


def survey(request: Request, runs: Path, claims: Claims, folder: Path, ask: bool = True,
           columns: Columns | None = None, counted: Mapping[str, Received] | None = None) -> Report:
    """Look at everything once. `ask`: the scheduler too; `counted`: received runs that count as done.

    Raises UsageError for a request that cannot be.
    """
    now = time.time()
    suite, planned = _planned(request)
    unreadable: list[RecordError] = []
    if columns is None:
        columns = read(runs, on_error=unreadable.append)
    submissions = jobs.read_all(folder)
    unasked = queue.Seen("UNKNOWN", "not asked")
    seen = queue.look(submissions) if ask else {p.key: unasked for p in jobs.tasks(submissions)}
    working = queue.at_work(submissions, seen)
    look = _Look(columns, {p: i for i, p in enumerate(columns.text.get("path", []))}, claims.living(), working,
                 jobs.places(submissions), seen, runs)
    lines = tuple(_counting(look.line(p), counted or {}) for p in planned)
    ours = {p.spec.id for p in planned}
    left = [line.planned for line in lines if line.state in ("running", "queued")]
    ended = tuple((columns.stamp[line.row][1] / 1e9, columns.get_number("time.total_s", line.row) or 0.0)
                  for line in lines if line.state == "done" and line.row >= 0)
    hints = tuple(f"{error}; remove the file to run it again" for error in unreadable)
    if submissions and ask and any(s.reason == "the controller does not answer" for s in seen.values()):
        hints += ("the scheduler does not answer: what it held counts as queued",)
    return Report(suite, lines, columns, {r: s for r, s in working.items() if r not in ours}, now, hints, ended,
                  price(left, columns) if left else None)


def _planned(request: Request) -> tuple[str, list[Planned]]:
    """(the suite's name, its runs), nothing looked up."""
    from ..planning.resolve import resolve, specs_of
    from ..planning.standing import name_of

    if request.tuned:
        from ..planning.tuned import resolve_tuned

        _, planned, view = resolve_tuned(request)
        return view.name, planned
    found = resolve(request)
    return name_of(request, found), specs_of(request, found)


def _counting(line: Line, counted: Mapping[str, Received]) -> Line:
    """The line, done where a received record counts and nothing of one's own is done, at work or waiting."""
    if line.state in ("done", "running", "queued"):
        return line
    one = stand_in(line.planned, counted)
    return Line(one, "done", one.why) if one.state == "done" else line


@dataclass
class _Look:
    """All that is known, for asking run by run."""

    columns: Columns
    rows: dict[str, int]  # path -> row
    living: set[str]
    working: Mapping[str, str]
    places: Mapping[str, jobs.Place]
    seen: Mapping[jobs.Key, queue.Seen]
    runs: Path
    sources: dict[str, str] = field(default_factory=dict)
    beats: dict[jobs.Key, jobs.Beat | None] = field(default_factory=dict)

    def line(self, planned: Planned) -> Line:
        run = planned.spec.id
        path = store.path_of(planned.spec, Path())
        row = self.rows.get(path.as_posix(), -1)
        if run in self.living or (run in self.working and not self._answered(run, row)):
            return self._at_work(planned, row)
        if row < 0:
            if (self.runs / path).exists():
                return Line(planned, "failed", "its record cannot be read; remove the file to run it again", "record")
            return self._absent(planned)
        text = self.columns.get_text
        status, kind = text("status", row), text("failure.kind", row)
        other = text("method.source_hash", row) != self._source(planned.text)
        if status == "ok":
            if other:
                return Line(planned, "stale", MEANING["stale"], row=row)
            return Line(planned, "done", row=row)
        message = text("failure.message", row)
        if other:  # what failed may have been mended
            return Line(planned, "missing", f"{status} before, with the method's former source", row=row)
        if kind in AGAIN or status in UNFINISHED:
            return Line(planned, "lost" if run in self.places else "missing",
                        f"{status} before: {message or kind}", status, row=row)
        return Line(planned, "failed", f"{status}: {message}", status if status != "failed" else kind or "failed",
                    row=row)

    def _answered(self, run: str, row: int) -> bool:
        """Whether the record came from the task that still holds the run: done, or failed, in an earlier life of it."""
        if row < 0 or self.working[run] == "running":
            return False
        status, kind = self.columns.get_text("status", row), self.columns.get_text("failure.kind", row)
        if kind in AGAIN or status in UNFINISHED:
            return False
        place = self.places.get(run)
        made = datetime.fromisoformat(place.submission.made).timestamp() if place else 0.0
        return self.columns.stamp[row][1] / 1e9 >= made

    def _source(self, text: str) -> str:
        if text not in self.sources:
            self.sources[text] = parse(text).source_hash
        return self.sources[text]

    def _at_work(self, planned: Planned, row: int) -> Line:
        run = planned.spec.id
        place = self.places.get(run)
        if place is None or run not in self.working:
            return Line(planned, "running", "a runner has claimed it", row=row)
        beat, job = self._beat(place), place.job or "?"
        if self.working[run] == "running" and beat is not None and run in beat.running:
            share, since = beat.running[run]
            return Line(planned, "running", f"job {job}", share=share, since=since, job=job, row=row)
        seen = self.seen[place.key]
        reason = f", {seen.reason}" if seen.reason and seen.reason not in ("None", "no squeue here") else ""
        waits = f"{seen.state.lower()}{reason}"
        if beat is not None and beat.fresh:
            waits = "behind others of its task" if beat.running else "its task begins"
        again = f", attempt {beat.life + 1}" if beat is not None and beat.life else ""
        return Line(planned, "queued", f"job {job}: {waits}{again}", job=job, row=row)

    def _absent(self, planned: Planned) -> Line:
        """No record and nobody at it: was it ever sent, and what became of its task?"""
        place = self.places.get(planned.spec.id)
        if place is None:
            return Line(planned, "missing", planned.why or "never sent")
        seen, job = self.seen[place.key], place.job or "?"
        if place.submission.cancelled:
            return Line(planned, "lost", f"cancelled (job {job})", "cancelled", job=job)
        if place.array.refused:
            return Line(planned, "lost", f"refused: {place.array.refused}", "refused", job=job)
        words = f"job {job} ended ({seen.state}{f': {seen.reason}' if seen.reason else ''}) without a record"
        last = last_line(place.stderr)
        return Line(planned, "lost", words + (f"; it said last: {last}" if last else ""), seen.state.lower(), job=job)

    def _beat(self, place: jobs.Place) -> jobs.Beat | None:
        if place.key not in self.beats:
            self.beats[place.key] = place.beat()
        return self.beats[place.key]


def last_line(path: Path) -> str:
    """The last words of a task's log."""
    try:
        with door.opened(path, sys.maxsize) as stream:
            stream.seek(max(0, path.stat().st_size - 4000))
            text = stream.read(4000).decode(errors="replace").replace("\0", "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:160] if lines else ""
