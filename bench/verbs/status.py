"""`status`: how far a set of runs is, how fast, and when it will be over. No torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from results.spoken import many, word
from results.visible import bare

from .. import checkout
from ..dispatch.state import Claims
from ..dispatch.survey import MEANING, Line, Report, State, survey
from ..units import duration
from .here import counted
from .words import Verb, accepting, unshown, what, which

WINDOW_S = 3600.0  # throughput is that of the last hour
SHOWN = 20  # lines of running tasks without --why

ORDER = 80  # in the list of commands


def add(verb: Verb) -> None:
    """Add the command to the parser of `cli`."""
    status = verb("status", act, "how far the set is: done, running, queued, failed by class, stale; how fast, and "
                  "when it will be over")
    what(status)
    which(status)
    accepting(status)
    unshown(status, "jobs")
    status.add_argument("--why", action="store_true", help="a line for each run that is not done, and why")
    status.add_argument("--watch", nargs="?", type=float, const=5.0, metavar="SECONDS",
                        help="again and again (every 5 s) until nothing is queued or running")
    status.add_argument("--no-scheduler", action="store_true", help="do not ask squeue and sacct")


def act(args: argparse.Namespace) -> int:
    from . import words

    request, received = words.request_of(args), counted(args)
    while True:
        report = survey(request, checkout.RUNS, Claims(checkout.CLAIMS), checkout.JOBS, not args.no_scheduler,
                        counted=received)
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


def show(report: Report, why: bool = False) -> str:
    """The table as text."""
    counts = report.count()
    out = [f"suite {report.suite}: {many(len(report.lines), 'run')}, {_clock(report.now)}"]
    for state, n in counts.items():
        if n or state in ("done", "running", "queued", "failed", "missing"):
            out.append(f"  {state:<8} {n:>6}  {_beside(report, state)}".rstrip())
    found = Counter(report.received())
    out += [f"  {found.total()} of the done runs were not made here: "
            + ", ".join(f"{n} {where}" for where, n in found.items())] * bool(found)
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
        return f"in {many(len(tasks), 'task')}" if tasks else ""
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
        out.append(f"throughput {rate * 3600:.0f} {word(round(rate * 3600), 'run')} an hour "
                   f"({len(recent)} in the last {duration(span)})")
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
