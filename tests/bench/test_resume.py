"""A killed run goes on bit for bit: every part, every moment, whatever the disk does."""

from __future__ import annotations

import errno
import multiprocessing as mp
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine import checkpoint
from bench.engine.checkpoint import STOP, Checkpoints
from bench.engine.record import execute
from bench.engine.where import Where
from results import store
from results.schema import RunResult, RunSpec

from . import killing, tiny

METHODS = (
    "lora+pace", "lora+pace(variant='fast')", "lora+pace(variant='lazy_half')", "full+tpgm", "full+ftp",
    "lora+ugr(objective='rot')", "adapter+ugr(u_batch='disjoint')", "bitfit+wise", "full+l2sp", "full+tpgm_c",
    "lp_ft", "lst", "vpt_deep(prompts=2)", "ssf", "fact_tt", "convpass", "sherl", "adapter+ugr(u_batch='unlabelled')",
    "lora+spd", "full+ema", "lora+dare(points=2)", "lora+ldifs", "lp_ft+fsl2", "full+digrap",
)


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


class Killed(BaseException):
    """What `execute` does not catch: the process is gone."""


def same(a: RunResult, b: RunResult, root_a: Path, root_b: Path) -> None:
    """Everything but when, how long and how often."""
    assert (a.spec, a.status, a.metrics, a.history) == (b.spec, b.status, b.metrics, b.history)
    assert (a.params, a.memory, a.diagnostics, a.test_passes, a.dataset) == (
        b.params, b.memory, b.diagnostics, b.test_passes, b.dataset)
    assert [(x.kind, x.sha256) for x in a.artifacts if x.kind == "adapter"] == [
        (x.kind, x.sha256) for x in b.artifacts if x.kind == "adapter"]
    found = [np.load(store.path_of(r.spec, root).with_suffix(".npz")) for r, root in ((a, root_a), (b, root_b))]
    for name in found[0].files:
        assert np.array_equal(found[0][name], found[1][name]), name


def interrupted(spec: RunSpec, where: Where, root: Path, step: int) -> None:
    def kill(done: int, steps: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        execute(spec, {}, where, root, kill)
    assert not store.path_of(spec, root).exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_every_kind_goes_on_as_if_nothing_had_happened(method: str, tmp_path: Path) -> None:
    spec = tiny.spec(method)
    whole = execute(spec, {}, tiny.where(tmp_path / "a", checkpoints=None), tmp_path / "a" / "runs")
    assert whole.status == "ok", whole.failure
    where = tiny.where(tmp_path / "b")
    steps = random.Random(method).sample(range(2, 18), 2)
    for step in sorted(steps):
        interrupted(spec, where, tmp_path / "b" / "runs", step)
    resumed = execute(spec, {}, where, tmp_path / "b" / "runs")
    same(whole, resumed, tmp_path / "a" / "runs", tmp_path / "b" / "runs")
    assert [a.reason for a in resumed.attempts] == ["killed", "killed", "ok"]
    assert [a.resumed_from_step for a in resumed.attempts] == [0, *(s - 1 for s in sorted(steps))]
    assert not (tmp_path / "b" / "checkpoints" / spec.id).exists()


def test_the_same_run_without_its_checkpoint_would_differ(tmp_path: Path) -> None:
    """The comparison above can fail: a part that loses its memory gives other numbers."""
    spec = tiny.spec("lora+pace(variant='fast')")
    whole = execute(spec, {}, tiny.where(tmp_path / "a"), tmp_path / "a" / "runs")
    interrupted(spec, tiny.where(tmp_path / "b"), tmp_path / "b" / "runs", 9)
    (newest, _) = sorted((tmp_path / "b" / "checkpoints" / spec.id).glob("*.pt"), reverse=True)
    held = torch.load(newest, weights_only=True)
    held["state"]["parts"]["1"]["memory"].zero_()
    torch.save(held, newest)
    resumed = execute(spec, {}, tiny.where(tmp_path / "b"), tmp_path / "b" / "runs")
    assert resumed.attempts[-1].resumed_from_step == 8 and resumed.history != whole.history


# Twenty kills of a process, at random moments of training and of writing.

ONE_AT_A_TIME = threading.Lock()  # starting a process asks after all others, and an exit status can be read once only


def _in_a_process(context: Any, *words: Any) -> int:
    with ONE_AT_A_TIME:
        process = context.Process(target=killing.run, args=words)
        process.start()
    assert wait([process.sentinel], 60), "the run hangs"
    with ONE_AT_A_TIME:
        process.join()
        return int(process.exitcode)


def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["bench.dispatch.preload"])
    specs = [tiny.spec("lora+pace(variant='fast')", epochs=3), tiny.spec("full+tpgm", epochs=3)]
    whole = [execute(s, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "whole") for s in specs]
    dice = random.Random(7)
    moments = [dice.randint(3, 80) for _ in range(20)]

    def one(kill: int) -> int:
        n = kill % 2
        spec, where, root = specs[n], tiny.where(tmp_path / f"{kill}"), tmp_path / f"{kill}" / "runs"
        code = _in_a_process(context, spec, where, root, moments[kill])
        assert all(r.status == "ok" for r in store.load_all(root)), "a partial file is taken for a record"
        assert code == -signal.SIGKILL or (code == 0 and moments[kill] > 60)
        if code:
            assert _in_a_process(context, spec, where, root, -1) == 0
        (record,) = store.load_all(root)
        same(whole[n], record, tmp_path / "whole", root)
        return code

    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(one, range(20)))
    assert codes.count(-signal.SIGKILL) >= 15


