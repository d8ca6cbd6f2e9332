"""Many runs on one machine: isolation, claims, kills. Runs are real but tiny (random weights, digits, one epoch)."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bench.dispatch import local
from bench.dispatch.local import Crew, Job, run_all
from bench.dispatch.state import STALE_S, Claims
from bench.engine.where import Where
from bench.planning.request import Request
from bench.planning.resolve import resolve, specs_of
from results import store
from results.schema import RunSpec

ROOT = Path(__file__).resolve().parents[2]


def _jobs(tmp_path: Path, methods: tuple[str, ...], seeds: tuple[int, ...], epochs: int = 1) -> list[Job]:
    request = Request(suite="demo", datasets=("digits",), methods=methods, seeds=seeds, epochs=epochs, batch_size=32,
                      no_pretrained=True)
    where = Where(tmp_path / "data", tmp_path / "cache", None)
    return [Job(p.spec, p.passed, where) for p in specs_of(request, resolve(request))]


def _numbers(spec: RunSpec, root: Path) -> dict[str, float | None]:
    return store.load(store.path_of(spec, root)).metrics


def test_runs_are_stored_once_and_equal_whoever_runs_them(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, ("linear", "lora"), (0,))
    for name in ("a", "b"):
        tally = run_all(jobs, tmp_path / name, Claims(tmp_path / f"{name}-claims"), 2, lambda done, label: None)
        assert tally.done == {"ok": 2} and not tally.failures
    for job in jobs:
        assert _numbers(job.spec, tmp_path / "a") == _numbers(job.spec, tmp_path / "b")
    again = run_all(jobs, tmp_path / "a", Claims(tmp_path / "a-claims"), 2, lambda done, label: None)
    assert again.done == {} and again.elsewhere == 2
    assert not list((tmp_path / "a-claims").glob("*.claim"))


def test_a_run_whose_process_is_killed_leaves_a_record_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, ("full",), (0, 1), epochs=200)
    quick = _jobs(tmp_path, ("linear",), (0,))
    claims = Claims(tmp_path / "claims")
    killed: list[int] = []

    def kill_both_long_ones(done: float, label: str) -> None:
        import multiprocessing as mp

        children = [c for c in mp.active_children() if c.pid not in killed]
        if done > 0.005 and children and len(killed) < 2 and children[0].pid:
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)

    tally = run_all([*jobs, *quick], tmp_path / "runs", claims, 1, kill_both_long_ones)
    assert tally.done == {"failed": 2, "ok": 1}
    record = store.load(store.path_of(jobs[0].spec, tmp_path / "runs"))
    assert record.status == "failed" and record.failure is not None and record.failure.kind == "killed"
    assert "SIGKILL" in record.failure.message
    assert record.test_passes == 0 and record.metrics == {}


def _at_once(job: Job, root: Path, pipe: Connection) -> None:
    pipe.send(("outcome", "ok"))
    pipe.close()


def test_processes_whose_runs_are_over_hold_no_files_open(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, ("linear",), tuple(range(40)))
    files: list[int] = []
    tally = run_all(jobs, tmp_path / "runs", Claims(tmp_path / "claims"), 1,
                    lambda done, label: files.append(len(list(Path("/proc/self/fd").iterdir()))), child=_at_once)
    assert tally.done == {"ok": 40}
    assert max(files) - min(files) < 20


def _unstorable(job: Job, root: Path, pipe: Connection) -> None:
    """The first seed's run ends and cannot be stored; the others take longer, and can."""
    if job.spec.seed == 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    time.sleep(2)
    (root / f"ended-{job.spec.seed}").touch()
    pipe.send(("outcome", "ok"))
    pipe.close()


def test_a_full_disk_names_the_run_that_is_lost_and_lets_the_others_end(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".tmp-x"))

    monkeypatch.setattr(store, "save", full)
    (tmp_path / "runs").mkdir()
    jobs, crew = _jobs(tmp_path, ("linear",), (0, 1, 2)), Crew()
    with pytest.raises(OSError, match=r"No space left on device, so nothing is stored of digits linear seed 0$"):
        run_all(jobs, tmp_path / "runs", Claims(tmp_path / "claims"), 2, lambda done, label: None, _unstorable, crew)
    assert crew.tally.ended == {jobs[1].spec.id: "ok"}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["ended-1"]
    assert not list((tmp_path / "claims").glob("*.claim"))


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.bench.test_local import _jobs
from bench.dispatch.local import run_all
from bench.dispatch.state import Claims
if __name__ == "__main__":
    tmp = Path({tmp!r})
    run_all(_jobs(tmp, ("full",), (0,), epochs=400), tmp / "runs", Claims(tmp / "claims"), 1, lambda d, l: None)
