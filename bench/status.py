"""How far a set is: from records, claims and the tasks' signs of life; the scheduler is asked last and only for a hint.

Ten thousand records answer in under two seconds (measured in tests/perf/test_perf_status.py): states come from the
index of columns, not from the records themselves. Works where there is no squeue and no sacct. No torch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from methods.grammar import parse
from results import store
from results.columns import Columns
from results.index import read
from results.schema import RecordError
from results.visible import bare

from .dispatch import jobs, queue
from .dispatch.state import Claims
from .plan import AGAIN, Planned, Request
from .pricing import Price, price
from .show import duration

State = Literal["done", "running", "queued", "failed", "stale", "lost", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "failed", "stale", "lost", "missing")
MEANING = {"lost": "sent to a task that ended without a record; `retry` sends them again",
           "missing": "never begun, or cut short; `run` or `submit` does them",
           "stale": "the method's source changed since"}
WINDOW_S = 3600.0  # throughput is that of the last hour
SHOWN = 20  # lines of running tasks without --why
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

    @property
    def at_work(self) -> bool:
        return any(line.state in ("running", "queued") for line in self.lines)


def add_status(verb: Callable[..., argparse.ArgumentParser], what: Callable[[argparse.ArgumentParser], None],
               which: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of `cli`."""
    status = verb("status", _status, "how far the set is: done, running, queued, failed by class, stale; how fast, and "
                  "when it will be over")
    what(status)
    which(status)
    status.add_argument("--why", action="store_true", help="a line for each run that is not done, and why")
    status.add_argument("--watch", nargs="?", type=float, const=5.0, metavar="SECONDS",
                        help="again and again (every 5 s) until nothing is queued or running")
    status.add_argument("--no-scheduler", action="store_true", help="do not ask squeue and sacct")


def _status(args: argparse.Namespace) -> int:
    from . import cli, plan

    request = cli.request_of(args)
    while True:
        report = survey(request, plan.RUNS, Claims(plan.CLAIMS), jobs.JOBS, not args.no_scheduler)
        text = show(report, args.why)
        if args.watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="", file=bare(sys.stdout))
        print(text, flush=True)
        if not args.watch or not report.at_work:
            break
        time.sleep(max(0.5, args.watch))
        if not sys.stdout.isatty():
            print()
    counts = report.count()
    return 1 if counts["failed"] or counts["lost"] else 0


def survey(request: Request, runs: Path, claims: Claims, folder: Path, ask: bool = True,
           columns: Columns | None = None) -> Report:
    """Look at everything once. `ask`: the scheduler too. Raises UsageError for a request that cannot be."""
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
    lines = tuple(look.line(p) for p in planned)
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
    from .plan import _resolve, _specs, name_of

    if request.tuned:
        from .tuned import make_tuned

        plan = make_tuned(request, Path("/nonexistent"), set())
        return plan.view.name, list(plan.runs)
    found = _resolve(request)
    return name_of(request, found), _specs(request, found)


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
        if status == "ok":
            if text("method.source_hash", row) != self._source(planned.text):
                return Line(planned, "stale", MEANING["stale"], row=row)
            return Line(planned, "done", row=row)
        message = text("failure.message", row)
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
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 4000))
            lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:160] if lines else ""


def show(report: Report, why: bool = False) -> str:
    """The table as text."""
    counts = report.count()
    out = [f"suite {report.suite}: {len(report.lines)} runs, {_clock(report.now)}"]
    for state, n in counts.items():
        if n or state in ("done", "running", "queued", "failed", "missing"):
            out.append(f"  {state:<8} {n:>6}  {_beside(report, state)}".rstrip())
    out += [f"  {line}" for line in _pace(report)]
    running = [line for line in report.lines if line.state == "running"]
    if running:
        out.append("running:")
        out += [f"  {_name(line)}  {_progress(line, report)}" for line in running[:None if why else SHOWN]]
        out += [f"  and {len(running) - SHOWN} more"] * (len(running) > SHOWN and not why)
    if report.elsewhere:
        states = Counter(report.elsewhere.values())
        out.append(f"of other sets: {', '.join(f'{n} {state}' for state, n in sorted(states.items()))}")
    holes = [line for line in report.lines if line.state not in ("done", "running")]
    if why:
        out += ["not done:"] * bool(holes)
        out += [f"  {line.state:<8} {line.planned.spec.id}  {_name(line)}  ({line.why})" for line in holes]
    else:
        out += [f"  {state:<8} {n} x {words}" for state, words, n in _reasons(holes)]
    return "\n".join([*out, *(f"note: {hint}" for hint in report.hints)])


