"""Columns whose score is no share of right answers: their cells, intervals, means, and that nobody ranks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from reports.cells import grid
from reports.choice import facts
from reports.pairs import Predictions
from reports.world import worlds
from results.index import read
from results.suites import Column, Entry, Row, SuiteView, suite_from_json, suite_to_json

SEEDS, Z = (0, 1), 1.959963985


@pytest.fixture
def suite(tmp_path: Path) -> SuiteView:
    """MCC of -0.1 and 0.3 with an error of 0.05; accuracies of 0.8 and 0.9 of 200 items."""
    entries = []
    for seed in SEEDS:
        for name in ("cola", "sst2"):
            run = fakes.spec(name, seed=seed)
            if name == "cola":
                score = {"test.top1": 0.7, "test.n": 200.0, "test.mcc": (-0.1, 0.3)[seed],
                         "test.score": (-0.1, 0.3)[seed], "test.score_se": 0.05, "test.majority": 0.69}
                fakes.store(tmp_path, replace(fakes.record(run, 0.7), metrics=score))
            else:
                fakes.scored(tmp_path, run, (0.8, 0.9)[seed])
            entries.append(Entry(run.id, name, "lora", fakes.BACKBONE, seed))
    columns = (Column("cola", "CoLA (MCC)", "natural", True, 2, metric="mcc"),
               Column("sst2", "SST-2", "natural", True, 2))
    return SuiteView("scored", "Scored", "", "", columns, {"natural": "Natural"}, (Row("lora", fakes.BACKBONE),),
                     tuple(entries))


def test_a_score_may_be_negative_and_has_the_interval_of_its_error_and_seeds(suite: SuiteView, tmp_path: Path) -> None:
    records = read(tmp_path, index=False)
    found = grid(suite, records, records.by_run())
    row, (cola, sst2) = suite.rows[0], suite.columns
    cell = found.cell(row, cola)
    assert cell.values == (-0.1, 0.3) and cell.chance == 0.0 and cell.interval is not None
    spread = ((-0.2) ** 2 + 0.2 ** 2) / 1 / 2  # variance over two seeds, of their mean
    assert cell.interval.high - 0.1 == pytest.approx(Z * (0.05 ** 2 + spread) ** 0.5)
    assert "chance" in cell.signs
    p = (0.85 * 200 + Z ** 2 / 2) / (200 + Z ** 2)
    other = p * (1 - p) / 200 + 0.005 / 2
    mean = found.interval(row, {"cola": 0.5, "sst2": 0.5})
    assert mean is not None
    assert mean.high - (0.1 + 0.85) / 2 == pytest.approx(Z * 0.5 * (0.05 ** 2 + spread + other) ** 0.5)
    assert found.cell(row, sst2).error is None


def test_nobody_ranks_what_no_answer_is_right_for_and_the_page_holds_no_moments_of_it(
        suite: SuiteView, tmp_path: Path) -> None:
    records = read(tmp_path, index=False)
    predictions = Predictions(records)
    (world,) = worlds(grid(suite, records, records.by_run()), predictions)
    assert world.ranked == {} and world.against == {} and "CoLA (MCC)" in world.problems[0]
    told = facts(world, predictions)["cells"][0][0]
    assert told["block"] == -1 and told["error"] == 0.05 and told["smooth"] is None


def test_a_columns_metric_is_written_where_it_is_no_accuracy_and_read_again(suite: SuiteView) -> None:
    text = suite_to_json(suite)
    assert text.count('"metric"') == 1 and suite_from_json(text) == suite


def test_a_mean_of_recalls_shows_their_sum_beside_it(suite: SuiteView, tmp_path: Path) -> None:
    from reports import fields

    run = fakes.spec("flickr30k", seed=0)
    told = {"test.n": 200.0, "test.score": 0.5, "test.score_se": 0.01}
    fakes.store(tmp_path, replace(fakes.record(run, 0.5), metrics=told))
    column = Column("flickr30k", "Flickr30K (mean recall)", "natural", True, 1, metric="rmean")
    one = replace(suite, columns=(column,), entries=(Entry(run.id, "flickr30k", "lora", fakes.BACKBONE, 0),))
    records = read(tmp_path, index=False)
    cell = grid(one, records, records.by_run()).cell(one.rows[0], column)
    assert fields.accuracy(cell).text.startswith("50.0 [48.0, 52.0], RSUM 300.0") and cell.chance == 0
