"""What a cluster task does: its runs one after the other, each in a process of its own, until all have a record.

submitit pickles a `Task`: a folder and two numbers. The code is that of the folder in which the job starts, the
snapshot; what to run is read from the submission's ledger. A task may begin any number of times (requeued, preempted,
out of time, two copies after a lost node): what has a record is skipped, what has a checkpoint goes on from it, what
another living runner has claimed is waited for.

Signals. USR2 (time limit or preemption) is submitit's: it calls `checkpoint`, which has the run store where it stands,
and then requeues the job. TERM (scancel, `scontrol requeue`, a preempting partition, the end of the time) stores too,
and ends the task: SLURM knows what it wants. A scheduler may send either to every process of the job, so the fork
server is started with both blocked, and a run's process takes TERM and USR1 alone.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from results import store
from results.schema import RecordError
from results.spoken import many, word
from results.visible import visible

from ..engine import env
from ..planning.existing import AGAIN
from . import devices, jobs
from .local import PRELOAD, Crew, Job, run_all
from .state import Claims, _birth, _host

BEAT_S = 5.0
CHECKPOINT_S = 60.0  # SLURM warns 90 s before the end
AFTER_TERM_S = 3.0  # USR2 may follow TERM
LATE_S = 180.0  # within so many seconds of the limit a warning means the limit: SLURM warns up to 60 s early
HERE = Path(__file__).resolve().parents[2]
UNFINISHED = ("preempted", "timeout", "cancelled")  # statuses that say nothing about the run


class RunsFailed(Exception):
    """Runs of the task did not end well; each has a record that says why."""


@dataclass
class _Shift:
    """One life of a task in this process."""

    path: Path  # of the sign of life
    beat: jobs.Beat
    crew: Crew
    claims: Claims
    limit_min: int
    since: dict[str, float]
    last: float = 0.0
    known: int = -1
    lock: Any = field(default_factory=threading.RLock)  # a signal handler may come while we hold it

    def keep_telling(self) -> None:
        """In a thread: the first import of torch from a slow disk takes longer than a sign of life may be late."""
        while not self.beat.over:
            time.sleep(BEAT_S)
            self.tell()

    def tell(self, over: str = "") -> None:
        """A sign of life, when it is time for one or something changed."""
        with self.lock:
            self._tell(over)

    def _tell(self, over: str) -> None:
        now, crew = time.time(), self.crew
        if self.beat.over and not over:
            return  # that was the last word
        changed = len(crew.tally.ended) != self.known and now - self.last > 1
        if not (over or changed or now - self.last > BEAT_S):
            return
        running = {run: (one.share, self.since.setdefault(run, now)) for run, one in list(crew.running.items())}
        self.beat = replace(self.beat, beaten=now, over=over or self.beat.over, ended=dict(crew.tally.ended),
                            running={} if over else running)
        self.last, self.known = now, len(crew.tally.ended)
        jobs.write_beat(self.path, self.beat)


_AT_WORK: _Shift | None = None


@dataclass(frozen=True)
class Task:
    """A task of a submission. `quiet` tells how it went instead of raising: for the debug executor."""

    folder: str
    array: int
    number: int
    quiet: bool = False
    gpus: tuple[str, ...] | None = None  # cluster local: those that it may see; None: whatever the scheduler shows

    def __call__(self) -> dict[str, int]:
        """Carry the runs out; status -> number of runs. Raises RunsFailed when not all ended well."""
        global _AT_WORK
        if self.gpus is not None:  # submitit gives numbers from 0, whatever the variable held
            os.environ[devices.VISIBLE] = ",".join(self.gpus)
        submission = jobs.read(Path(self.folder))
        array = submission.arrays[self.array]
        roots = jobs.roots_of(submission)
        todo = [_here(job, roots.checkout) for job in jobs.jobs_of(submission, array.tasks[self.number])]
        shift = _Shift(jobs.beat_path(submission.folder, self.array, self.number), self._first_beat(submission.folder),
                       Crew(), Claims(roots.claims), array.resources.time_min, {})
        _AT_WORK = shift
        in_debug = submission.cluster == "debug"
        if not in_debug:
            signal.signal(signal.SIGTERM, _terminated)
            start_fork_server()
        shift.tell()
        threading.Thread(target=shift.keep_telling, daemon=True).start()
        print(f"task {self.number}: {many(len(todo), 'run')}, code {env.snapshot() or 'of the checkout'}",
              flush=True)
        over = "failed"
        try:
            for _ in range(2):  # again for what another copy of this task left unfinished while we waited for it
                left = [job for one in todo if (job := unfinished(one, roots.runs, submission.folder)) is not None
                        and shift.crew.tally.ended.get(one.spec.id, "elsewhere") == "elsewhere"]
                if not left or shift.crew.stopping:
                    break
                run_all(left, roots.runs, shift.claims, 1, lambda done, label: shift.tell(), crew=shift.crew,
                        places=places_of(left, array.resources.gpus))
            if shift.crew.stopping:
                _leave(shift)
            tally = shift.crew.tally
            over = "failed" if tally.failures else "done"
        finally:
            shift.tell(shift.beat.over or over)
            _AT_WORK = None
        for record in tally.failures:
            print(f"{record.spec.id} {record.spec.dataset} {record.method.text} seed {record.spec.seed}: "
                  f"{record.status}: {visible(record.failure.message) if record.failure else ''}", file=sys.stderr,
                  flush=True)
        if tally.failures and not self.quiet:
            raise RunsFailed(f"{len(tally.failures)} of {many(len(todo), 'run')} did not end well; "
                             f"{word(len(tally.failures), 'its record says', 'their records say')} why")
        return dict(tally.done)

    def checkpoint(self) -> Any:
        """For submitit's handler: store where the run stands; what it returns is carried out after the requeue."""
        from submitit.helpers import DelayedSubmission

        shift = _AT_WORK
        if shift is not None:
            late = out_of_time(shift)
            shift.crew.stop(signal.SIGUSR1 if late else signal.SIGTERM, CHECKPOINT_S)
            for run in list(shift.crew.running):
                shift.claims.release(run)
            shift.tell("requeued")
        return DelayedSubmission(self)

    def _first_beat(self, folder: Path) -> jobs.Beat:
        before = jobs.read_beat(jobs.beat_path(folder, self.array, self.number))
        now = time.time()
        return jobs.Beat(env.job_id() or os.environ.get("SUBMITIT_LOCAL_JOB_ID"), _host(), os.getpid(),
                         _birth(os.getpid()), before.life + 1 if before else 0, now, now, {}, {})


