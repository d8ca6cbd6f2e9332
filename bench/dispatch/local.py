"""Several runs on this machine: each in a process of its own, forked from a server that has imported everything.

A crash, a memory kill or a leak takes one run. A child whose parent dies ends itself. Runs that another runner has
claimed are left to it; whatever it leaves undone is done here at the end.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from methods.outside import VARIABLE
from results import store
from results.schema import (
    Failure,
    RecordError,
    RunResult,
    RunSpec,
    Scalar,
    Status,
)

from ..engine.where import Where
from .devices import free
from .ending import died, leave, oom_kills, unbegun
from .state import HEARTBEAT_S, Claims, _birth

PRELOAD = ["bench.dispatch.preload", "bench.dispatch.warm"]  # what the server of all runs imports
LARGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # of 2 MB where Linux offers them: a tenth of a step
POLL_S = 0.2
PATIENCE_S = 20.0  # after Ctrl-C, for the runs to store where they stand; a second Ctrl-C does not wait
ABANDONED_S = 3600.0
FEW = 5  # runs that a message names
SERVER_GONE = 255  # what multiprocessing gives as exit code when the fork server ended before the process


@dataclass(frozen=True)
class Job:
    """A run to be done and what its child needs to know."""

    spec: RunSpec
    passed: dict[str, Scalar]
    where: Where
    again: bool = False  # although a record exists


Child = Callable[[Job, Path, Connection], None]


@dataclass
class _Running:
    job: Job
    process: Any
    pipe: Connection
    started: float
    oom_kills: int
    before: int  # when the record was written that lay there before
    born: str | None  # when the process began; None: it is gone already
    share: float = 0.0
    outcome: str = ""


@dataclass
class Tally:
    """What became of the jobs."""

    done: dict[str, int] = field(default_factory=dict)  # status -> count
    elsewhere: int = 0  # done by another runner meanwhile
    failures: list[RunResult] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)  # run -> status, or "elsewhere"

    def add(self, run_id: str, status: str) -> None:
        self.done[status] = self.done.get(status, 0) + 1
        self.ended[run_id] = status

    def add_elsewhere(self, run_id: str) -> None:
        self.elsewhere += 1
        self.ended[run_id] = "elsewhere"


@dataclass
class Crew:
    """What `run_all` is doing, for a signal handler to look at and to stop."""

    running: dict[str, _Running] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    stopping: bool = False  # begin nothing more
    how: signal.Signals | None = None  # what the runs are told

    def stop(self, how: signal.Signals, wait_s: float) -> None:
        """Have the runs store where they stand (SIGTERM: preempted, SIGUSR1: out of time, SIGINT: the user's wish),
        wait until they have."""
        self.stopping, self.how = True, how
        for one in list(self.running.values()):
            with contextlib.suppress(OSError):
                os.kill(one.process.pid, how)
        until = time.monotonic() + wait_s
        for one in list(self.running.values()):
            while _lives(one) and time.monotonic() < until:
                time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))


def forking() -> Any:
    """The context whose processes are forked from the server."""
    os.environ.setdefault(*LARGE_PAGES)  # read when the server starts
    _renew_server()
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def run_all(jobs: Sequence[Job], root: Path, claims: Claims, workers: int, report: Callable[[float, str], None],
            child: Child | None = None, crew: Crew | None = None, places: Sequence[str] = ()) -> Tally:
    """Run every job that has no record yet; `report(runs done, counting parts; label)` as things move.

    `child` is what a process does in place of a run: (job, root, pipe to tell of it). `crew` lets others look on.
    `places` are GPUs, each as often as runs may share it: every run gets the freest, and there are so many workers.
    """
    context = forking()
    workers = len(places) or workers
    _sweep(root)
    crew = crew if crew is not None else Crew()
    tally, waiting, running = crew.tally, list(jobs), crew.running
    before = {j.spec.id: _written(j, root) for j in jobs}
    claimed: list[Job] = []  # by another runner
    leaving: list[Any] = []  # processes whose runs are over
    finished, beat = 0.0, time.monotonic()
    interrupted = False
    lost: list[OSError] = []  # what could not be stored: those at work end, nothing more begins
    try:
        while running or ((waiting or claimed) and not crew.stopping and not lost):
            while waiting and len(running) < workers and not crew.stopping and not lost:
                job = waiting.pop(0)
                try:
                    taken = claims.take(job.spec.id)
                except OSError as error:
                    lost.append(OSError(error.errno, error.strerror, _named(job)))
                    break
                if not taken:
                    claimed.append(job)
                elif _written(job, root) and not (job.again and _written(job, root) == before[job.spec.id]):
                    claims.release(job.spec.id)  # another runner finished it between our plan and now
                    tally.add_elsewhere(job.spec.id)
                    finished += 1
                else:
                    here = free(places, (r.job.where.device for r in running.values()))
                    try:
                        begun = _start(context, _placed(job, here), root, child or _child)
                    except (EOFError, ConnectionError):  # of the server that was to fork it
                        claims.release(job.spec.id)
                        finished += 1
                        try:
                            tally.failures.append(unbegun(job, root))
                            tally.add(job.spec.id, "failed")
                        except OSError as error:
                            lost.append(OSError(error.errno, error.strerror, _named(job)))
                        continue
                    running[job.spec.id] = begun
                    if crew.how is not None:  # asked to stop while the process was being started
                        with contextlib.suppress(OSError):
                            os.kill(begun.process.pid or 0, crew.how)
            if not running and not waiting and claimed:
                time.sleep(POLL_S)
                waiting = [j for j in claimed if not claims.alive(j.spec.id)]  # done there, or left there by a dead one
                claimed = [j for j in claimed if j not in waiting]
                report(finished, "waiting for another runner")
                continue
            wait([r.pipe for r in running.values()]
                 + [r.process.sentinel for r in running.values() if r.process.exitcode is None], timeout=POLL_S)
            for run_id, one in list(running.items()):
                _listen(one)
                if _stored(one) or (one.process.exitcode is not None and not _lives(one)):
                    _listen(one)
                    finished += 1
                    try:
                        _close(one, root, tally)
                    except OSError as error:
                        lost.append(error)
                    # A process that is remembered keeps a file open; those that are gone are forgotten.
                    leaving = [p for p in (*leaving, one.process) if p.exitcode is None]
                    claims.release(run_id)
                    del running[run_id]
            if time.monotonic() - beat > HEARTBEAT_S:
                beat = time.monotonic()
                for run_id in running:
                    claims.touch(run_id)
            label = next((f"{r.job.spec.dataset} {r.job.spec.method}" for r in running.values()), "")
            report(finished + sum(r.share for r in running.values()), label)
    except KeyboardInterrupt:
        interrupted = True
        crew.stop(signal.SIGINT, PATIENCE_S)
        raise
    finally:
        for run_id, one in running.items():
            _kill(one)
            _listen(one)
            if interrupted and not one.outcome:
                with contextlib.suppress(OSError):  # a full disk; the others are to end all the same
                    _note_interrupted(one, root)
            claims.release(run_id)
        for process in leaving:
            process.join()
    if lost:
        raise _unstored(lost)
    return tally


def _placed(job: Job, device: str | None) -> Job:
    """The job on that GPU; as it is where it has no choice."""
    return job if device is None else replace(job, where=replace(job.where, device=device))


_served: list[str] = []  # the folders of parts outside that the fork server was started with


def _renew_server() -> None:
    """End a fork server that was started with other folders of parts; the next process starts one that knows ours."""
    told = os.environ.get(VARIABLE, "")
    if _served and [told] != _served:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    _served[:] = [told]


def _start(context: Any, job: Job, root: Path, child: Child) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    before = _written(job, root)
    process = context.Process(target=child, args=(job, root, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(job, process, ours, time.monotonic(), oom_kills(), before, _birth(process.pid))


def _lives(one: _Running) -> bool:
    """Whether the run's process is there. The server that forked it gives its exit code: 255, once it is gone itself,
    though the run goes on."""
    return one.born is not None and _birth(one.process.pid) == one.born


def _kill(one: _Running) -> None:
    """End the run's process and wait until it is gone."""
    while _lives(one):
        with contextlib.suppress(OSError):
            os.kill(one.process.pid, signal.SIGKILL)
        time.sleep(0.01)
    one.process.join()


def _written(job: Job, root: Path) -> int:
    """When the run's record was written; 0 where there is none."""
    try:
        return store.path_of(job.spec, root).stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> RunResult | None:
    try:
        return store.load(path)
    except RecordError:
        return None


def _sweep(root: Path) -> None:
    """Remove what killed runs left half-written, long enough ago that nobody can be writing it still."""
    for path in root.glob("*/.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _listen(one: _Running) -> None:
    try:
        while one.pipe.poll():
            kind, value = one.pipe.recv()
            if kind == "share":
                one.share = value
            else:
                one.outcome = value
    except (EOFError, OSError):
        pass


def _stored(one: _Running) -> bool:
    """Whether the run is over and its record stored, so that the next may begin while the kernel takes the process
    apart; on a GPU the process must be gone, since until then it keeps the memory."""
    return bool(one.outcome) and one.job.where.device == "cpu"


def _close(one: _Running, root: Path, tally: Tally) -> None:
    """Take the child's outcome; a child that died without one gets a record that says so.

    Raises OSError, whose filename is the run in words, where that cannot be stored.
    """
    job, path = one.job, store.path_of(one.job.spec, root)
    found = None if one.outcome else _read(path)
    if found is not None and found.status == "ok" and _written(job, root) != one.before:
        one.outcome = "ok"  # stored just before the end
    if not one.outcome:
        starved = oom_kills() > one.oom_kills
        status: Status = "oom" if starved else "failed"
        one.outcome = status
        reason = _end_of(one) + (" while the kernel was short of memory" if starved else "")
        record = died(job, status, Failure("memory" if starved else "killed", reason, "train"))
        try:
            path = store.save(record, root)
        except OSError as error:
            raise OSError(error.errno, error.strerror, _named(job)) from error
    tally.add(job.spec.id, one.outcome)
    if one.outcome != "ok":  # where an earlier result lies, the failure lies aside
        records = (_read(path), _read(store.aside_of(job.spec, root)))
        tally.failures += [r for r in records if r is not None and r.status != "ok"][:1]


def _named(job: Job) -> str:
    return f"{job.spec.dataset} {job.spec.method} seed {job.spec.seed}"


def _unstored(lost: Sequence[OSError]) -> OSError:
    """One error for all the runs whose record, or claim, could not be stored."""
    runs = "; ".join(str(error.filename) for error in lost[:FEW]) + " ..." * (len(lost) > FEW)
    return OSError(lost[0].errno, f"{lost[0].strerror}, so nothing is stored of {runs}")


def _end_of(one: _Running) -> str:
    """How a process ended that said nothing of its run."""
    one.process.join()
    code = one.process.exitcode or 0
    if code == SERVER_GONE:
        return "the run's process ended, or was ended; the one that had started it was gone and could not say how"
    return "the run's process ended " + (f"by signal {signal.Signals(-code).name}" if code < 0
                                         else f"with exit status {code}")


def _note_interrupted(one: _Running, root: Path) -> None:
    """An interrupted run goes to scratch: it is no finding."""
    result = died(one.job, "cancelled", Failure("killed", "interrupted by the user", "train"))
    store.save(result, root.parent / "scratch")


def _child(job: Job, root: Path, pipe: Connection) -> None:
    """In the forked process: follow the parent's life, run, say how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until it can be taken as a wish to stop
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if not sys.stderr.isatty():
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - warnings of libraries belong to no table
    from bench.engine.checkpoint import STOP
    from bench.engine.record import execute

    signal.signal(signal.SIGTERM, lambda *_: STOP.ask("preempted"))
    signal.signal(signal.SIGUSR1, lambda *_: STOP.ask("timeout"))
    signal.signal(signal.SIGINT, lambda *_: STOP.ask("cancelled"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGUSR1})  # see `bench.dispatch.task`
    last = 0.0

    def progress(step: int, steps: int) -> None:
        nonlocal last
        if step / steps - last >= 0.05:
            last = step / steps
            pipe.send(("share", last))

    result = execute(job.spec, job.passed, job.where, root, progress)
    pipe.send(("outcome", result.status))
    pipe.close()
    leave()


def _die_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
