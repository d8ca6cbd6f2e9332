"""A series of suites: what a part adds against epochs and images, by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports import cli, series
from results.index import read
from results.suites import Column, load_suites, save_suite
from tests.reports import fakes

SETS = ("digits", "pets")
ADDS = {("digits", 5): -10, ("pets", 5): -2, ("digits", 60): 4, ("pets", 60): 8}  # points that pace adds


def written(root: Path) -> list[str]:
    """Two suites, `gain` of 60 epochs and `gain-5`, two seeds; the command's arguments."""
    columns = tuple(Column(name, name.title(), "real", False, 10) for name in SETS)
    for name, epochs in (("gain-5", 5), ("gain", 60)):
        specs = [fakes.spec(d, m, seed, epochs=epochs, data=f"real:{d}") for d in SETS
                 for m in ("lora", "lora+pace") for seed in (0, 1)]
        for spec in specs:
            more = ADDS[spec.dataset, epochs] / 100 if spec.method == "lora+pace" else 0
            fakes.scored(root / "runs", spec, 0.6 + more)
        save_suite(replace(fakes.suite(specs, columns, ["lora", "lora+pace"]), name=name), root / "suites")
    return ["--records", str(root / "runs"), "--suites", str(root / "suites"), "--out", str(root / "out")]


def test_every_place_has_its_own_difference_and_equal_images_are_averaged(tmp_path: Path) -> None:
    assert cli.main(["series", "gain", *written(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "out" / "gain-series-lora.csv")
    adds = {(line["Data set"].lower(), line["Epochs"]): line["'+pace"] for _, line in found.iterrows()}
    assert {key: adds[key] for key in ADDS} == pytest.approx(ADDS)
    assert adds["mean of 2 data sets", 5] == pytest.approx(-6) and adds["mean of 2 data sets", 60] == pytest.approx(6)
    assert set(found["Images"]) == {160} and found["lora alone"].tolist() == pytest.approx([60] * 6)
    assert ((found["'+pace.low"] < found["'+pace"]) & (found["'+pace"] < found["'+pace.high"])).all()
    drawing = (tmp_path / "out" / "gain-series-lora.svg").read_text()
    assert "Digits: 160 training images" in drawing and "+pace" in drawing and "Mean of" not in drawing
    assert (tmp_path / "out" / "gain-series.md").read_text().startswith("# gain: ")


def test_a_name_that_is_no_series_is_answered_with_those_that_are(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                  ) -> None:
    assert cli.main(["series", "gian", *written(tmp_path)]) == 2
    assert "'gian' is no series of suites; there are: gain" in capsys.readouterr().err


def test_suites_of_other_names_are_no_series(tmp_path: Path) -> None:
    view = fakes.suite([], (), [])
    named = [replace(view, name=name) for name in ("demo", "real", "real-5", "shift-16shot", "real-60")]
    assert {stem: [s.name for s in own] for stem, own in series.stems(named).items()} == {
        "real": ["real", "real-5", "real-60"]}


def test_a_part_is_not_added_to_an_adapter_of_another_pool(tmp_path: Path) -> None:
    written(tmp_path)
    records = read(tmp_path / "runs")
    for suite in load_suites(tmp_path / "suites"):
        assert series.points(suite, records)
        rows = tuple(replace(r, pool="tuned per set" if "+" in r.method else "plain") for r in suite.rows)
        assert not series.points(replace(suite, rows=rows), records)
