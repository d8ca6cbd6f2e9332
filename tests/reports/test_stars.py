"""A star of the pictures buys accuracy that is shown; a stale row is marked wherever it stands and counts nowhere."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli, pictures
from reports.cells import grid
from reports.pairs import Predictions
from reports.world import World, worlds
from results import schema
from results.index import read
from results.suites import Column, SuiteView, save_suite
from tests.reports import fakes
from tests.reports.test_leaderboard import table

COLUMN = (Column("cifar100", "CIFAR-100", "natural", True, 10),)


def made(root: Path, skills: Mapping[str, float], old: tuple[str, ...] = (), blind: tuple[str, ...] = ()) -> SuiteView:
    """A suite of one data set; a method's price grows with its name. `old`: other source, `blind`: no predictions."""
    specs = []
    for method, skill in skills.items():
        run = fakes.spec("cifar100", method)
        specs.append(run)
        info = schema.MethodInfo(method, "older" if method in old else f"src-{method}")
        if method in blind:
            fakes.store(root / "runs", fakes.record(run, skill, method=info))
        else:
            fakes.scored(root / "runs", run, skill, method=info)
    suite = fakes.suite(specs, COLUMN, list(skills))
    suite = replace(suite, reference=next(iter(skills)))
    save_suite(suite, root / "suites")
    return suite


def world_of(root: Path, suite: SuiteView) -> World:
    records = read(root / "runs", index=False)
    predictions = Predictions(records)
    (world,) = worlds(grid(suite, records, records.by_run(), predictions.luck), predictions)
    return world


def starred(root: Path, *args: object, **more: object) -> tuple[str, ...]:
    (picture,) = [p for p in pictures.pictures(world_of(root, made(root, *args, **more)))  # type: ignore[arg-type]
                  if p.key.endswith("params")]
    return picture.front


@pytest.mark.parametrize(("skills", "stars"), [
    ({"a": 0.5, "bb": 0.8}, ("a", "bb")),  # dearer and surely better
    ({"a": 0.5, "bb": 0.51}, ("a",)),  # the higher point is not told apart from the cheaper row
    ({"a": 0.5, "bb": 0.52, "ccc": 0.8, "dddd": 0.81}, ("a", "ccc")),
    ({"a": 0.17, "bb": 0.5}, ("bb",)),  # the cheapest may be a constant answer: 17 % of 200 against 15 %
    ({"a": 0.17, "bb": 0.16, "ccc": 0.18}, ()),
    ({"a": 0.8, "bb": 0.5, "ccc": 0.65}, ("a",)),
    ({"aa": 0.5, "ab": 0.51, "ccc": 0.8}, ("ccc",)),  # of two at one price neither buys anything
    ({"aa": 0.5, "ab": 0.8}, ("ab",)),
])
def test_a_star_buys_accuracy_that_is_shown(skills: dict[str, float], stars: tuple[str, ...], tmp_path: Path) -> None:
    assert starred(tmp_path, skills) == stars


def test_without_predictions_intervals_must_lie_apart(tmp_path: Path) -> None:
    names = ("a", "bb", "ccc")
    assert starred(tmp_path, {"a": 0.5, "bb": 0.57, "ccc": 0.75}, blind=names) == ("a", "ccc")


def test_a_stale_row_has_no_star_and_takes_none_away(tmp_path: Path) -> None:
    assert starred(tmp_path, {"a": 0.8, "bb": 0.5, "ccc": 0.8}, old=("a",)) == ("bb", "ccc")


def test_a_stale_row_is_marked_wherever_it_stands_and_has_no_rank(tmp_path: Path) -> None:
    made(tmp_path, {"a": 0.5, "bb": 0.9, "ccc": 0.7}, old=("bb",))
    assert cli.main(["build", "--records", str(tmp_path / "runs"), "--suites", str(tmp_path / "suites"), "--out",
                     str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "LEADERBOARD.md").read_text()
    for heading in ("#### Accuracy (STAND-IN", "#### Memory and parameters (STAND-IN",
                    "#### Throughput (INFORMAL) (STAND-IN"):
        assert "bb` §" in table(page, heading), heading
        assert "§: stale" in page[page.index(heading):].split("\n#### ")[0], "the legend says what it means"
    rows = table(page, "#### Accuracy (STAND-IN")
    assert (rows["bb` §"]["Rank"], rows["bb` §"]["Tie"], rows["bb` §"]["Against a"]) == ("–", "–", "–")
    assert rows["ccc"]["Rank"] == "1 (runs)" and rows["a"]["Rank"] == "2 (runs)", "ranked as if it were not there"
    assert "neither ranked nor compared" in page
    with (tmp_path / "out/site/demo-standin-accuracy.csv").open() as stream:
        marks = {line["Method"]: line["Method.mark"] for line in csv.DictReader(stream)}
    assert marks == {"a": "", "bb": "stale", "ccc": ""}
    for name in ("site/demo-standin-params.svg", "site/demo.html"):
        assert "bb (stale)" in (tmp_path / "out" / name).read_text(), name
    assert not re.search(r"bb \(stale\)\s+★", (tmp_path / "out/site/demo-standin-params.svg").read_text())


def test_nothing_is_compared_with_a_stale_reference_row(tmp_path: Path) -> None:
    made(tmp_path, {"a": 0.5, "bb": 0.9, "ccc": 0.7}, old=("a",))
    assert cli.main(["build", "--records", str(tmp_path / "runs"), "--suites", str(tmp_path / "suites"), "--out",
                     str(tmp_path / "out")]) == 0
    rows = table((tmp_path / "out" / "LEADERBOARD.md").read_text(), "#### Accuracy (STAND-IN")
    assert rows["bb"]["Against a"] == "–" and rows["bb"]["Rank"] == "1 (runs)"
