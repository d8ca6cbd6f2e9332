"""How a run's process ends, and the record of a run whose process ended, or never began, without writing its own."""

from __future__ import annotations

import os
import sys
from multiprocessing import util
from pathlib import Path
from typing import NoReturn, Protocol

from results import store
from results.schema import Attempt, Failure, Provenance, RunResult, RunSpec, Scalar, Status, Throughput, Time

from ..engine.where import Where

NO_SERVER = ("the process that starts runs ended before it could start this one; a file that it imports, of a method "
             "or a data set, may have ended it")


class Asked(Protocol):
    """A run that was to be done: a `Job` of `local`, which imports this."""

    @property
    def spec(self) -> RunSpec: ...

    @property
    def passed(self) -> dict[str, Scalar]: ...

    @property
    def where(self) -> Where: ...


def leave() -> NoReturn:
    """End this process at once, everything being stored.

    Tearing the interpreter down would take as long as starting the next run. What others have asked multiprocessing to
    end is ended all the same: a compiler's processes, which left to themselves are told as leaked semaphores.
    """
    sys.stdout.flush()
    util._exit_function()  # type: ignore[attr-defined]
    os._exit(0)


def unbegun(job: Asked, root: Path) -> RunResult:
    """Store and return the record of a run whose process could not be started. Raises OSError."""
    record = died(job, "failed", Failure("killed", NO_SERVER, "data"))
    store.save(record, root)
    return record


def oom_kills() -> int:
    """How often the kernel has killed a process for memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def died(job: Asked, status: Status, failure: Failure) -> RunResult:
    """The record of a run that could not write its own."""
    from bench.engine import env
    from bench.engine.describe import method_info

    commit, dirty, diff = env.code_state()
    here = Provenance(commit, dirty, diff, env.versions(), job.where.device, env.cpu_name(), os.cpu_count() or 1, None,
                      False, env.now(), env.snapshot())
    attempt = Attempt(env.now(), env.now(), status, 0, env.job_id())
    return RunResult(job.spec, job.passed, status, failure, (attempt,), None, None,
                     method_info(job.spec), {}, 0, None, None, Time(None, None, None, None, None),
                     Throughput(None, None), {}, (), here)
