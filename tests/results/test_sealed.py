"""No byte of a cache can change unseen, its names and counts as little as its numbers; damage counts as no cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.answered import FILE, Answered
from reports.kept import NOTE, Kept, kept
from results import index, store
from results.schema import RecordError
from tests.reports import fakes

TABLE = "a,b\n1,2\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in range(3):
        fakes.store(tmp_path, fakes.record(fakes.spec("cifar100", seed=seed), 0.5 + 0.1 * seed))
    return tmp_path


def _each_byte(path: Path, is_none: Callable[[], bool]) -> None:
    """Changes the bytes of a file one by one, every one of the first thousand and every seventh of the others."""
    whole = path.read_bytes()
    assert not is_none()
    for at in [*range(min(1000, len(whole))), *range(1000, len(whole), 7)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        assert is_none(), f"byte {at} of {len(whole)}: {whole[at - 20:at + 20]!r}"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        assert is_none(), f"cut at {size}"
    path.write_bytes(whole + b"\0")
    assert is_none()


def test_every_byte_of_the_index_counts(root: Path) -> None:
    index.read(root)
    _each_byte(root / index.INDEX, lambda: index.load_index(root) is None)


def test_columns_cannot_change_their_names(root: Path) -> None:
    """Top-1 and another number, the one for the other, in the head alone."""
    for record in store.record_files(root):
        os.utime(record, (1e9, 1e9))
    true = index.read(root)
    path = root / index.INDEX
    content = path.read_bytes()
    one, other = b'"metrics.test.top1"', b'"metrics.test.n"'
    assert content.count(one) == content.count(other) == 1
    path.write_bytes(content.replace(one, b"<one>").replace(other, one).replace(b"<one>", other))
    again = index.read(root)
    assert list(again.number["metrics.test.top1"]) == list(true.number["metrics.test.top1"]) == [0.5, 0.6, 0.7]


def test_every_byte_of_the_answers_counts(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1e9, 1e9))
    first = Answered(tmp_path, "code")
    for name in ("a.npz", "b.npz"):
        first.of(name, lambda: ("items", np.array([True, False, True])))
    first.save()
    _each_byte(tmp_path / FILE, lambda: Answered(tmp_path, "code").known == {})


def _noted(folder: Path) -> Kept:
    (folder / "t.csv").write_text(TABLE)
    note = kept(folder)
    note.put("vtab", "key", "## VTAB", {"t.csv": TABLE})
    return note


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "section": lambda note: note.update(section="## VTAB, better"),
    "section a list": lambda note: note.update(section=[]),
    "no section": lambda note: note.pop("section"),
    "no seal": lambda note: note.pop("sha256"),
    "a file less": lambda note: note.update(files={}),
    "a file more": lambda note: note["files"].update({"u.csv": "0"}),
    "a name with NUL": lambda note: note["files"].update({"t\0.csv": "0"}),
    "a name that leads out": lambda note: note["files"].update({"../t.csv": "0"}),
    "files a list": lambda note: note.update(files=["t.csv"]),
    "files a number": lambda note: note.update(files=3),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_note_of_what_was_built_counts_as_none(change: str, tmp_path: Path) -> None:
    _noted(tmp_path)
    whole = kept(tmp_path)
    assert whole.section("vtab", "key") == "## VTAB" and whole.files("vtab") == {"t.csv"}
    body = json.loads((tmp_path / NOTE).read_text())
    CHANGES[change](body["vtab"])
    (tmp_path / NOTE).write_text(json.dumps(body))
    assert kept(tmp_path).section("vtab", "key") is None and kept(tmp_path).files("vtab") == set()
    assert _noted(tmp_path).section("vtab", "key") == "## VTAB"


def test_a_note_counts_for_its_own_suite_alone(tmp_path: Path) -> None:
    _noted(tmp_path)
    body = json.loads((tmp_path / NOTE).read_text())
    (tmp_path / NOTE).write_text(json.dumps({"fgvc": body["vtab"]}))
    assert kept(tmp_path).section("fgvc", "key") is None


@pytest.mark.parametrize("note", [b"\xff", b"[" * 100_000, b'{"vtab": ' * 900 + b"1" + b"}" * 900, b'{"vtab": 3}'])
def test_a_note_that_is_none(note: bytes, tmp_path: Path) -> None:
    (tmp_path / NOTE).write_bytes(note)
    assert kept(tmp_path).section("vtab", "key") is None and kept(tmp_path).files("vtab") == set()


def _bytes_named(root: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(root) + b"/" + name))


def test_names_that_are_no_utf_8_leave_the_records_without_a_cache(root: Path) -> None:
    plain = index.read(root, index=False).number["metrics.test.top1"]
    (root / "cifar100").rename(_bytes_named(root, b"cifar\xff"))
    assert index.read(root).number["metrics.test.top1"] == plain
    assert not (root / index.INDEX).exists()


def test_predictions_whose_names_are_no_utf_8_are_seen(root: Path) -> None:
    path = store.record_files(root)[0]
    beside = _bytes_named(path.parent, os.fsencode(path.name.removesuffix("json")) + b"\xff.npz")
    before = dict(index._scan(root))
    beside.write_text("x")
    after = dict(index._scan(root))
    assert [name for name in after if after[name] != before[name]] == [f"cifar100/{path.name}"]


def test_a_name_of_two_lines_does_not_shift_the_others(root: Path) -> None:
    (root / "cifar100").rename(root / "cifar\n100")
    first, second = index.read(root), index.read(root)
    assert first.text == second.text and all("\n" in path for path in first.text["path"])


def test_what_is_said_of_a_file_whose_name_is_no_utf_8_can_be_written(tmp_path: Path) -> None:
    place = _bytes_named(tmp_path, b"cifar\xff")
    place.mkdir()
    (place / "lora-x-s0-0123456789ab.json").write_text("{")
    found: list[RecordError] = []
    index.read(tmp_path, on_error=found.append)
    assert len(found) == 1 and str(found[0]).encode().startswith(rb"cifar\udcff/lora-x-s0-0123456789ab.json: ")
    with pytest.raises(RecordError, match=r"^cifar\\udcff/"):
        index.read(tmp_path)
