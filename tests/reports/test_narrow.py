"""A published part of a suite: its file holds what was run and says what was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import cli
from results.suites import Column, load_suite, save_suite
from tests.reports import fakes

COLUMNS = (Column("digits", "Digits", "real", False, 10), Column("pets", "Pets", "natural", False, 37))


def packed(root: Path, named: bool = True) -> int:
    specs = [fakes.spec(c.name, m, data=f"real:{c.name}") for c in COLUMNS for m in ("linear", "lora", "vera")]
    for spec in specs:
        if spec.dataset == "digits" and spec.method != "vera":
            fakes.scored(root / "runs", spec, 0.6)
    path = save_suite(fakes.suite(specs, COLUMNS, ["linear", "lora", "vera"]), root)
    return cli.main(["pack", str(root / "runs"), "--out", str(root / "out"), "--narrow",
                     *(["--suite", str(path)] if named else [])])


def test_rows_and_sets_without_a_run_are_left_out_and_told(tmp_path: Path) -> None:
    assert packed(tmp_path) == 0
    found = load_suite(tmp_path / "out" / "suite.json")
    assert [r.method for r in found.rows] == ["linear", "lora"] and [c.name for c in found.columns] == ["digits"]
    assert len(found.entries) == 2 and set(found.groups) == {"real"}
    assert found.note.endswith("Not run here, of the whole suite: 1 of its 3 rows and the data sets Pets.")


def test_narrow_without_a_suite_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert packed(tmp_path, named=False) == 2
    assert "--narrow needs --suite FILE" in capsys.readouterr().err
