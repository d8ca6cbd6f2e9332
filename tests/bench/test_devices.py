"""Runs on several GPUs. No GPU is needed: devices are words, and processes report only what they were given."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from bench import checkout, cli, door
from bench.dispatch import devices, jobs, local, slurm, task
from bench.dispatch.jobs import Array, Resources
from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine import env, putback
from bench.planning import memory
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.planning.resolve import resolve, specs_of
from bench.verbs import here
from results import store
from results.schema import from_json, to_json
from tests.reports import fakes

from .submitted import jobs_for
from .test_local import _jobs


def test_devices_are_named_by_number_among_those_that_are_seen() -> None:
    assert devices.chosen("all", 4) == (0, 1, 2, 3)
    assert devices.chosen("0,1,3", 4) == (0, 1, 3)
    assert devices.chosen("3,0,3", 4) == (3, 0), "each once, in the order given"


@pytest.mark.parametrize(("told", "count", "limited", "said"), [
    ("0,4", 4, False, "there is no GPU 4; this machine has GPUs 0 to 3"),
    ("1", 1, True, "GPU 0 alone that CUDA_VISIBLE_DEVICES leaves to see"),
    ("0", 0, False, "there is no GPU 0; this machine has no GPU"),
    ("0;1", 2, False, "takes all or numbers of GPUs, as in 0,1,3, not '0;1'"),
    ("-1", 2, False, "takes all or numbers"), ("", 2, False, "takes all or numbers")])
def test_a_gpu_that_is_not_there_is_refused(told: str, count: int, limited: bool, said: str) -> None:
    with pytest.raises(UsageError, match="devices") as caught:
        devices.chosen(told, count, limited)
    assert said in str(caught.value)


def test_the_next_run_gets_the_freest_gpu() -> None:
    places = devices.slots((0, 1, 3), 2)
    assert places == ("cuda:0", "cuda:1", "cuda:3", "cuda:0", "cuda:1", "cuda:3")
    taken: list[str] = []
    for _ in places:
        found = devices.free(places, taken)
        assert found is not None
        taken.append(found)
    assert taken == list(places), "one on each before a second on any"
    assert devices.free(places, taken) is None
    assert devices.free(places, [t for t in taken if t != "cuda:1"]) == "cuda:1"
    assert devices.free((), ["cpu"]) is None


@pytest.mark.parametrize(("need", "memory_gb", "cores", "gpus", "wanted"), [
    (None, 140, 64, 1, 1),  # unknown
    (6 * 2**30, 140, 64, 1, 4),  # 14 would fit, four are enough
    (6 * 2**30, 24, 64, 1, 2),  # 0.9 x 24 / (1.25 x 6 + 1) = 2.5
    (40 * 2**30, 24, 64, 1, 1),  # one is tried all the same
    (2**30, 140, 8, 4, 2), (2**30, 140, 2, 4, 1)])  # no more than cores to feed them
def test_runs_share_a_gpu_as_their_memory_allows(need: int | None, memory_gb: int, cores: int, gpus: int,
                                                 wanted: int) -> None:
    assert devices.fitting(need, memory_gb * 2**30, cores, gpus) == wanted


@pytest.mark.parametrize(("told", "seen"), [(None, ("0", "1")), ("3,5", ("3", "5")), ("GPU-aa,GPU-bb,7",
                                                                                      ("GPU-aa", "GPU-bb")), ("", ())])
def test_gpus_keep_the_names_that_the_variable_gives_them(told: str | None, seen: tuple[str, ...]) -> None:
    assert devices.names(2, told) == seen


def test_a_background_task_never_gets_a_gpu_that_does_not_exist() -> None:
    assert devices.shares(3, 1, ("4", "6")) == [("4",), ("6",), ("4",)]
    assert devices.shares(3, 2, ("0", "1", "2")) == [("0", "1")] * 3, "the odd one out stays unused"
    assert devices.shares(2, 0, ()) == [(), ()]
    for each, seen in ((3, ("0", "1")), (1, ())):
        with pytest.raises(UsageError, match="a task asks for"):
            devices.shares(1, each, seen)
    assert devices.at_once(8, 1, ("0", "1"), ["cuda"]) == 2
    assert devices.at_once(8, 0, (), ["cpu"]) == 8
    for each, device in ((0, "cuda"), (1, "cuda:1")):
        with pytest.raises(UsageError, match=f"the runs want {device} and a task asks for .*use --gpus"):
            devices.at_once(8, each, ("0", "1"), [device])


def _reporting(job: Job, root: Path, pipe: Connection) -> None:
    """A process that does nothing but say which device it was given, and leave while others are at work."""
    with (root / "given").open("a") as stream:
        stream.write(json.dumps([job.spec.seed, job.where.device]) + "\n")
    pipe.send(("outcome", "ok"))
    pipe.close()


def test_runs_spread_over_the_gpus_and_none_gets_more_than_its_share(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    some = [replace(job, where=replace(job.where, device="cuda")) for job in _jobs(tmp_path, ("linear",),
                                                                                   tuple(range(12)))]
    at_work: list[dict[str, int]] = []
    crew = local.Crew()

    def look(done: float, label: str) -> None:
        given = [one.job.where.device for one in crew.running.values()]
        at_work.append({device: given.count(device) for device in given})

    places = devices.slots((0, 2), 2)
    tally = run_all(some, tmp_path / "runs", Claims(tmp_path / "claims"), 1, look, _reporting, crew, places)
    given = [json.loads(line) for line in (tmp_path / "runs" / "given").read_text().splitlines()]
    assert tally.done == {"ok": 12} and sorted(seed for seed, _ in given) == list(range(12))
    assert {device for _, device in given} == {"cuda:0", "cuda:2"}
    assert max(n for seen in at_work for n in seen.values()) == 2
    assert any(seen == {"cuda:0": 2, "cuda:2": 2} for seen in at_work), "all places are used at once"
    assert not list((tmp_path / "claims").glob("*.claim"))


def test_a_task_of_several_gpus_puts_a_run_on_each(tmp_path: Path) -> None:
    on_gpu = [replace(job, where=replace(job.where, device="cuda")) for job in _jobs(tmp_path, ("linear",), (0,))]
    assert task.places_of(on_gpu, 3) == ("cuda:0", "cuda:1", "cuda:2")
    assert task.places_of(on_gpu, 1) == () and task.places_of(_jobs(tmp_path, ("linear",), (0,)), 3) == ()


def test_background_tasks_are_told_their_gpus_in_the_words_of_the_variable(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Each array of a submission begins with the next GPU, not with the first again."""
    from submitit.local.local import LocalExecutor

    given: list[task.Task] = []

    class Done:
        job_id = str(os.getpid())

    def submit(self: LocalExecutor, one: task.Task) -> Done:
        given.append(one)
        assert not self.parameters.get("visible_gpus"), "submitit would overwrite the variable with numbers from 0"
        return Done()

    monkeypatch.setattr(LocalExecutor, "submit", submit)
    monkeypatch.setattr(devices, "visible", lambda: ("GPU-a", "GPU-b", "GPU-c"))
    monkeypatch.setattr(jobs, "save", lambda submission: None)
    arrays = tuple(Array(n, f"a{n}", Resources(gpus=1), (("r",),) * count) for n, count in enumerate((2, 2)))
    made = jobs.Submission("s", tmp_path, "local", "", "demo", "", arrays)
    slurm._submit_local(made, tmp_path)
    assert [one.gpus for one in given] == [("GPU-a",), ("GPU-b",), ("GPU-c",), ("GPU-a",)]


