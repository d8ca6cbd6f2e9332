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

from bench import cli, plan, submitting
from bench.dispatch import jobs, packing, profile, queue, slurm, snapshot, task
from bench.dispatch.jobs import Array, Resources, Roots, Submission
from bench.dispatch.local import Job, died
from bench.dispatch.profile import Profile
from bench.dispatch.state import _birth
from bench.engine.where import Where
from datasets.standins import write_all
from methods.grammar import parse
from results import store
from results.schema import Failure, RecordError, RunSpec, Status

ROOT = Path(__file__).resolve().parents[2]


def spec(seed: int = 0, **changes: Any) -> RunSpec:
    text = parse("linear")
    values: dict[str, Any] = dict(
        dataset="digits", model="regatta_vit_48", method=text.name, options=text.options, seed=seed, epochs=1,
        batch_size=64, eval_batch_size=64, lr=0.1, weight_decay=0.0, warmup_epochs=0, image_size=48, augment="none",
        normalise="native", precision="fp32", phase="final", select="last", data="shipped:digits", weights="random",
        optimizer="adamw", schedule="cosine", clip=0.0, drop_path=0.0, head_lr_scale=1.0, drop_last=False,
        attention="fused", threads=1, holdout=0.0)
    return RunSpec(**values | changes)


def jobs_for(count: int, **changes: Any) -> list[Job]:
    return [Job(spec(seed, **changes), {}, Where(Path("/data"), None, None)) for seed in range(count)]


def record(root: Path, job: Job, status: Status, kind: str = "") -> Path:
    """A record of the run that ended so."""
    made = died(job, status, Failure(kind, "as the test wants it", "train"))
    return store.save(made if status != "ok" else replace(made, failure=None), root)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A results root of our own."""
    for name, folder in (("RUNS", "runs"), ("CLAIMS", "claims")):
        monkeypatch.setattr(plan, name, tmp_path / folder)
        monkeypatch.setattr(cli, name, tmp_path / folder)
    monkeypatch.setattr(jobs, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(snapshot, "SNAPSHOTS", tmp_path / "snapshots")
    monkeypatch.setattr("results.suites.save_suite", lambda view: None)
    monkeypatch.setattr(cli, "_need_standins", lambda todo: None)
    monkeypatch.setattr(profile, "FILE", "no-such-file.yaml")
    yield tmp_path
    slurm.cancel([s for s in jobs.read_all(tmp_path / "jobs") if s.cluster == "local"])


@pytest.fixture
def pictures(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of one small data set, and an image cache of our own."""
    for module in (plan, cli):
        monkeypatch.setattr(module, "STANDINS", place / "standins")
        monkeypatch.setattr(module, "CACHE", place / "cache")
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


# --- grouping, packing, chunks

def test_runs_that_ask_for_other_resources_do_not_share_an_array() -> None:
    mixed = jobs_for(2) + jobs_for(2, threads=4)
    made = packing.arrays(mixed, Profile(partition="main", mem_gb=2), {}, 2, 100, "s")
    assert [(a.resources.cpus, sum(map(len, a.tasks))) for a in made] == [(1, 2), (4, 2)]
    assert {a.resources.partition for a in made} == {"main"}
    assert len({a.name for a in made}) == 2, "the name says which array it is"


def test_a_profile_with_more_cpus_than_threads_gets_them() -> None:
    assert packing.resources_of(spec(threads=2), Profile(cpus=8)).cpus == 8


def test_arrays_are_cut_above_the_limit_and_lose_no_run() -> None:
    some = jobs_for(23)
    made = packing.arrays(some, Profile(), {}, 2, 5, "s")
    assert [len(a.tasks) for a in made] == [5, 5, 2]
    assert [run for a in made for t in a.tasks for run in t] == [j.spec.id for j in some]
    assert [a.number for a in made] == [0, 1, 2]


def test_recorded_times_decide_how_many_runs_share_a_task() -> None:
    some = jobs_for(40)
    seconds: dict[str, float | None] = {j.spec.id: 100.0 for j in some}
    tasks = packing.pack(some, seconds, None)
    assert [len(t) for t in tasks] == [5] * 8, "4000 s: eight tasks of 500 s"
    long: dict[str, float | None] = {j.spec.id: 900.0 for j in some}
    assert all(len(t) == 1 for t in packing.pack(some, long, None)), "two would pass 20 minutes"
    assert packing.limit_min(tasks, seconds, None) == 30, "the floor"
    assert packing.limit_min([some], long, None) == 910, "40 runs of 900 s, half as much again, and ten minutes"
    assert packing.limit_min([some], long, 45) == 45, "what is told counts"


