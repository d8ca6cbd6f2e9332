"""Whatever happens to a job: in the end every run has one whole record, with the numbers of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from results.schema import RunResult

from .checkout import Checkout, numbers
from .cluster import NODES, Cluster

BOTH = pytest.mark.parametrize("cluster", ["no accounting", "accounting"], indirect=True)
WHAT = ("--suite", "demo", "--datasets", "digits", "--batch-size", "60", "--epochs", "12",
        "--methods", "linear+wait", "linear")  # 60 steps; the first run pauses for a second after each, until `hurry`
HOW = ("--pack", "2", "--checkpoint-every", "0.1")


@pytest.fixture(scope="session")
def undisturbed(sources: Path, tmp_path_factory: pytest.TempPathFactory, plain_cluster: Cluster) -> list[RunResult]:
    """The same two runs, here and in peace."""
    here = Checkout(sources, tmp_path_factory.mktemp("undisturbed") / "regatta", plain_cluster)
    here.hurry()
    here.bench("run", *WHAT, "--no-report")
    return list(here.records().values())


def _begun(checkout: Checkout) -> str:
    """Both runs in one task; the slow one, which comes first, is in its middle. The job's id."""
    checkout.submit(*WHAT, *HOW)
    checkout.wait_step(2)
    (job,) = checkout.jobs()
    return job


def _whole(checkout: Checkout, undisturbed: list[RunResult]) -> RunResult:
    """Nothing is missing, twice or partial, and the numbers are right; returns the slow run's record."""
    records = list(checkout.records().values())
    assert numbers(records) == numbers(undisturbed)
    assert not list((checkout.folder / "results" / "claims").glob("*.claim"))
    assert "done          2" in checkout.bench("status", *WHAT).stdout
    return next(r for r in records if "wait" in r.spec.method)


def _over(checkout: Checkout) -> None:
    """Let the run go on to its end."""
    checkout.hurry()
    checkout.wait_over()


def _retried(checkout: Checkout) -> None:
    checkout.hurry()
    said = checkout.bench("retry", "--pack", "2").stdout
    assert said.startswith("again: "), said
    checkout.wait_over()


