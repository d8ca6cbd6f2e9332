"""Handing tasks to a scheduler through submitit: SLURM, processes on this machine, or here and now.

Each submission has a folder of its own, since job numbers come back and an old result would be taken for a new one.
It is written down before sbatch is called and again after each call. The submitter goes away at once; submitit's
result files are looked at by nobody, because the records say how runs went.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.spoken import many, word

from .. import extra
from ..planning.request import UsageError
from . import devices, jobs
from .jobs import Array, Resources, Submission
from .state import _birth
from .task import Task

MAX_ARRAY = 1001  # SLURM's default, for a cluster that does not say
RESTARTS = 100  # submitit gives up after so many time limits; three are too few for long runs
WARNING_S = 90
LOCAL_MIN = 7 * 24 * 60


def need_slurm() -> None:
    """Raises UsageError where there is no SLURM."""
    if shutil.which("sbatch") is None:
        raise UsageError(["SLURM is not installed here (there is no sbatch on the PATH); `--cluster local` does the "
                          "same runs in the background on this machine"])


def max_array_size(guess: bool = False) -> int:
    """Tasks that fit into one array of this cluster: indices run from 0 to MaxArraySize - 1. `guess`: SLURM's default
    where nobody answers."""
    try:
        told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=30,
                              check=True).stdout
    except FileNotFoundError:
        return MAX_ARRAY
    except subprocess.SubprocessError:
        if guess:
            return MAX_ARRAY
        raise UsageError(["the SLURM controller does not answer (scontrol show config); nothing was submitted"]
                         ) from None
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", told)
    return max(1, int(found[1])) if found else MAX_ARRAY


def parameters(array: Array, snapshot: Path, parallel: int) -> dict[str, Any]:
    """What submitit hands to sbatch, in sbatch's words."""
    wanted = array.resources
    gone = f"regatta: the code of this job ({snapshot.name}) is gone; `python -m bench retry` submits it again"
    found: dict[str, Any] = {
        "job_name": array.name, "time": wanted.time_min, "cpus_per_task": wanted.cpus, "partition": wanted.partition,
        "account": wanted.account, "qos": wanted.qos, "constraint": wanted.constraint,
        "gpus_per_node": wanted.gpus or None, "mem": _memory(wanted.mem_gb), "array_parallelism": parallel,
        "signal_delay_s": WARNING_S, "wckey": None, "use_srun": wanted.srun,
        "setup": [f"cd {shlex.quote(str(snapshot))} || {{ echo {shlex.quote(gone)} >&2; exit 66; }}",
                  f"export OMP_NUM_THREADS={wanted.cpus} PYTHONDONTWRITEBYTECODE=1", "unset PYTHONSAFEPATH",
                  _parts(snapshot),
                  *wanted.setup],
        "additional_parameters": {"requeue": True} | {k: v if v else True for k, v in wanted.slurm}
        | ({} if wanted.srun else {"signal": f"B:USR2@{WARNING_S}"}),
    }
    return {k: v for k, v in found.items() if v is not None}


def _parts(snapshot: Path) -> str:
    """The line that points a job at its copies of folders outside the checkout, and at nothing else."""
    told = extra.below(snapshot)
    return f"export {extra.VARIABLE}={shlex.quote(told)}" if told else f"unset {extra.VARIABLE}"


def _memory(gb: float | None) -> str | None:
    return None if gb is None else f"{max(1, round(gb * 1024))}MB"


def python_of(resources: Resources) -> str:
    """How the task's Python is called; without srun it must take the shell's place, or no signal would reach it."""
    return ("" if resources.srun else "exec ") + shlex.quote(sys.executable)


