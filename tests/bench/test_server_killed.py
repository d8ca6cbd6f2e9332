"""kill -9 of the server that forks the runs: the runs live on, and what becomes of them is what is stored."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bench.dispatch.local import Crew, Job, run_all
from bench.dispatch.state import Claims
from bench.engine.where import Where
from results import store
from results.schema import Failure
from tests.reports import fakes

RUN = fakes.spec("svhn")


def _slow(job: Job, root: Path, pipe: Connection) -> None:
    """A run of a second or so: it says that it began, and ends when it is allowed to."""
    mark = root.parent / "began"
    mark.write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: (root.parent / "go").touch())
    until = time.monotonic() + 20
    while not (root.parent / "go").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    store.save(fakes.record(job.spec, 0.5), root)
    pipe.send(("outcome", "ok"))
    pipe.close()


def _after_the_server(tmp_path: Path, then: str) -> list[int]:
    """In a thread: kills the server once the run has begun, then lets the run go on, or kills it too."""
    statuses: list[int] = []
    mark = tmp_path / "began"
    while not mark.exists() or not mark.read_text():
        time.sleep(0.01)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    time.sleep(0.6)  # the runner has seen the end of the server by now
    statuses.append(len(list((tmp_path / "runs").rglob("*.json"))))
    if then == "go on":
        (tmp_path / "go").touch()
    else:
        os.kill(int(mark.read_text()), signal.SIGKILL)
    return statuses


def _run(tmp_path: Path, then: str, again: bool = False, crew: Crew | None = None):  # type: ignore[no-untyped-def]
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(_after_the_server(tmp_path, then)), daemon=True)
    thread.start()
    job = Job(RUN, {}, Where(tmp_path, None, None), again=again)
    claims = Claims(tmp_path / "claims")
    tally = run_all([job], tmp_path / "runs", claims, 1, lambda done, label: None, _slow, crew)
    thread.join(10)
    assert claims.living() == set()
    return tally, seen


def test_a_run_outlives_the_server_and_nothing_is_stored_before_its_end(tmp_path: Path) -> None:
    tally, seen = _run(tmp_path, "go on")
    assert seen == [0], "a failure was stored while the run lived"
    assert tally.done == {"ok": 1} and not tally.failures
    assert store.load(store.path_of(RUN, tmp_path / "runs")).status == "ok"


def test_a_run_that_dies_after_the_server_is_a_failure(tmp_path: Path) -> None:
    tally, seen = _run(tmp_path, "kill it")
    assert seen == [0] and tally.done == {"failed": 1}
    found = store.load(store.path_of(RUN, tmp_path / "runs"))
    assert found.failure is not None and found.failure.kind == "killed"
    assert "could not say how" in found.failure.message and tally.failures == [found]


def test_a_repetition_that_dies_leaves_the_result_and_is_told(tmp_path: Path) -> None:
    before = fakes.record(RUN, 0.7)
    path = store.save(before, tmp_path / "runs")
    tally, _ = _run(tmp_path, "kill it", again=True)
    assert tally.done == {"failed": 1} and [f.status for f in tally.failures] == ["failed"]
    assert store.load(path) == before


def test_a_stop_waits_for_a_run_whose_server_is_gone(tmp_path: Path) -> None:
    """The signal reaches it, and it is given the time to store where it stands."""
    crew, waited = Crew(), []

    def stop() -> None:
        mark = tmp_path / "began"
        while not mark.exists() or not mark.read_text():
            time.sleep(0.01)
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
        time.sleep(0.5)
        crew.stop(signal.SIGTERM, 10)
        waited.append(store.path_of(RUN, tmp_path / "runs").exists())

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    tally = run_all([Job(RUN, {}, Where(tmp_path, None, None))], tmp_path / "runs", Claims(tmp_path / "claims"), 1,
                    lambda done, label: None, _slow, crew)
    thread.join(10)
    assert waited == [True] and tally.done == {"ok": 1}


def test_an_interruption_ends_a_run_whose_server_is_gone(tmp_path: Path) -> None:
    def interrupt(done: float, label: str) -> None:
        mark = tmp_path / "began"
        if mark.exists() and mark.read_text():
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
            time.sleep(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([Job(RUN, {}, Where(tmp_path, None, None))], tmp_path / "runs", Claims(tmp_path / "claims"), 1,
                interrupt, _slow)
    pid = int((tmp_path / "began").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    assert not list((tmp_path / "runs").rglob("*.json"))
    (left,) = (tmp_path / "scratch").rglob("*.json")
    found = store.load(left).failure
    assert found == Failure("killed", "interrupted by the user", "train")