def _name(line: Line) -> str:
    spec = line.planned.spec
    return f"{spec.dataset} {line.planned.text} seed {spec.seed}"


def _beside(report: Report, state: State) -> str:
    """What stands beside a state's number."""
    lines = [line for line in report.lines if line.state == state]
    if state in ("failed", "lost"):
        kinds = Counter(line.kind for line in lines)
        words = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        return words + (f" ({MEANING['lost']})" if state == "lost" else "")
    if state in ("running", "queued"):
        tasks = {line.job for line in lines if line.job}
        return f"in {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}" if tasks else ""
    return MEANING.get(state, "") if lines else ""


def _reasons(holes: Iterable[Line]) -> list[tuple[State, str, int]]:
    """The most frequent reasons among what failed or was lost; --why names every run."""
    found = Counter((line.state, line.why) for line in holes if line.state in ("failed", "lost"))
    return [(state, words, n) for (state, words), n in found.most_common(5)]


def _progress(line: Line, report: Report) -> str:
    words = [line.why]
    if line.share is not None and line.since is not None:
        spent = report.now - line.since
        expected = report.price.per_run.get(line.planned.spec.id) if report.price else None
        left = (spent * (1 - line.share) / line.share if line.share >= 0.05
                else expected - spent if expected and expected > spent else None)
        words = [f"{100 * line.share:3.0f} %", f"{duration(left)} left" if left is not None else "time left unknown",
                 line.why]
    return "  ".join(words)


def _pace(report: Report) -> list[str]:
    """Throughput of the last hour, and when what is queued and running will be over."""
    out = []
    recent = [(when, seconds) for when, seconds in report.ended if report.now - WINDOW_S <= when <= report.now]
    rate = work = None
    if recent:
        first = max(report.now - WINDOW_S, min(when - seconds for when, seconds in recent))
        span = max(1.0, report.now - first)
        rate, work = len(recent) / span, sum(seconds for _, seconds in recent) / span
        out.append(f"throughput {rate * 3600:.0f} runs an hour ({len(recent)} in the last {duration(span)})")
    if not report.at_work:
        return out
    running = [line for line in report.lines if line.state == "running"]
    side_by_side = len(running) or (work and max(1.0, work))
    if not side_by_side:
        return [*out, "expected end unknown: nothing runs yet"]
    if report.price is not None and report.price.seconds is not None and not report.price.unknown:
        done = sum(report.price.per_run.get(line.planned.spec.id, 0.0) * (line.share or 0.0) for line in running)
        ends = [max(0.0, s - done) / side_by_side for s in (report.price.seconds, report.price.low, report.price.high)
                if s is not None]
        spread = f" ({duration(ends[1])} to {duration(ends[2])})" if len(ends) == 3 else ""
        return [*out, f"expected end {_clock(report.now + ends[0])}, in {duration(ends[0])}{spread}, from like runs, "
                f"{side_by_side:.0f} at once"]
    if rate:
        left = sum(line.state in ("running", "queued") for line in report.lines) / rate
        return [*out, f"expected end {_clock(report.now + left)}, in {duration(left)}, at this throughput"]
    return [*out, "expected end unknown: no like run is recorded"]


def _clock(seconds: float) -> str:
    when = datetime.fromtimestamp(seconds)
    return f"{when:%H:%M:%S}" if abs(seconds - time.time()) < 86_400 else f"{when:%Y-%m-%d %H:%M}"