def script(array: Array, folder: Path, snapshot: Path, parallel: int) -> str:
    """The batch script that sbatch gets."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{python_of(array.resources)} -u -m submitit.core._submit {shlex.quote(str(folder / 'submitit'))}"
    count = len(array.tasks)
    return _make_sbatch_string(command=command, folder=folder / "submitit", map_count=count if count > 1 else None,
                               **parameters(array, snapshot, parallel))


def submit(submission: Submission, snapshot: Path, parallel: int, report: Callable[[str], None]) -> Submission:
    """Hand over every array that has no job yet; the ledger is told after each. Raises UsageError on a refusal."""
    if submission.cluster == "local":
        return _submit_local(submission, snapshot)
    done = list(submission.arrays)
    for array in submission.arrays:
        try:
            job = _sbatch(submission, array, snapshot, parallel)
        except RuntimeError as error:  # submitit's errors; what sbatch said is in the last lines
            words = _said(str(error))
            done[array.number:] = [replace(a, refused=words) for a in done[array.number:]]
            jobs.save(replace(submission, arrays=tuple(done)))
            _sweep(submission.folder / "submitit")
            raise UsageError([f"sbatch refused: {words}"
                              + (f" (of {many(len(done), 'array')} {array.number} "
                                  f"{word(array.number, 'was', 'were')} submitted)" if array.number else "")]
                             ) from None
        done[array.number] = replace(array, job=job)
        submission = replace(submission, arrays=tuple(done))
        jobs.save(submission)
        report(f"job {job}: {many(len(array.tasks), 'task')}, "
               f"{many(sum(map(len, array.tasks)), 'run')}, {told(array.resources)}")
    return submission


def told(wanted: Resources) -> str:
    """Resources in a few words."""
    words = [f"partition {wanted.partition}"] if wanted.partition else []
    words += [f"{wanted.cpus} CPU{'s' * (wanted.cpus > 1)}"]
    words += [f"{wanted.gpus} GPU{'s' * (wanted.gpus > 1)}"] if wanted.gpus else []
    words += [f"{wanted.mem_gb:g} GB"] if wanted.mem_gb else []
    return ", ".join([*words, f"{wanted.time_min} min"])


def _sbatch(submission: Submission, array: Array, snapshot: Path, parallel: int) -> str:
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor

    executor = SlurmExecutor(submission.folder / "submitit", RESTARTS, python=python_of(array.resources))
    executor.update_parameters(**parameters(array, snapshot, parallel))
    todo = [Task(str(submission.folder), array.number, number) for number in range(len(array.tasks))]
    with _outside_a_job():
        try:
            made = executor.submit_array(todo)
        except FailedJobError as error:
            raise RuntimeError(str(error)) from None
    return str(made[0].job_id).partition("_")[0]


@contextlib.contextmanager
def _outside_a_job() -> Iterator[None]:
    """Without the SLURM variables of a job that we may be part of: sbatch would take them for wishes."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("SLURM_", "SBATCH_", "SRUN_")) and n != "SLURM_CONF"]:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _said(error: str) -> str:
    """sbatch's own words out of submitit's error."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    words = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return "; ".join(dict.fromkeys(words)) or (lines[-1] if lines else "it did not say why")


def _sweep(folder: Path) -> None:
    """The pickles of a submission that was refused."""
    for path in folder.glob("*.pkl"):
        if re.fullmatch(r"[0-9a-f]{32}\.pkl", path.name):
            path.unlink(missing_ok=True)


def _submit_local(submission: Submission, snapshot: Path) -> Submission:
    """One process for each task, all at once: the tasks were cut as many as may work together."""
    from submitit.local.local import LocalExecutor

    asked = [array.resources.gpus for array in submission.arrays for _ in array.tasks]
    given = iter(devices.shares(len(asked), max(asked, default=0), devices.visible() if any(asked) else ()))

    done = []
    for array in submission.arrays:
        pids = []
        for number in range(len(array.tasks)):
            executor = LocalExecutor(submission.folder / "submitit", max_num_timeout=RESTARTS)
            executor.update_parameters(timeout_min=LOCAL_MIN)
            with _detached(snapshot, submission.folder / "local.log"):
                job: Any = executor.submit(Task(str(submission.folder), array.number, number, gpus=next(given)))
            pids.append((int(job.job_id), _birth(int(job.job_id)) or ""))
        done.append(replace(array, pids=tuple(pids)))
    submission = replace(submission, arrays=tuple(done))
    jobs.save(submission)
    return submission


@contextlib.contextmanager
def _detached(folder: Path, log: Path) -> Iterator[None]:
    """Start processes that outlive us: in `folder`, holding neither our terminal nor our pipes."""
    here, saved = Path.cwd(), [os.dup(n) for n in (0, 1, 2)]
    parts = os.environ.get(extra.VARIABLE)
    sys.stdout.flush()
    sys.stderr.flush()
    nothing, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        if parts is not None:
            os.environ[extra.VARIABLE] = extra.below(folder)
        yield
    finally:
        os.chdir(here)
        if parts is not None:
            os.environ[extra.VARIABLE] = parts
        signal.signal(signal.SIGHUP, hangup)
        for number, old in enumerate(saved):
            os.dup2(old, number)
            os.close(old)
        os.close(nothing)
        os.close(out)


def run_debug(submission: Submission) -> int:
    """Carry every task out in this process, one after the other; how many runs did not end well."""
    from submitit.core.core import Executor
    from submitit.local.debug import DebugExecutor

    executor: Executor = DebugExecutor(submission.folder / "submitit")
    failed = 0
    for array in submission.arrays:
        for number in range(len(array.tasks)):
            job: Any = executor.submit(Task(str(submission.folder), array.number, number, quiet=True))
            failed += sum(n for status, n in job.result().items() if status != "ok")
    return failed


def cancel(submissions: Sequence[Submission]) -> list[str]:
    """Take them back: what is queued goes, what is at work stores where it stands. Returns what could not be done."""
    from datetime import UTC, datetime

    problems = []
    for one in submissions:
        (one.folder / "cancelled").write_text(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ\n"))
        for array in one.arrays:
            if one.cluster == "slurm" and not array.refused:
                problems += _scancel(array)
            for pid, born in array.pids:
                if _birth(pid) == born:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGTERM)  # submitit's controller hands it to the task
    return problems


def _scancel(array: Array) -> list[str]:
    """By name: the number may be somebody else's by now."""
    try:
        subprocess.run(["scancel", f"--name={array.name}"], capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        return ["SLURM is not installed here (there is no scancel on the PATH)"]
    except subprocess.CalledProcessError as error:
        return [f"{array.name}: {error.stderr.strip().removeprefix('scancel: error: ')}"]
    except subprocess.SubprocessError:
        return [f"{array.name}: the SLURM controller does not answer"]
    return []
