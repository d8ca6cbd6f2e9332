"""What is stored stays: a failure never takes the place of a result, whoever writes at the same moment."""

from __future__ import annotations

import fcntl
import multiprocessing as mp
import os
from pathlib import Path
from typing import Any

import pytest

from results import store
from results.schema import Failure
from tests.reports import fakes

RUN = fakes.spec("svhn")
KILLED = fakes.record(RUN, None, status="failed", failure=Failure("killed", "by signal SIGKILL", "train"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def _no_lock(*_: Any) -> None:
    raise OSError("no locks available")


@pytest.fixture(params=("locks", "no locks"))
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file system that has locks and one that has none."""
    if request.param == "no locks":
        monkeypatch.setattr(fcntl, "flock", _no_lock)


def test_a_failure_that_comes_to_lie_on_a_result_goes_to_scratch(root: Path, locks: None) -> None:
    path = store.save(fakes.record(RUN, 0.5), root)
    before = path.read_bytes()
    aside = store.save(KILLED, root)
    assert path.read_bytes() == before
    assert aside == root.parent / "scratch" / "svhn" / path.name and store.load(aside) == KILLED
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_result_takes_the_place_of_a_failure_and_of_a_result(root: Path, locks: None) -> None:
    path = store.save(KILLED, root)
    assert store.load(path) == KILLED
    for top1 in (0.5, 0.6):
        assert store.save(fakes.record(RUN, top1), root) == path
        assert store.load(path).metrics["test.top1"] == top1


def test_a_failure_takes_the_place_of_a_failure_and_of_what_is_no_record(root: Path) -> None:
    path = store.save(KILLED, root)
    later = fakes.record(RUN, None, status="oom", failure=Failure("memory", "out of memory", "train"))
    assert store.save(later, root) == path and store.load(path) == later
    path.write_text("{")
    assert store.save(KILLED, root) == path and store.load(path) == KILLED


@pytest.mark.parametrize("lock", (True, False))
def test_a_result_that_appears_between_the_look_and_the_store_stays(root: Path, lock: bool,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process stores its result exactly then: it waits for the lock, or its file is not overwritten."""
    result = fakes.record(RUN, 0.5)
    other = mp.get_context("fork").Process(target=store.save, args=(result, root))
    real = store._is_result

    def looking(path: Path) -> bool:
        found = real(path)
        if other.pid is None:
            other.start()
            other.join(0.5 if lock else 10)
        return found

    if not lock:
        monkeypatch.setattr(fcntl, "flock", _no_lock)
    monkeypatch.setattr(store, "_is_result", looking)
    store.save(KILLED, root)
    other.join(10)
    assert other.exitcode == 0
    assert store.load(store.path_of(RUN, root)) == result


def _storm(root: Path, number: int) -> None:
    for turn in range(25):
        store.save(KILLED if (number + turn) % 2 else fakes.record(RUN, 0.5), root)


def test_many_writers_never_lose_a_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    store.save(fakes.record(RUN, 0.5), root)
    crowd = [mp.get_context("fork").Process(target=_storm, args=(root, n)) for n in range(4)]
    for one in crowd:
        one.start()
    while any(one.is_alive() for one in crowd):
        assert store.load(store.path_of(RUN, root)).status == "ok"
    for one in crowd:
        one.join()
        assert one.exitcode == 0
    assert not list(root.rglob(".tmp-*"))