def test_scancel(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    job = _begun(checkout)
    checkout.cluster.tell("scancel", job)
    checkout.wait_over()
    assert checkout.statuses() in (["preempted"], []), "the run stored where it stood; the second was not begun"
    told = checkout.bench("status", *WHAT, "--why", status=1).stdout
    assert "lost          2" in told and job in told
    _retried(checkout)
    slow = _whole(checkout, undisturbed)
    assert [a.job for a in slow.attempts] == checkout.jobs()
    assert slow.attempts[-1].resumed_from_step > 0, "it went on inside the run"


def test_requeue_by_hand(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    job = _begun(checkout)
    checkout.cluster.tell("scontrol", "requeue", job)
    checkout.wait(lambda: checkout.cluster.jobs().get(job) == "PENDING", "the requeued job")
    assert "queued        2" in checkout.bench("status", *WHAT).stdout
    assert "nothing to submit" in checkout.submit(*WHAT), "it is in the queue already"
    _over(checkout)
    slow = _whole(checkout, undisturbed)
    assert len(slow.attempts) == 2 and {a.job for a in slow.attempts} == {job}
    assert slow.attempts[1].resumed_from_step > 0


def test_preemption_by_a_higher_partition(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    job = _begun(checkout)
    checkout.cluster.tell("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    checkout.wait(lambda: checkout.cluster.jobs().get(job) == "PENDING", "the evicted job")
    _over(checkout)
    slow = _whole(checkout, undisturbed)
    assert [a.reason for a in slow.attempts] == ["preempted", "ok"]
    assert slow.attempts[1].resumed_from_step > 0


def test_a_time_limit_in_the_middle_of_a_run(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    """The limit is moved to the next full minute; SLURM looks twice a minute and warns up to 60 s early."""
    began = time.monotonic()
    job = _begun(checkout)
    minutes = int((time.monotonic() - began + 20) // 60) + 1
    checkout.cluster.tell("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    checkout.wait(lambda: "Restarts=1" in checkout.cluster.tell("scontrol", "show", "job", "-o", job), "the time limit")
    checkout.cluster.tell("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    _over(checkout)
    slow = _whole(checkout, undisturbed)
    assert [a.reason for a in slow.attempts] == ["timeout", "ok"]
    assert slow.attempts[1].resumed_from_step > 0


def test_a_killed_slurmd(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    """The node is given up and the job requeued elsewhere while its first copy works on: two copies, one record."""
    job = _begun(checkout)
    (node,) = (n for n in NODES if n in checkout.cluster.tell("squeue", "-h", "-j", job, "-o", "%N"))
    first = checkout.cluster.processes("submitit.core._submit")
    checkout.cluster.kill_node(node)
    for pid in first:  # so long that the second copy surely begins while the first one holds the run
        os.kill(pid, signal.SIGSTOP)
    checkout.wait(lambda: len(checkout.cluster.processes("submitit.core._submit")) > len(first), "the second copy")
    for pid in first:
        os.kill(pid, signal.SIGCONT)
    checkout.hurry()
    for _ in range(5):  # on a busy machine SLURM may end both copies, or begin a third when both seem lost
        checkout.wait_over()
        # The queue tells nothing of the first copy, whose slurmd is dead; the second one ends at once where the first
        # holds both runs by then.
        checkout.wait(lambda: not checkout.cluster.processes("submitit.core._submit"), "the end of both copies")
        if "lost" not in checkout.bench("status", *WHAT, status=None).stdout:
            break
        checkout.bench("retry", "--pack", "2", status=None)
    _whole(checkout, undisturbed)


@BOTH
def test_a_task_killed_by_signal_9(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    job = _begun(checkout)
    for pid in checkout.cluster.processes("submitit.core._submit"):
        os.kill(pid, signal.SIGKILL)
    checkout.wait_over()
    assert len(checkout.records()) == 0, "nobody was left to write one"
    told = checkout.bench("status", *WHAT, "--why", status=1).stdout
    assert "lost          2" in told and f"job {job} ended" in told
    _retried(checkout)
    slow = _whole(checkout, undisturbed)
    assert slow.attempts[-1].resumed_from_step > 0, "it went on from the checkpoint that the killed one left"


def test_a_run_killed_by_signal_9_takes_no_other_with_it(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    _begun(checkout)
    beat = checkout.beats()[0]
    children = [pid for pid in checkout.cluster.processes("multiprocessing.forkserver")
                if _parent(_parent(pid)) == beat["pid"]]
    assert children, "the run has a process of its own"
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    _over(checkout)
    by_status = {r.status: r for r in checkout.records().values()}
    assert set(by_status) == {"failed", "ok"}
    assert by_status["failed"].failure is not None and by_status["failed"].failure.kind == "killed"
    _retried(checkout)
    _whole(checkout, undisturbed)


def test_a_job_whose_snapshot_was_deleted(checkout: Checkout, undisturbed: list[RunResult]) -> None:
    checkout.submit(*WHAT, *HOW, "--slurm", "hold")
    (job,) = checkout.jobs()
    shutil.rmtree(checkout.folder / ".snapshots")
    checkout.cluster.tell("scontrol", "release", job)
    checkout.wait_over()
    assert not checkout.records()
    assert "lost          2" in checkout.bench("status", *WHAT, status=1).stdout
    checkout.hurry()
    assert "again: 2 lost" in checkout.bench("retry", "--pack", "2").stdout
    checkout.cluster.tell("scontrol", "release", checkout.jobs()[-1])  # sent as it was before: on hold
    checkout.wait_over()
    _whole(checkout, undisturbed)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