"""


def test_a_killed_runner_takes_its_runs_with_it_and_its_claims_expire(tmp_path: Path) -> None:
    script = tmp_path / "runner.py"
    script.write_text(RUNNER.format(root=str(ROOT), tmp=str(tmp_path)))
    (spec,) = [j.spec for j in _jobs(tmp_path, ("full",), (0,), epochs=400)]
    claims = Claims(tmp_path / "claims")
    runner = subprocess.Popen([sys.executable, str(script)], cwd=ROOT)
    try:
        _until(lambda: claims.alive(spec.id))
        assert not claims.take(spec.id)
        _until(lambda: bool(_children(runner.pid)))
        children = _children(runner.pid)
    finally:
        runner.kill()
        runner.wait()
    assert not claims.alive(spec.id)
    assert claims.take(spec.id)
    _until(lambda: not any(_lives(c) for c in children))
    assert not store.path_of(spec, tmp_path / "runs").exists()


STOPPED = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.bench.test_local import _jobs
from bench.dispatch.local import run_all
from bench.dispatch.state import Claims
if __name__ == "__main__":
    tmp = Path({tmp!r})
    (job,) = _jobs(tmp, ("full",), (0,), epochs=400)
    job = replace(job, where=replace(job.where, checkpoints=tmp / "checkpoints", checkpoint_every_s=3600.0))
    run_all([job], tmp / "runs", Claims(tmp / "claims"), 1, lambda d, l: d > 0.02 and print("at work", flush=True))
"""


def test_ctrl_c_stores_where_the_run_stands_and_leaves_no_finding(tmp_path: Path) -> None:
    """No checkpoint is due for an hour: the only one is that of the interruption."""
    script = tmp_path / "runner.py"
    script.write_text(STOPPED.format(root=str(ROOT), tmp=str(tmp_path)))
    (spec,) = [j.spec for j in _jobs(tmp_path, ("full",), (0,), epochs=400)]
    runner = subprocess.Popen([sys.executable, str(script)], cwd=ROOT, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert runner.stdout is not None and runner.stdout.readline() == b"at work\n"
        os.killpg(runner.pid, signal.SIGINT)  # as a terminal does: to the runner and to its runs
        runner.communicate(timeout=120)
    finally:
        runner.kill()
        runner.wait()
    (stored,) = (tmp_path / "checkpoints" / spec.id).glob("*.pt")
    assert int(stored.stem) > 0
    assert not store.path_of(spec, tmp_path / "runs").exists()
    record = store.load(store.path_of(spec, tmp_path / "scratch"))
    assert record.status == "cancelled" and record.failure is not None
    assert record.failure.step == int(stored.stem) and "the same command goes on" in record.failure.message
    assert not list((tmp_path / "claims").glob("*.claim"))


def test_a_claim_of_another_machine_expires_when_it_is_not_touched(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.path("x").write_text(json.dumps({"host": "another", "pid": 1, "born": "1"}))
    assert claims.alive("x") and not claims.take("x")
    past = time.time() - STALE_S - 1
    os.utime(claims.path("x"), (past, past))
    assert not claims.alive("x") and claims.take("x")


def test_a_reused_process_number_does_not_keep_a_claim_alive(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.take("x")
    held = json.loads(claims.path("x").read_text())
    claims.path("x").write_text(json.dumps(held | {"born": "1"}))
    assert not claims.alive("x")


@pytest.mark.parametrize("text", ("", "{", "[]", '{"host": 1}'))
def test_a_claim_that_cannot_be_read_is_a_dead_one(text: str, tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.path("x").write_text(text)
    assert not claims.alive("x")
    claims.sweep()
    assert not claims.path("x").exists()


def _until(true, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """Every descendant's process number."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(path.parent.name), *_children(int(path.parent.name))]
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_ends_before_it_starts_a_run_is_one_sentence_that_names_the_run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(local, "_start", ended)
    jobs = _jobs(tmp_path, ("linear",), (0, 1))
    claims = Claims(tmp_path / "claims")
    tally = run_all(jobs, tmp_path / "runs", claims, 1, lambda done, label: None)
    assert tally.done == {"failed": 2} and claims.living() == set()
    for job, found in zip(jobs, tally.failures, strict=True):
        assert found == store.load(store.path_of(job.spec, tmp_path / "runs")) and found.failure is not None
        assert found.failure.kind == "killed" and "ended before it could start this one" in found.failure.message
