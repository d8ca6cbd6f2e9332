"""How runs are grouped, packed into tasks and cut into arrays, and what sbatch is told of an array."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.dispatch import packing, slurm
from bench.dispatch.ending import died
from bench.dispatch.jobs import Array, Resources
from bench.dispatch.local import Job
from bench.planning.profile import Profile
from results.schema import Failure

from .submitted import jobs_for, spec

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