def test_a_run_killed_again_and_again_still_ends(tmp_path: Path) -> None:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["bench.dispatch.preload"])
    spec, where, root = tiny.spec("lora+pace"), tiny.where(tmp_path), tmp_path / "runs"
    whole = execute(spec, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "whole")
    dice, kills = random.Random(3), 0
    while _in_a_process(context, spec, where, root, dice.randint(25, 60)):
        kills += 1
        assert kills < 20, "the run never gets anywhere"
    assert kills >= 2
    (record,) = store.load_all(root)
    same(whole, record, tmp_path / "whole", root)
    assert len(record.attempts) >= 3 and record.attempts[-1].resumed_from_step > 0


# What a checkpoint is not.

def test_at_most_two_checkpoints_are_kept(tmp_path: Path) -> None:
    spec = tiny.spec("linear")
    interrupted(spec, tiny.where(tmp_path), tmp_path / "runs", 11)
    files = sorted(p.name for p in (tmp_path / "checkpoints" / spec.id).iterdir())
    assert files == ["0000000009.pt", "0000000010.pt", "attempts.json"]


def test_a_short_run_writes_none(tmp_path: Path) -> None:
    spec = tiny.spec("linear")
    interrupted(spec, tiny.where(tmp_path, checkpoint_every_s=60.0), tmp_path / "runs", 11)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_can_follow_the_epochs(tmp_path: Path) -> None:
    spec = tiny.spec("linear")
    where = tiny.where(tmp_path, checkpoint_every_s=60.0, checkpoint_every_epochs=2)
    interrupted(spec, where, tmp_path / "runs", 19)
    assert sorted(p.stem for p in (tmp_path / "checkpoints" / spec.id).glob("*.pt")) == ["0000000008", "0000000016"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    spec, where = tiny.spec("lora"), tiny.where(tmp_path / "b")
    whole = execute(spec, {}, tiny.where(tmp_path / "a"), tmp_path / "a" / "runs")
    interrupted(spec, where, tmp_path / "b" / "runs", 11)
    newest = tmp_path / "b" / "checkpoints" / spec.id / "0000000010.pt"
    newest.write_bytes(newest.read_bytes()[:-2000])
    resumed = execute(spec, {}, where, tmp_path / "b" / "runs")
    assert resumed.attempts[-1].resumed_from_step == 9
    same(whole, resumed, tmp_path / "a" / "runs", tmp_path / "b" / "runs")


def test_a_checkpoint_of_other_code_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, where = tiny.spec("lora"), tiny.where(tmp_path)
    interrupted(spec, where, tmp_path / "runs", 11)
    monkeypatch.setattr(checkpoint, "_code_hash", lambda: "another")
    assert execute(spec, {}, where, tmp_path / "runs").attempts[-1].resumed_from_step == 0


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path: Path) -> None:
    spec, where = tiny.spec("lora"), tiny.where(tmp_path)
    folder = tmp_path / "checkpoints" / spec.id
    folder.mkdir(parents=True)
    torch.save({"key": Harm(tmp_path / "harm")}, folder / "0000000010.pt")
    assert execute(spec, {}, where, tmp_path / "runs").attempts[-1].resumed_from_step == 0
    assert not (tmp_path / "harm").exists()


class Harm:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_writing_checkpoints_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    saver = Checkpoints(tmp_path, "key", "start", every_s=60.0, _last=0.0, _noted=True)
    now[0] = 61.0
    assert saver.due()
    monkeypatch.setattr(store, "write_atomic", lambda path, write: now.__setitem__(0, now[0] + 5.0))
    assert saver.save(1, {})
    now[0] += 100.0
    assert not saver.due(), "5 seconds of writing buy 250 of training"
    now[0] += 151.0
    assert saver.due()


