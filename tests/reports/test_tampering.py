"""Records and predictions that were tampered with, seen through `build` into a folder that is there already."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results.store import load, path_of, save
from results.suites import Column, save_suite
from tests.reports import fakes
from tests.reports.test_leaderboard import build, table

COLUMN = Column("svhn", "SVHN", "natural", True, 10)
METHODS = ["linear", "lora"]
RUNS = [fakes.spec("svhn", method, seed) for method in METHODS for seed in (0, 1)]
SUMMARY = "#### Accuracy (STAND-IN"


class Small:
    """What `build` wants of a folder: two methods, two seeds."""

    def __init__(self, root: Path) -> None:
        self.records, self.suites, self.out = root / "runs", root / "suites", root / "out"
        for run in RUNS:
            fakes.scored(self.records, run, 0.5 if run.method == "linear" else 0.7)
        save_suite(fakes.suite(RUNS, (COLUMN,), METHODS), self.suites)
        self.suite = fakes.suite(RUNS, (COLUMN,), METHODS)

    def page(self, *words: str) -> str:
        assert build(self, self.out, *words) == 0  # type: ignore[arg-type]
        return (self.out / "LEADERBOARD.md").read_text()

    def cells(self, *words: str) -> tuple[str, str]:
        """(lora's cell, its rank)"""
        page = self.page(*words)
        return table(page, SUMMARY)["lora"]["SVHN"], table(page, SUMMARY)["lora"]["Rank"]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


@pytest.mark.parametrize("words", ((), ("--no-index",)))
def test_changed_predictions_are_noticed_both_ways(words: tuple[str, ...], small: Small) -> None:
    whole = small.cells(*words)
    assert whole[0].startswith("70.0 ± 0.0 (2) [") and whole[1].startswith("1")
    held = path_of(RUNS[2], small.records).with_suffix(".npz")
    good = held.read_bytes()
    np.savez(held, **dict(np.load(held)) | {"margin": np.ones(200)})  # the same predictions, another file
    cell, rank = small.cells(*words)
    assert cell.startswith("70.0 ± 0.0 (2) [") and cell.endswith("] ‡") and rank == "–"
    assert f"lora, unproven on SVHN: svhn/{held.name}: is not the file that was stored" in small.page(*words).replace(
        "\\", "")
    held.unlink()
    assert small.cells(*words) == (cell, rank)
    assert f"svhn/{held.name}: is missing" in small.page(*words).replace("\\", "")
    held.write_bytes(good)
    assert small.cells(*words) == whole


def test_a_raised_score_beside_unchanged_predictions_is_not_printed(small: Small) -> None:
    small.page()
    for run in RUNS[2:]:
        record = load(path_of(run, small.records))
        save(replace(record, metrics=record.metrics | {"test.top1": 1.0}), small.records)
    assert small.cells() == ("contradicted †", "–")
    page = small.page().replace("\\", "")
    assert "100.0" not in page
    assert "field 'metrics.test.top1' is 1, but the predictions in svhn/" in page and "give 0.7" in page


def test_one_raised_seed_leaves_the_other(small: Small) -> None:
    record = load(path_of(RUNS[2], small.records))
    save(replace(record, metrics=record.metrics | {"test.top1": 1.0}), small.records)
    cell, rank = small.cells()
    assert cell.startswith("70.0 [") and cell.endswith("(1 of 2)") and rank == "–"


def test_a_number_that_cannot_be_is_named_and_the_other_suites_are_built(small: Small, tmp_path: Path,
                                                                         capsys: pytest.CaptureFixture[str]) -> None:
    other = Small(tmp_path / "other")
    for folder in ("runs", "suites"):
        target = getattr(small, "records" if folder == "runs" else "suites")
        for path in (tmp_path / "other" / folder).rglob("*.json"):
            body = path.read_text().replace('"name": "demo"', '"name": "second"')
            copy = target / path.relative_to(tmp_path / "other" / folder)
            copy = copy.with_name("second.json") if folder == "suites" else copy
            copy.write_text(body)
    shutil.rmtree(other.out, ignore_errors=True)
    victim = path_of(RUNS[3], small.records)
    body = json.loads(victim.read_text())
    body["metrics"]["test.top1"] = 7.5
    victim.write_text(json.dumps(body))
    assert build(small, small.out, "--keep-going") == 1  # type: ignore[arg-type]
    assert f"unreadable: svhn/{victim.name}: field 'metrics.test.top1' is 7.5" in capsys.readouterr().out
    page = (small.out / "LEADERBOARD.md").read_text()
    assert "`demo`" in page and "`second`" in page and "750.0" not in page and "(1 of 2)" in page