def _typed(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"device": "auto", "devices": None, "per_device": None, "jobs": 0} | changes)


def test_the_words_of_the_command_become_places(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                                ) -> None:
    monkeypatch.setattr(devices, "visible", lambda: ("0", "1"))
    monkeypatch.setattr(devices, "look", lambda context: (devices.Gpu("a", 2**30), devices.Gpu("b", 2**33)))
    monkeypatch.setattr(here, "os", argparse.Namespace(environ={}, sched_getaffinity=lambda _: range(64)))
    monkeypatch.setattr(memory, "largest", lambda todo: 2**29)
    assert here.places_of(_typed(per_device=2), (), "cuda") == ("cuda:0", "cuda:1") * 2
    assert here.places_of(_typed(devices="1"), (), "cuda") == ("cuda:1",) * 4, "5 would fit: 7.2 GB of 1.6 GB"
    assert here.places_of(_typed(), (), "cuda") == ("cuda:0", "cuda:1"), "the smaller GPU decides"
    assert here.places_of(_typed(per_device=3, jobs=2), (), "cuda") == ("cuda:0", "cuda:1")
    assert here.places_of(_typed(), (), "cuda:1") == ("cuda:1",) and here.places_of(_typed(), (), "cpu") == ()
    assert "2 GPUs (0, 1), 2 runs at once on each" in capsys.readouterr().err
    for wrong in ({"devices": "0", "device": "cpu"}, {"per_device": 2, "device": "cpu"}, {"per_device": 0}):
        with pytest.raises(UsageError):
            here.places_of(_typed(**wrong), (), "cpu")


