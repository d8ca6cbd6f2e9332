"""What runs got right is kept as bits beside the records: the same answers, and never those of a file that changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from reports.answered import FILE, Answer, Answered
from reports.squares import squares
from tests.reports.conftest import Zoo
from tests.reports.test_leaderboard import build


def reader(correct: list[bool], calls: list[int]) -> Callable[[], Answer]:
    def read() -> Answer:
        calls.append(1)
        return "items", np.array(correct)
    return read


def made(root: Path, name: str, text: str = "x", age: float = 100) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))


@pytest.mark.parametrize("n", [2, 7, 8, 9, 1000])
def test_answers_come_back_bit_for_bit_and_the_file_is_not_read_again(n: int, tmp_path: Path) -> None:
    made(tmp_path, "a/b.npz")
    right, calls = list(np.random.default_rng(n).random(n) < 0.6), list[int]()
    first = Answered(tmp_path, "code")
    assert first.of("a/b.npz", reader(right, calls))[1].tolist() == right
    first.save()
    items, correct = Answered(tmp_path, "code").of("a/b.npz", reader(right, calls))
    assert items == "items" and correct.dtype == np.bool_ and correct.tolist() == right and len(calls) == 1


def test_a_file_that_changed_or_is_young_or_another_program_s_cache_is_read_again(tmp_path: Path) -> None:
    calls: list[int] = []
    made(tmp_path, "a.npz")
    made(tmp_path, "young.npz", age=0)
    first = Answered(tmp_path, "code")
    for name in ("a.npz", "young.npz"):
        first.of(name, reader([True, False], calls))
    first.save()
    assert len(calls) == 2
    Answered(tmp_path, "code").of("young.npz", reader([True, False], calls))
    Answered(tmp_path, "other").of("a.npz", reader([True, False], calls))
    assert len(calls) == 4
    made(tmp_path, "a.npz", "longer")
    assert Answered(tmp_path, "code").of("a.npz", reader([False, False], calls))[1].tolist() == [False, False]
    assert len(calls) == 5


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\xff\x00", b"[" * 100_000 + b"\n"])
def test_a_damaged_cache_counts_as_none(damage: bytes, tmp_path: Path) -> None:
    calls: list[int] = []
    made(tmp_path, "a.npz")
    first = Answered(tmp_path, "code")
    first.of("a.npz", reader([True, False], calls))
    first.save()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(damage or whole[:-1] + bytes([whole[-1] ^ 64]))
    assert Answered(tmp_path, "code").of("a.npz", reader([True, False], calls))[1].tolist() == [True, False]
    assert len(calls) == 2


def test_tables_are_the_same_with_and_without_the_caches(zoo: Zoo, tmp_path: Path) -> None:
    import shutil

    copy = Zoo(tmp_path / "zoo", zoo.suite)
    shutil.copytree(zoo.root, copy.root)
    (copy.records / FILE).unlink(missing_ok=True)  # other tests build from the same records
    for path in copy.records.glob("*/*.npz"):
        os.utime(path, (1e9, 1e9))
    assert build(copy, tmp_path / "plain", "--no-index") == 0
    assert not (copy.records / FILE).exists()
    texts = []
    for name in ("first", "second"):
        assert build(copy, tmp_path / name) == 0
        texts.append({p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*")
                      if p.is_file() and not p.name.startswith(".")})
    assert (copy.records / FILE).exists()
    plain = {p.relative_to(tmp_path / "plain"): p.read_bytes() for p in (tmp_path / "plain").rglob("*")
             if p.is_file() and not p.name.startswith(".")}
    assert texts[0] == texts[1] == plain


def test_a_grid_has_a_square_with_a_place_for_its_tooltip_wherever_there_is_a_number() -> None:
    values = np.array([[1.4, -3.0, np.nan], [0.2, 12.0, -0.4]])
    root = ElementTree.fromstring(squares(values, ["a<b", "c"], ["x", "y", "z & w"], "T", "cell"))
    space = "{http://www.w3.org/2000/svg}"
    marks = {g.get("id"): g.findtext(f"{space}text") for g in root.iter(f"{space}g")}
    assert marks == {"cell0x0": "1", "cell0x1": "−3", "cell1x0": "0", "cell1x1": "12", "cell1x2": "0"}
    fills = [r.get("fill") for r in root.iter(f"{space}rect")]
    assert fills[3] == "#2166ac" and len(set(fills)) == 5
    wide = squares(np.ones((1, 31)), ["a"], [f"c{i}" for i in range(31)], "T", "cell")
    assert wide.count("<rect") == 31 and wide.count("<text") == 32  # headings and the row's name alone