def test_a_run_like_which_none_is_recorded_has_a_task_and_an_hour_of_its_own() -> None:
    some = jobs_for(4)
    seconds: dict[str, float | None] = {j.spec.id: None if n == 1 else 1.0 for n, j in enumerate(some)}
    tasks = packing.pack(some, seconds, None)
    assert [len(t) for t in tasks] == [1, 1, 2]
    assert packing.limit_min(tasks, seconds, None) == 60


def test_times_are_taken_from_the_likest_runs(tmp_path: Path) -> None:
    def took(job: Job, seconds: float) -> Any:
        made = died(job, "failed", Failure("code", "", "train"))
        return replace(made, status="ok", failure=None, time=replace(made.time, total_s=seconds))

    same, other = jobs_for(1)[0], jobs_for(1, dataset="svhn", epochs=2)[0]
    known = packing.Known([took(same, 10.0), took(other, 100.0)])
    assert known.seconds(spec(7, epochs=3)) == 30.0
    assert known.seconds(spec(7, dataset="svhn")) == 50.0
    assert known.seconds(spec(7, dataset="dtd")) == 30.0, "another data set: the method's median, per epoch"
    assert known.seconds(spec(7, model="vit_base_patch16_224.augreg_in21k")) is None


# --- what sbatch gets

def test_the_script_says_what_the_array_asks_for(tmp_path: Path) -> None:
    more = (("exclude", "n7"), ("hold", ""))
    asked = Resources(2, 1, 1.5, 45, "gpu", "acc", "high", "a100", ("module load cuda",), more)
    text = slurm.script(Array(3, "regatta-x-3", asked, (("a",), ("b",))), tmp_path, tmp_path / "code", 7)
    lines = text.splitlines()
    for line in ("array=0-1%2", "job-name=regatta-x-3", "time=45", "cpus-per-task=2", "gpus-per-node=1", "mem=1536MB",
                 "partition=gpu", "account=acc", "qos=high", "constraint=a100", "exclude=n7", "hold", "requeue",
                 "signal=USR2@90"):
        assert f"#SBATCH --{line}" in lines, line
    entered, loaded, started = (next(n for n, x in enumerate(lines) if x.startswith(w))
                                for w in ("cd ", "module load cuda", "srun "))
    assert entered < loaded < started, "in the copy of the code, after the site's own lines"
    assert "export OMP_NUM_THREADS=2" in text


def test_without_srun_python_takes_the_shells_place_and_the_signal_reaches_it(tmp_path: Path) -> None:
    text = slurm.script(Array(0, "n", Resources(srun=False), (("a",),)), tmp_path, tmp_path / "code", 1)
    assert "#SBATCH --signal=B:USR2@90" in text
    assert not any(line.startswith("srun") for line in text.splitlines())
    assert any(line.startswith(f"exec {sys.executable}") for line in text.splitlines())
    assert "--array" not in text, "one task is no array"


def test_a_job_whose_code_is_gone_says_so_and_fails(tmp_path: Path) -> None:
    text = slurm.script(Array(0, "n", Resources(srun=False), (("a",),)), tmp_path, tmp_path / "gone", 1)
    (tmp_path / "job.sh").write_text(text)
    done = subprocess.run(["bash", str(tmp_path / "job.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 66
    assert "the code of this job (gone) is gone" in done.stderr and "bench retry" in done.stderr


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
    note = json.loads((snapshot.SNAPSHOTS / only.submission.snapshot / snapshot.NOTE).read_text())
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
    assert submitting.classes_of(tmp_path / "none.json") == ({"lost"}, False)
    for status, kind, classes in (("ok", "", set()), ("failed", "killed", {"killed"}), ("failed", "node", {"node"}),
                                  ("oom", "memory", {"oom", "memory"}), ("timeout", "node", {"timeout"}),
                                  ("failed", "data", {"failed", "data"})):
        path = record(tmp_path, job, status, kind)  # type: ignore[arg-type]
        assert submitting.classes_of(path) == (classes, True), status


def test_submissions_of_one_second_keep_their_order() -> None:
    ids = []
    for _ in range(5):
        ids.append(jobs.new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