WRONG = [(["--devices", "wrong"], "--devices is"), (["--devices", "7"], "--devices is for GPUs"),
         (["--devices", ""], "--devices is for GPUs, and --device auto means cpu here; leave one out"),
         (["--per-device", "0"], "--per-device must be 1 or more, not 0"),
         (["--per-device", "2"], "--per-device is for GPUs"),
         (["--device", "cuda"], "there is no device 'cuda' here; this machine has cpu alone"),
         (["--device", "cuda:1"], "there is no device 'cuda:1' here"),
         (["--device", "gpu"], "takes auto, cpu, cuda or"),
         (["--device", "cuda:x"], "takes auto, cpu, cuda or one GPU such as cuda:1, not 'cuda:x'")]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_devices_are_refused_though_nothing_is_left_to_run(words: list[str], said: str, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (planned,) = make(Request(suite="demo", datasets=("svhn",), methods=("lora",), seeds=(0,)), tmp_path / "runs").runs
    store.save(fakes.record(planned.spec, 0.5), tmp_path / "runs")
    asked = ["--suite", "demo", "--datasets", "svhn", "--methods", "lora", "--seeds", "0"]
    assert cli.main(["run", *asked, "--no-report"]) == 0 and "nothing to run" in capsys.readouterr().out
    for verb in (["run", "--no-report"], ["run", "--dry-run"], ["tune", "--budget", "1"], ["curve"], ["ensemble"],
                 ["soup"], ["ladder", "--budget", "1"]):
        if verb[0] in ("ensemble", "soup") and words[0] != "--device":
            continue
        try:
            status = cli.main([*verb, *asked, *words])
        except SystemExit as error:  # argparse's own
            status = int(str(error.code))
        out, err = capsys.readouterr()
        assert status == 2 and out == "" and said in err, verb


def test_python_is_told_too_of_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="there is no device 'cuda' here"):
        door.run(suite="demo", datasets="svhn", methods="lora", device="cuda")


def test_the_largest_forecast_counts_and_an_unknown_one_is_unknown() -> None:
    def most(*methods: str) -> int | None:
        request = Request(suite="demo", datasets=("digits",), methods=methods, seeds=(0, 1), no_pretrained=True)
        return memory.largest(specs_of(request, resolve(request)))

    small, large = most("linear"), most("linear", "full")
    assert small is not None and large is not None and large > 2 * small
    assert most("linear", "lora+mars_sp") is None, "its step reads numbers"


def test_the_record_names_the_gpu_and_older_records_hold_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: asked.append(device) or f"Card {device}")
    made = env.provenance("cuda:1", False, "")
    assert (made.device, made.place) == ("Card cuda:1", "cuda:1") and env.provenance("cpu", True, "").place == ""
    (job,) = jobs_for(1)
    record = local.died(job, "failed", local.Failure("killed", "x", "train"))
    text = to_json(record)
    assert '"place"' not in text and from_json(text) == record
    on_gpu = local.died(replace(job, where=replace(job.where, device="cuda:1")), "failed", record.failure or
                        local.Failure("killed", "x", "train"))
    assert on_gpu.provenance.device == "cuda:1", "a process that is gone cannot say what it is called"
    there = replace(record, provenance=made)
    assert from_json(to_json(there)) == there and '"place": "cuda:1"' in to_json(there)


def test_a_run_may_go_on_on_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint holds the stream of the run's own GPU, whichever of them that is, and of no other."""
    stream = torch.arange(16, dtype=torch.uint8)
    put: list[torch.Tensor] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: stream)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put.append)
    putback.restore_random(putback.random_state())
    assert len(put) == 1 and torch.equal(put[0], stream)
