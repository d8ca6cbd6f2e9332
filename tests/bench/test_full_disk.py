"""A full disk at every other write: suites, trials, selections, tables, the index, decoded images, claims.

Records, predictions, weights and checkpoints are in test_resume.py, within a whole run. Everywhere: what was finished
stays as it was, nothing half-written bears a finished name, and the same call works once there is room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.dispatch.state import Claims
from bench.engine import cache
from bench.engine.cache import ImageCache
from datasets.card import Item
from reports.leaderboard import put
from results import index, selections, store
from results.suites import Column, save_suite
from tests.reports import fakes

COLUMN = Column("svhn", "SVHN", "natural", True, 10)
SUITE = fakes.suite([fakes.spec("svhn")], (COLUMN,), ["lora"])
STUDY = selections.Study("lora", fakes.BACKBONE, ("svhn",), selections.Effort(2, "tpe", 0, (0,)), {"lr": "1 to 2"}, ())

# Each writes one of two contents into a folder and says where.
WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "record": lambda folder, n: store.save(fakes.record(fakes.spec("svhn"), 0.5 + 0.1 * n), folder),
    "suite": lambda folder, n: save_suite(replace(SUITE, note=f"note {n}"), folder),
    "trials": lambda folder, n: selections.save_trials(selections.Trials("demo", (STUDY,) * n), folder),
    "selection": lambda folder, n: selections.save_selection(selections.Selection("demo", (), schema=n), folder),
    "table": lambda folder, n: put(folder / "LEADERBOARD.md", f"# Table {n}\n"),
}


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _half(self: Path, data: Any, *rest: Any, **words: Any) -> int:
    """As when the disk fills up in the middle: half of it is there, then the error."""
    with self.open("w" if isinstance(data, str) else "wb") as stream:
        stream.write(data[:len(data) // 2])
    _full()
    return 0


@pytest.fixture(params=("write", "fsync", "rename"))
def fill(request: pytest.FixtureRequest) -> Callable[[pytest.MonkeyPatch], None]:
    """Makes every write of this kind fail."""
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        if request.param == "write":
            monkeypatch.setattr(Path, "write_text", _half)
        elif request.param == "fsync":
            monkeypatch.setattr(os, "fsync", _full)
        else:
            monkeypatch.setattr(Path, "replace", _full)

    return patch


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_file_that_cannot_be_written_leaves_the_one_before(kind: str, tmp_path: Path,
                                                             fill: Callable[[pytest.MonkeyPatch], None],
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    write = WRITERS[kind]
    path = write(tmp_path, 1)
    before = _content(tmp_path)
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path, 2)
    assert _content(tmp_path) == before
    assert write(tmp_path, 2) == path and _content(tmp_path) != before


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_first_file_that_cannot_be_written_leaves_none(kind: str, tmp_path: Path,
                                                         fill: Callable[[pytest.MonkeyPatch], None],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(OSError, match="No space left"):
            WRITERS[kind](tmp_path, 1)
    assert not _content(tmp_path)
    assert WRITERS[kind](tmp_path, 1).exists()


@pytest.mark.parametrize("how", ("write", "fsync", "rename"))
def test_an_index_that_cannot_be_written_changes_no_column(how: str, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.store(tmp_path, fakes.record(fakes.spec("svhn"), 0.5))
    index.read(tmp_path)
    before = (tmp_path / index.INDEX).read_bytes()
    fakes.store(tmp_path, fakes.record(fakes.spec("dtd"), 0.6))
    with monkeypatch.context() as patch:
        if how == "write":
            atomic = index.write_atomic
            patch.setattr(index, "write_atomic", lambda path, write: atomic(
                path, lambda temporary: _half(temporary, b"half of an index")))
        else:
            patch.setattr(*((os, "fsync", _full) if how == "fsync" else (Path, "replace", _full)))
        assert list(index.read(tmp_path).number["metrics.test.top1"]) == [0.6, 0.5]
    assert (tmp_path / index.INDEX).read_bytes() == before and not list(tmp_path.glob(".tmp-*"))
    assert len(index.read(tmp_path)) == 2 and (tmp_path / index.INDEX).read_bytes() != before


@pytest.fixture
def items(tmp_path: Path) -> Iterator[list[Item]]:
    from PIL import Image

    path = tmp_path / "images" / "one.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(path)
    yield [Item(path, 0)]


@pytest.mark.parametrize("how", ("write", "rename"))
def test_decoded_images_that_cannot_be_kept_leave_no_part(how: str, items: list[Item], tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        if how == "write":
            def half(stream: Any, array: Any) -> None:
                stream.write(array.tobytes()[:50])
                _full()

            patch.setattr(cache.np, "save", half)
        else:
            patch.setattr(Path, "replace", _full)
        found = ImageCache(folder).pixels("train", items, 8)  # costs time, never a run
        assert found is not None and np.array_equal(found[0, :, 0, 0], [10, 20, 30])
    assert not list(folder.glob("*.npy")) and not list(folder.glob(".tmp-*"))
    found = ImageCache(folder).pixels("train", items, 8)
    assert found is not None and np.array_equal(found[0, :, 0, 0], [10, 20, 30])
    assert len(list(folder.glob("*.npy"))) == 1


def test_a_claim_that_is_half_written_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(tmp_path)
    assert claims.take("finished")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", _half)
        with pytest.raises(OSError, match="No space left"):
            claims.take("run")
    assert claims.living() == {"finished"}
    assert claims.take("run") and claims.living() == {"finished", "run"}
    claims.sweep()
    assert claims.living() == {"finished", "run"}