# Told to stop, or out of time.

@pytest.fixture
def stop_again() -> Iterator[None]:
    yield
    STOP.wanted = None


def test_a_preempted_run_is_stored_and_goes_on(tmp_path: Path, stop_again: None) -> None:
    spec, where, root = tiny.spec("lora+pace"), tiny.where(tmp_path, checkpoint_every_s=60.0), tmp_path / "runs"
    whole = execute(spec, {}, tiny.where(tmp_path), tmp_path / "whole")

    def preempt(step: int, steps: int) -> None:
        if step == 7:
            STOP.ask("preempted")

    first = execute(spec, {}, where, root, preempt)
    assert first.status == "preempted" and first.failure is not None
    assert (first.failure.kind, first.failure.step) == ("node", 7)
    assert first.test_passes == 0 and first.metrics == {}
    STOP.wanted = None
    second = execute(spec, {}, where, root)
    assert [(a.reason, a.resumed_from_step) for a in second.attempts] == [("preempted", 0), ("ok", 7)]
    same(whole, second, tmp_path / "whole", root)


def test_a_run_out_of_time_says_so_and_goes_on(tmp_path: Path) -> None:
    spec, where, root = tiny.spec("lora", epochs=12), tiny.where(tmp_path, time_limit_s=0.2), tmp_path / "runs"
    first = execute(spec, {}, where, root)
    assert first.status == "timeout"
    for _ in range(100):
        last = execute(spec, {}, where, root)
        if last.status == "ok":
            break
    whole = execute(spec, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "whole")
    same(whole, last, tmp_path / "whole", root)


# A full disk.

@pytest.mark.parametrize("name", ("fsync", "write", "replace"))
def test_a_full_disk_at_any_write_loses_nothing_finished(name: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th write fails, for every n until none is left: no record is lost or half, the run can be repeated."""
    finished, spec, root = tiny.spec("linear", epochs=1), tiny.spec("lora", epochs=1), tmp_path / "runs"
    before = execute(finished, {}, tiny.where(tmp_path, checkpoints=None), root)
    whole = execute(spec, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "whole")
    statuses = []
    for n in range(1, 60):
        with monkeypatch.context() as patch:
            count = _fail(patch, name, n)
            try:
                statuses.append(execute(spec, {}, tiny.where(tmp_path), root).status)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                statuses.append("not stored")
        held = {r.spec.id: r for r in store.load_all(root)}
        assert held[finished.id] == before
        if spec.id in held and held[spec.id].status == "ok":
            same(whole, held[spec.id], tmp_path / "whole", root)
        else:
            again = execute(spec, {}, tiny.where(tmp_path), root)
            same(whole, again, tmp_path / "whole", root)
        assert not [p for p in root.rglob("*") if p.name.startswith(".tmp-") or p.name.endswith(".part")]
        if count["n"] < n:
            break
        store.path_of(spec, root).unlink(missing_ok=True)
    assert count["n"] < n, "the last round must have met no error"
    assert "not stored" in statuses and "ok" in statuses  # a failed checkpoint is survived, a failed record is not


def _fail(patch: pytest.MonkeyPatch, name: str, n: int) -> dict[str, int]:
    """The n-th call of one kind says that the disk is full; `write` writes half of it first."""
    count = {"n": 0}

    def full() -> bool:
        count["n"] += 1
        return count["n"] == n

    if name == "fsync":
        fsync = os.fsync
        patch.setattr(os, "fsync", lambda handle: _no_space() if full() else fsync(handle))
    elif name == "replace":
        rename = Path.replace
        patch.setattr(Path, "replace", lambda self, to: _no_space() if full() else rename(self, to))
    else:
        atomic = store.write_atomic

        def writing(path: Path, write: Any, over: bool = True) -> None:
            def half(temporary: Path) -> None:
                write(temporary)
                if full():
                    whole = temporary.read_bytes()
                    temporary.write_bytes(whole[:len(whole) // 2])
                    _no_space()

            atomic(path, half, over)

        patch.setattr(store, "write_atomic", writing)
    return count


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_for_artifacts_alone_is_the_machines_fault(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _fail(patch, "fsync", 1)
        record = execute(tiny.spec("linear", epochs=1), {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
    assert record.status == "failed" and record.failure is not None
    assert (record.failure.kind, record.failure.message) == ("node", "the disk is full")
    assert replace(record.failure, step=None).traceback == ""