def places_of(todo: Sequence[Job], gpus: int) -> tuple[str, ...]:
    """One run on each GPU of a task that has several; none to choose where it has one, or where runs want no GPU."""
    return devices.slots(range(gpus), 1) if gpus > 1 and all(job.where.device == "cuda" for job in todo) else ()


def _terminated(*_: object) -> None:
    """TERM: the runs store where they stand, nothing more is begun; `run_all` then returns by itself."""
    if _AT_WORK is not None:
        _AT_WORK.crew.stop(signal.SIGTERM, 0.0)


def _leave(shift: _Shift) -> None:
    """After TERM: wait a moment for the USR2 that would requeue us, then go."""
    shift.tell("stopped")
    time.sleep(AFTER_TERM_S)
    raise SystemExit(128 + signal.SIGTERM)


def start_fork_server() -> None:
    """With USR2 and TERM blocked, which it and its children inherit; it would die of them, and our runs with it."""
    server = forkserver._forkserver  # type: ignore[attr-defined]
    resource_tracker.ensure_running()  # first: starting it unblocks TERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM})
    try:
        server.set_forkserver_preload(PRELOAD)
        server.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _here(job: Job, checkout: Path) -> Job:
    """The job with a weights file of the repository taken from the copy that we run."""
    file = job.where.weights_file
    if file is not None and file.is_relative_to(checkout) and (HERE / file.relative_to(checkout)).is_file():
        file = HERE / file.relative_to(checkout)
    return replace(job, where=job.where.with_files(file, job.where.head_file))


def unfinished(job: Job, root: Path, folder: Path) -> Job | None:
    """The job if it must be done, `again` when an unfinished record of it lies there; None when it has its record.

    A run that was to be repeated counts as done by a record that is younger than the submission.
    """
    path = store.path_of(job.spec, root)
    if not path.exists():
        return job
    try:
        record = store.load(path)
    except RecordError:
        return replace(job, again=True)
    if record.status in UNFINISHED or (record.failure is not None and record.failure.kind in AGAIN):
        return replace(job, again=True)
    younger = path.stat().st_mtime >= (folder / "runs.jsonl").stat().st_mtime
    return job if job.again and not younger else None


def out_of_time(shift: _Shift) -> bool:
    """Whether a warning means the time limit; the controller knows the limit, which may have been changed since."""
    elapsed, limit = time.time() - shift.beat.started, 60.0 * shift.limit_min
    job = env.job_id()
    if job is not None:
        try:
            told = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, timeout=5,
                                  check=True).stdout
            found = dict(re.findall(r"(RunTime|TimeLimit)=([\d:-]+)", told))
            elapsed, limit = seconds_of(found["RunTime"]), seconds_of(found["TimeLimit"])
        except (OSError, subprocess.SubprocessError, KeyError, ValueError):
            pass
    return elapsed >= limit - LATE_S


def seconds_of(text: str) -> float:
    """SLURM's [days-]hours:minutes:seconds."""
    days, _, clock = text.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return 86400.0 * int(days or 0) + 3600 * hours + 60 * minutes + seconds
