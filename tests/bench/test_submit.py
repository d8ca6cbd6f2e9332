"""Submissions without a SLURM: grouping, packing, chunks, what sbatch gets, the ledger, snapshots, profiles, and the
executors that run here. A SLURM of shell scripts stands in where only its words count; tests/slurm has a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import checkout, cli
from bench.dispatch import jobs, queue, slurm, snapshot, task
from bench.dispatch.jobs import Array, Resources, Roots, Submission
from bench.dispatch.local import Job
from bench.dispatch.state import _birth
from bench.planning import profile
from bench.verbs import here, retry
from datasets.standins import write_all
from results import store
from results.schema import RecordError

from .submitted import jobs_for, record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A results root of our own."""
    for name, folder in (("RUNS", "runs"), ("CLAIMS", "claims")):
        monkeypatch.setattr(checkout, name, tmp_path / folder)
    monkeypatch.setattr(checkout, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(checkout, "SNAPSHOTS", tmp_path / "snapshots")
    monkeypatch.setattr("results.suites.save_suite", lambda view: None)
    monkeypatch.setattr(here, "need_standins", lambda todo: None)
    monkeypatch.setattr(profile, "FILE", "no-such-file.yaml")
    yield tmp_path
    slurm.cancel([s for s in jobs.read_all(tmp_path / "jobs") if s.cluster == "local"])


@pytest.fixture
def pictures(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of one small data set, and an image cache of our own."""
    monkeypatch.setattr(checkout, "STANDINS", place / "standins")
    monkeypatch.setattr(checkout, "CACHE", place / "cache")
    write_all(["eurosat"], place / "standins", lambda name: None)
    return place


@pytest.fixture
def scheduler(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts that speak as SLURM does; `squeue.txt` is what is queued, `calls` what sbatch was given."""
    folder = place / "bin"
    folder.mkdir()
    for name, text in {
        "sbatch": 'n=$(( $(cat DIR/count 2>/dev/null || echo 100) + 1 )); echo $n > DIR/count; '
                  'grep -E "array|job-name" "$1" | tr "\\n" " " >> DIR/calls; echo >> DIR/calls; '
                  'if [ -e DIR/refuse ]; then cat DIR/refuse >&2; exit 1; fi; echo "Submitted batch job $n"',
        "squeue": "test -e DIR/down && exit 1; cat DIR/squeue.txt 2>/dev/null; exit 0",
        "sacct": "cat DIR/sacct.txt 2>/dev/null || exit 1",
        "scancel": 'echo "$@" >> DIR/scancelled',
        "scontrol": "echo MaxArraySize = ${MAX_ARRAY:-1001}",
        "srun": "exit 1",
    }.items():
        (folder / name).write_text("#!/bin/sh\n" + text.replace("DIR", str(folder)) + "\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(snapshot, "make", lambda *args: snapshot.Snapshot("0123456789ab", place / "snapshots" / "0"))
    return folder


def ledger(folder: Path, runs: list[Job], cluster: str = "slurm", **changes: Any) -> Submission:
    """A submission with one array of one-run tasks."""
    array = Array(0, "regatta-test-0", Resources(), tuple((j.spec.id,) for j in runs))
    roots = Roots(folder / "runs", folder / "claims", ROOT)
    made = jobs.create(folder / "jobs", "demo", cluster, "0123456789ab", [replace(array, **changes)], runs, roots)
    return jobs.read(made.folder)


# --- submit through the stand-in scheduler

WHAT = ["--datasets", "digits", "--methods", "linear"]


def submit(*words: str) -> int:
    return cli.main(["submit", *WHAT, *words])


def test_a_thousand_runs_are_one_sbatch_per_chunk_and_quick_to_load(scheduler: Path) -> None:
    assert submit("--seeds", *map(str, range(1000)), "--pack", "1", "--max-array", "400") == 0
    calls = (scheduler / "calls").read_text().splitlines()
    assert [c.partition("array=")[2].split()[0] for c in calls] == ["0-399%256", "0-399%256", "0-199%200"]
    made, = jobs.read_all()
    assert [a.job for a in made.arrays] == ["101", "102", "103"]
    pickles = list((made.folder / "submitit").glob("*_submitted.pkl"))
    assert len(pickles) == 1000 and max(p.stat().st_size for p in pickles) < 600, "a folder and two numbers"
    found = jobs.jobs_of(made, made.arrays[2].tasks[7])
    assert [j.spec.seed for j in found] == [807] and found[0].where.data_root.is_absolute()


def test_the_clusters_limit_on_arrays_counts_too(scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ARRAY", "3")
    assert submit("--seeds", *map(str, range(7)), "--pack", "1") == 0
    assert [len(a.tasks) for a in jobs.read_all()[0].arrays] == [3, 3, 1]


def test_submitting_needs_no_torch() -> None:
    code = "import sys; from bench import cli; cli.main(sys.argv[1:]); print('torch' in sys.modules)"
    words = ["submit", *WHAT, "--seeds", "987654", "--dry-run"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "#SBATCH --job-name=regatta-" in done.stdout


def test_what_is_queued_running_or_done_is_not_submitted_twice(scheduler: Path, place: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", "0", "1", "2", "--pack", "1") == 0
    first, = jobs.read_all()
    name = first.arrays[0].name
    (scheduler / "squeue.txt").write_text(f"101_0|{name}|PENDING||None\n101_1|{name}|RUNNING|n1|None\n")
    assert queue.at_work(jobs.read_all()).keys() == {first.arrays[0].tasks[n][0] for n in (0, 1)}
    assert submit("--seeds", "0", "1", "2", "3", "--pack", "1") == 0
    second = jobs.read_all()[1]
    assert {j.spec.seed for j in jobs.jobs_of(second)} == {2, 3}, "2 has vanished from the queue, 3 is new"
    record(place / "runs", jobs.jobs_of(second)[0], "failed", "data")
    (scheduler / "down").touch()
    capsys.readouterr()
    assert submit("--seeds", "0", "1", "3", "--pack", "1") == 0, "a controller that does not answer frees nothing"
    assert "nothing to submit; 3 queued or running" in capsys.readouterr().out


def test_a_job_number_that_was_given_to_somebody_else_is_not_ours(scheduler: Path) -> None:
    assert submit("--seeds", "0") == 0
    (scheduler / "squeue.txt").write_text("101|somebody-elses|RUNNING|n1|None\n")
    made = jobs.read_all()
    assert [s.state for s in queue.look(made).values()] == ["LOST"] and queue.at_work(made) == {}


def test_the_queues_word_counts_before_that_of_the_accounts(scheduler: Path) -> None:
    """A requeued job is NODE_FAIL in the accounts while it waits for another node."""
    assert submit("--seeds", "0", "1", "--pack", "1") == 0
    name = jobs.read_all()[0].arrays[0].name
    (scheduler / "sacct.txt").write_text(f"101_0|{name}|NODE_FAIL|n1\n101_1|{name}|CANCELLED by 0|n1\n")
    (scheduler / "squeue.txt").write_text(f"101_0|{name}|PENDING||BeginTime\n")
    seen = queue.look(jobs.read_all())
    assert [(s.state, s.source) for s in seen.values()] == [("PENDING", "squeue"), ("CANCELLED", "sacct")]


def test_a_refused_submission_says_why_in_sbatchs_words_and_holds_no_run(scheduler: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    (scheduler / "refuse").write_text("sbatch: error: invalid partition specified: gup\n")
    assert submit("--seeds", "0", "1", "--pack", "1", "--partition", "gup") == 2
    assert "sbatch refused: invalid partition specified: gup" in capsys.readouterr().err
    made, = jobs.read_all()
    assert made.arrays[0].refused and queue.at_work([made]) == {}
    assert not list((made.folder / "submitit").glob("*.pkl")), "no pickles are left"


def test_where_slurm_is_missing_one_sentence_says_so(place: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(place))
    assert submit("--seeds", "0") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "SLURM is not installed here" in said[0] and "--cluster local" in said[0]
    assert not jobs.read_all()


def test_a_limit_of_ten_minutes_is_refused_with_the_reason(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--time-min", "10", "--dry-run") == 2
    assert "time_min must be 11 or more" in capsys.readouterr().err


# --- retry and cancel

def test_retry_submits_what_was_lost_one_run_a_task_and_leaves_what_failed(scheduler: Path, place: Path,
                                                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", *map(str, range(6)), "--pack", "6", "--mem-gb", "3", "--partition", "p") == 0
    first = jobs.jobs_of(jobs.read_all()[0])
    record(place / "runs", first[0], "ok")
    record(place / "runs", first[1], "failed", "code")
    record(place / "runs", first[2], "preempted", "node")
    record(place / "runs", first[3], "oom", "memory")
    record(place / "runs", first[4], "failed", "killed")
    assert cli.main(["retry"]) == 0
    assert "again: 1 killed, 1 lost, 1 preempted" in capsys.readouterr().out
    again = jobs.read_all()[1]
    assert sorted(j.spec.seed for j in jobs.jobs_of(again)) == [2, 4, 5]
    assert {len(t) for t in again.arrays[0].tasks} == {1}
    asked = again.arrays[0].resources
    assert (asked.mem_gb, asked.partition) == (3, "p"), "as before"
    assert cli.main(["retry", "--only", "oom", "--mem-gb", "8"]) == 0
    assert [j.spec.seed for j in jobs.jobs_of(jobs.read_all()[2])] == [3]
    assert jobs.read_all()[2].arrays[0].resources.mem_gb == 8


def test_retry_leaves_alone_what_was_received(scheduler: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", "0", "1", "--pack", "1") == 0
    first = jobs.jobs_of(jobs.read_all()[0])[0].spec.id
    monkeypatch.setattr(here, "counted", lambda args: {first: None} if args.accept == ["all"] else {})
    assert cli.main(["retry", "--accept", "all", "--at-least", "verified"]) == 0
    assert "1 run not submitted again: received in a pack\nagain: 1 lost\n" in capsys.readouterr().out
    assert [j.spec.id != first for j in jobs.jobs_of(jobs.read_all()[1])] == [True]


def test_retry_leaves_alone_what_is_queued(scheduler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", "0") == 0
    (scheduler / "squeue.txt").write_text(f"101|{jobs.read_all()[0].arrays[0].name}|PENDING||Priority\n")
    assert cli.main(["retry"]) == 0
    assert "nothing to submit again; 1 run queued or running" in capsys.readouterr().out
    assert len(jobs.read_all()) == 1


def test_what_was_cancelled_is_submitted_again_only_when_asked_for(scheduler: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", "0", "1", "--pack", "1") == 0
    made, = jobs.read_all()
    (made.folder / "cancelled").write_text("2026-01-01T00:00:00Z\n")
    assert cli.main(["retry"]) == 0
    assert "nothing to submit again" in capsys.readouterr().out
    assert cli.main(["retry", made.id]) == 0
    assert "again: 2 cancelled" in capsys.readouterr().out
    assert len(jobs.read_all()) == 2


def test_an_unknown_class_is_answered_with_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["retry", "--only", "timeuot"])
    assert caught.value.code == 2 and "did you mean timeout?" in capsys.readouterr().err


def test_cancel_goes_by_name(scheduler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--seeds", "0", "1", "--pack", "1") == 0
    made, = jobs.read_all()
    name = made.arrays[0].name
    (scheduler / "squeue.txt").write_text("".join(f"101_{n}|{name}|PENDING||None\n" for n in (0, 1)))
    assert cli.main(["cancel", made.id[:20]]) == 0
    assert (scheduler / "scancelled").read_text().split() == [f"--name={name}"]
    assert "1 submission cancelled, 2 runs taken back" in capsys.readouterr().out
    assert jobs.read_all()[0].cancelled
    assert cli.main(["cancel", "nothing-like-it"]) == 2


# --- the ledger

def test_a_run_that_its_task_has_ended_is_not_at_work(place: Path) -> None:
    some = jobs_for(1)
    sleeper = subprocess.Popen(["sleep", "600"])  # stands for the task; the fixture cancels it
    made = ledger(place, some, "local", pids=((sleeper.pid, _birth(sleeper.pid) or ""),))
    assert queue.at_work([made]) == {some[0].spec.id: "queued"}
    now = time.time()
    beat = jobs.Beat("1", "h", os.getpid(), None, 0, now, now, {some[0].spec.id: (0.5, now)}, {})
    path = jobs.beat_path(made.folder, 0, 0)
    jobs.write_beat(path, beat)
    assert queue.at_work([made]) == {some[0].spec.id: "running"}
    assert jobs.places([made])[some[0].spec.id].beat() == beat
    jobs.write_beat(path, replace(beat, running={}, ended={some[0].spec.id: "failed"}))
    assert queue.at_work([made]) == {}
    jobs.write_beat(path, beat)
    slurm.cancel([made])
    assert sleeper.wait(timeout=60) == -signal.SIGTERM
    assert queue.at_work([made]) == {}, "a task whose process is gone holds nothing"


def test_the_ledger_gives_back_what_it_was_given(place: Path) -> None:
    some = [replace(j, where=replace(j.where, cache_root=Path("/c"), weights_file=Path(f"/w{n}"), time_limit_s=5.0),
                    passed={"set.lr": 0.1}, again=bool(n)) for n, j in enumerate(jobs_for(2))]
    made = ledger(place, some)
    assert jobs.jobs_of(made) == some
    assert jobs.jobs_of(made, [some[1].spec.id]) == [some[1]]
    assert jobs.roots_of(made) == Roots(place / "runs", place / "claims", ROOT)
    (made.folder / "submission.json").write_text("{")
    with pytest.raises(RecordError, match=r"submission\.json: cannot be read"):
        jobs.read_all()
    (made.folder / "submission.json").unlink()
    assert jobs.read_all() == [], "a folder without a ledger was given up"


# --- tasks

def test_a_task_skips_what_has_its_record_and_takes_up_what_was_cut_short(place: Path) -> None:
    runs, job = place / "runs", jobs_for(1)[0]
    made = ledger(place, [job])
    assert task.unfinished(job, runs, made.folder) == job
    for status, kind in (("preempted", "node"), ("timeout", "node"), ("failed", "killed")):
        record(runs, job, status, kind)  # type: ignore[arg-type]
        assert task.unfinished(job, runs, made.folder) == replace(job, again=True), status
    path = record(runs, job, "failed", "data")
    assert task.unfinished(job, runs, made.folder) is None, "a finding is not repeated"
    wanted = replace(job, again=True)
    assert task.unfinished(wanted, runs, made.folder) is None, "the record is younger than the wish"
    os.utime(path, (1, 1))
    assert task.unfinished(wanted, runs, made.folder) == wanted


def test_slurms_clock_is_read() -> None:
    assert [task.seconds_of(t) for t in ("00:01:00", "02:00:05", "3-00:00:01")] == [60, 7205, 259201]


QUICK = ("submit", "--datasets", "eurosat", "--methods", "linear")


def test_debug_carries_the_runs_out_here_and_now(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = (*QUICK, "--seeds", "0", "1", "--epochs", "1", "--cluster", "debug")
    assert cli.main(words) == 0
    assert "2 ok" in capfd.readouterr().out
    assert sorted(r.spec.seed for r in store.load_all(pictures / "runs")) == [0, 1]
    beat = jobs.tasks(jobs.read_all())[0].beat()
    assert beat is not None and beat.over == "done" and set(beat.ended.values()) == {"ok"}
    assert cli.main(words) == 0
    assert len(jobs.read_all()) == 1, "nothing was left to do"


def _wait(until: Any, seconds: float = 200.0) -> None:
    limit = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.1)


def test_local_tasks_run_a_copy_of_the_code_and_a_preempted_one_goes_on_where_it_was(pictures: Path) -> None:
    words = ("--seeds", "0", "--epochs", "20", "--batch-size", "8", "--checkpoint-every", "0.1", "--cluster", "local",
             "--jobs", "1")
    assert cli.main((*QUICK, *words)) == 0
    only = jobs.tasks(jobs.read_all())[0]
    assert queue.at_work(jobs.read_all()) != {}
    _wait(lambda: list((pictures / "checkpoints").glob("*/*.pt")))
    first = only.beat()
    assert first is not None
    for pid in _family(first.pid):  # a scheduler may send it to every process of the job
        os.kill(pid, signal.SIGUSR2)
    _wait(lambda: (beat := only.beat()) is not None and beat.over == "done")
    found, = store.load_all(pictures / "runs")
    assert found.status == "ok"
    assert [a.reason for a in found.attempts] == ["preempted", "ok"]
    assert found.attempts[1].resumed_from_step > 0, "inside the run"
    last = only.beat()
    assert last is not None and last.life == 1
    note = json.loads((checkout.SNAPSHOTS / only.submission.snapshot / snapshot.NOTE).read_text())
    assert found.provenance.snapshot == only.submission.snapshot == note["hash"]
    _wait(lambda: queue.at_work(jobs.read_all()) == {})


def _family(pid: int) -> list[int]:
    """A process and all that came of it, the youngest first."""
    children = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _parent(p) == pid]
    return [*(one for child in children for one in _family(child)), pid]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return -1


# --- what is left

def test_classes_of_holes_follow_from_the_record(tmp_path: Path) -> None:
    job = jobs_for(1)[0]
    assert retry.classes_of(tmp_path / "none.json") == ({"lost"}, False)
    for status, kind, classes in (("ok", "", set()), ("failed", "killed", {"killed"}), ("failed", "node", {"node"}),
                                  ("oom", "memory", {"oom", "memory"}), ("timeout", "node", {"timeout"}),
                                  ("failed", "data", {"failed", "data"})):
        path = record(tmp_path, job, status, kind)  # type: ignore[arg-type]
        assert retry.classes_of(path) == (classes, True), status


def test_submissions_of_one_second_keep_their_order() -> None:
    ids = []
    for _ in range(5):
        ids.append(jobs.new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
