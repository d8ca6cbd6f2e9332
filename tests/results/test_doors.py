"""What lies where an own file should lie is no file: every reader says so, or does without, and none waits for ever."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from bench.dispatch import jobs
from bench.dispatch.state import Claims
from bench.dispatch.survey import last_line
from reports.answered import FILE, Answered
from reports.kept import NOTE, kept
from results import evidence, index, packs, selections, store
from results.schema import RecordError
from results.suites import amending, load_suites
from tests.reports import fakes

PACK = store.ROOT / "reference" / "memory"


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


ODD: dict[str, Callable[[Path], object]] = {
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "link to a folder": lambda path: path.symlink_to("."),
    "huge": _huge,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
}
NO_LOCK = sorted(ODD.keys() - {"huge"})  # nobody reads a lock, it may be of any size
SUBMISSION = jobs.Submission("one", Path(), "slurm", "2026-01-01T00:00:00Z", "memory", "", ())


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Who waits is interrupted."""

    def over(signum: int, frame: FrameType | None) -> None:
        raise AssertionError("a reader waits for ever")  # no OSError, which readers take for an answer

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=sorted(ODD))
def put(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Puts something odd in a file's place."""

    def change(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        ODD[request.param](path)
        return path

    return change


def _records(root: Path) -> list[Path]:
    specs = [fakes.spec("cifar100", seed=seed) for seed in range(3)]
    for spec in specs:
        fakes.store(root, fakes.record(spec, 0.5))
    return [store.path_of(spec, root) for spec in specs]


def test_a_record(put: Callable[[Path], Path], tmp_path: Path) -> None:
    path = put(_records(tmp_path)[1])
    with pytest.raises(RecordError, match=rf"^{re.escape(path.name)}: cannot be read \(\w+\)$"):
        store.load(path)
    found: list[RecordError] = []
    assert len(index.read(tmp_path, on_error=found.append)) == 2
    assert len(found) == 1 and str(found[0]).startswith(f"cifar100/{path.name}: cannot be read (")


def test_the_caches_of_a_folder_of_records(put: Callable[[Path], Path], tmp_path: Path) -> None:
    _records(tmp_path)
    put(tmp_path / index.INDEX)
    assert index.load_index(tmp_path) is None and len(index.read(tmp_path)) == 3
    put(tmp_path / FILE)
    assert Answered(tmp_path, "code").known == {}


def test_the_note_of_what_was_built(put: Callable[[Path], Path], tmp_path: Path) -> None:
    put(tmp_path / NOTE)
    note = kept(tmp_path)
    assert note.notes == {}
    note.put("memory", "key", "section", {})  # nothing to keep it in, or in its place
    put(tmp_path / "table.csv")
    assert kept(tmp_path).section("memory", "key") in (None, "section")
    note.put("memory", "key", "section", {"table.csv": "1,2\n"})
    assert note.section("memory", "key") is None


@pytest.mark.parametrize("name", [packs.RECORDS, packs.FILES])
def test_a_pack(name: str, put: Callable[[Path], Path], tmp_path: Path) -> None:
    root = tmp_path / "memory"
    shutil.copytree(PACK, root)
    record = store.load(store.record_files(root)[0])
    path = store.path_of(record.spec, root)
    put(root / name)
    if name == packs.RECORDS:
        for read in (store.record_files, index.read):
            with pytest.raises(RecordError, match=rf"^memory/{name}: cannot be read \(\w+\)$"):
                read(root)
    with pytest.raises(evidence.PredictionError, match=r"^cannot be read \(\w+\)$"):
        evidence.read_file(path.with_suffix(".npz"))


def test_suites_and_selections(put: Callable[[Path], Path], tmp_path: Path) -> None:
    path = put(tmp_path / "suite.json")
    with pytest.raises(RecordError, match=rf"^{path.name}: cannot be read \("):
        load_suites(tmp_path)
    for load in (selections.load_selection, selections.load_trials):
        place = put(tmp_path / ("s.json" if load is selections.load_selection else "s.trials.json"))
        with pytest.raises(RecordError, match=rf"^selections/{place.name}: cannot be read \("):
            load("s", tmp_path)


def _locks(folder: Path) -> list[Callable[[], AbstractContextManager[None]]]:
    return [partial(amending, folder), partial(jobs.locked, folder), Claims(folder)._locked]


@pytest.mark.parametrize("kind", NO_LOCK)
def test_a_lock(kind: str, tmp_path: Path) -> None:
    ODD[kind](tmp_path / ".lock")
    for lock in _locks(tmp_path):
        with pytest.raises(RecordError, match=r"/\.lock: is no regular file and cannot be locked; remove it$"), lock():
            pass


def test_a_lock_that_is_a_file_is_one(tmp_path: Path) -> None:
    for lock in _locks(tmp_path):
        with lock():
            pass
        assert (tmp_path / ".lock").is_file()


@pytest.mark.parametrize("name", ["submission.json", "cancelled"])
def test_a_submission(name: str, put: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    jobs.save(replace(SUBMISSION, folder=folder))
    assert jobs.read(folder).suite == "memory"
    put(folder / name)
    with pytest.raises(RecordError, match=r"^one/submission.json: cannot be read \(.*; remove the folder to forget"):
        jobs.read_all(tmp_path)


def test_runs_signs_of_life_and_logs(put: Callable[[Path], Path], tmp_path: Path) -> None:
    put(tmp_path / "runs.jsonl")
    for read in (jobs.roots_of, jobs.jobs_of):
        with pytest.raises(RecordError, match=r"^one/runs.jsonl: cannot be read \("):
            read(replace(SUBMISSION, folder=tmp_path))
    assert jobs.read_beat(put(jobs.beat_path(tmp_path, 0, 0))) is None
    assert last_line(put(tmp_path / "log.err")) == ""
