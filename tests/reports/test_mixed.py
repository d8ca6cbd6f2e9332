"""Rows that must not be compared: of different protocols, or timed on a busy machine; and parts with their adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports import effects
from reports.cells import grid
from reports.pairs import Predictions
from reports.pictures import pictures
from reports.plots import heat_map
from reports.world import World, worlds
from results.index import read
from results.suites import SuiteView
from tests.reports import fakes
from tests.reports.conftest import COLUMNS
from tests.reports.test_kinds import made
from tests.reports.test_leaderboard import SUMMARY, table

SPEED = "#### Throughput (INFORMAL) (STAND-IN"
SKILL = {"linear": 0.5, "lora": 0.6, "lora+pace": 0.66, "adapter": 0.6, "adapter+pace": 0.5}
SETS = COLUMNS[:2]


def suite(root: Path, methods: list[str], epochs: dict[str, int], seeds: tuple[int, ...] = (0,),
          **changes: object) -> SuiteView:
    specs = [fakes.spec(c.name, m, s, epochs=epochs.get(m, 4)) for m in methods for c in SETS for s in seeds]
    for run in specs:
        fakes.scored(root / "runs", run, SKILL[run.method] + 0.01 * run.seed)
    return fakes.suite(specs, SETS, methods, **changes)


def world_of(root: Path, view: SuiteView) -> tuple[World, Predictions]:
    records = read(root / "runs", index=False)
    predictions = Predictions(records)
    (world,) = worlds(grid(view, records, records.by_run()), predictions)
    return world, predictions


def test_rows_of_another_protocol_have_a_dash_and_a_note_says_why(tmp_path: Path) -> None:
    view = suite(tmp_path, ["linear", "lora", "lora+pace"], {"lora": 1, "lora+pace": 1})
    page = (made(tmp_path, view) / "LEADERBOARD.md").read_text()
    rows, speed = table(page, SUMMARY), table(page, SPEED)
    assert {m: rows[m]["Against linear"] for m in rows} == {"linear": "(reference)", "lora": "–", "lora+pace": "–"}
    assert [speed[m]["Training / linear"] for m in speed] == ["1.00×", "–", "–"]
    assert rows["lora"]["Rank"] == "2 (runs)" and rows["linear"]["Rank"] == "–"
    note = "- lora, lora+pace: not compared with linear, whose runs have another protocol"
    assert page.count(note) == 2, "at the accuracy and at the throughput"
    assert rows["lora+pace"]["Against its own adapter"].startswith("+6.0 ["), "of one protocol, so compared"


def test_no_picture_compares_protocols(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, suite(tmp_path, ["linear", "lora"], {"lora": 1}))
    assert heat_map(world) is None and not any(p.front for p in pictures(world))
    (tmp_path / "b").mkdir()
    same, _ = world_of(tmp_path / "b", suite(tmp_path / "b", ["linear", "lora"], {}))
    assert heat_map(same) is not None and all(p.front for p in pictures(same)) and not same.foreign


def test_a_row_that_lacks_data_sets_is_still_compared_where_it_has_runs(tmp_path: Path) -> None:
    view = suite(tmp_path, ["linear", "lora"], {})
    next((tmp_path / "runs").glob("eurosat/lora-*.json")).unlink()
    page = (made(tmp_path, view) / "LEADERBOARD.md").read_text()
    assert table(page, SUMMARY)["lora"]["Against linear"].startswith("better; difference +10.0")
    assert "another protocol" not in page


@pytest.mark.parametrize(("busy", "ratios"), (
    ("lora", {"linear": "1.00×", "lora": "–", "lora+pace": "0.667×"}),
    ("linear", {"linear": "–", "lora": "–", "lora+pace": "–"}), ("", {"linear": "1.00×", "lora": "1.50×"})))
def test_informal_figures_that_are_too_far_apart_give_no_ratio(tmp_path: Path, busy: str,
                                                               ratios: dict[str, str]) -> None:
    view = suite(tmp_path, ["linear", "lora", "lora+pace"], {})
    if busy:
        run = fakes.spec("eurosat", busy)
        told = fakes.record(run, SKILL[busy])
        assert told.throughput is not None
        slow = replace(told.throughput, train_images_per_s=told.throughput.train_images_per_s / 2.1)
        fakes.store(tmp_path / "runs", replace(told, throughput=slow))
    page = (made(tmp_path, view) / "LEADERBOARD.md").read_text()
    rows = table(page, SPEED)
    assert {m: rows[m]["Training / linear"] for m in ratios} == ratios
    assert ("no ratio where a row's own runs" in page) == bool(busy)
    if busy:
        assert "–" in rows[busy]["Training images/s"] and "(" in rows[busy]["Training images/s"], "the range stays"


def test_a_part_is_compared_with_its_own_adapter_by_the_draws_of_the_effects_table(tmp_path: Path) -> None:
    methods = ["linear", "lora", "lora+pace", "adapter", "adapter+pace"]
    view = suite(tmp_path, methods, {}, seeds=(0, 1, 2))
    rows = table((made(tmp_path, view) / "LEADERBOARD.md").read_text(), SUMMARY)
    assert [rows[m]["Against its own adapter"] for m in ("linear", "lora", "adapter")] == [""] * 3
    assert rows["lora+pace"]["Against its own adapter"].startswith("+6.0 [")
    assert rows["adapter+pace"]["Against its own adapter"].startswith("−10.0 [")
    world, predictions = world_of(tmp_path, view)
    found = effects.effects(world, predictions)
    assert found is not None
    shown = [f.text for f in effects.table(world, found).body[0]][2]
    assert shown == rows["lora+pace"]["Against its own adapter"]


def test_no_such_column_where_the_reference_row_is_the_adapter_of_all(tmp_path: Path) -> None:
    view = suite(tmp_path, ["lora", "lora+pace"], {}, reference="lora")
    assert "Against its own adapter" not in (made(tmp_path, view) / "LEADERBOARD.md").read_text()
