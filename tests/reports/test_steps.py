"""The table of a ladder: what each step added against the step before, and what it cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli, ladder, leaderboard
from reports.cells import grid
from reports.pairs import Predictions
from reports.table import Table
from reports.world import worlds
from results.index import read
from results.selections import Effort, Study, Trial, Trials, save_trials
from results.suites import Column, Entry, Row, SuiteView, save_suite
from tests.reports import fakes

COLUMN = Column("svhn", "SVHN", "natural", True, 10)
SKILLS = {"lora": (0.50, 0.52), "paper: lora": (0.60, 0.61), "tuned: lora": (0.70, 0.71),
          "tuned, ensembled: lora": (0.80,)}


def _written(folder: Path, name: str = "demo-ladder", column: Column = COLUMN) -> tuple[SuiteView, Trials]:
    """Records of a ladder and of its search, with the suite and the studies that name them."""
    specs: dict[str, list[str]] = {}
    for i, (method, skills) in enumerate(SKILLS.items()):
        for seed, skill in enumerate(skills):
            combined = {"combined": "ensemble", "ingredients": ("1*a", "2*b")} if "ensembled" in method else {}
            run = fakes.spec("svhn", "lora", seed, lr=1e-3 * (1 + i), **combined)
            fakes.scored(folder, run, skill)
            specs.setdefault(method, []).append(run.id)
    trials = []
    for number in range(2):
        run = fakes.spec("svhn", "lora", phase="tune", lr=0.1 + number)
        pred, label = fakes.answers("svhn", skill := 0.5 + number / 10, 10, run.id)
        fakes.store(folder, replace(fakes.record(run, None), metrics={"val.top1": skill, "val.n": 10.0}), pred, label)
        trials.append(Trial(number, {"lr": run.lr}, (run.id,)))
    entries = tuple(Entry(run, "svhn", method, fakes.BACKBONE, seed) for method, runs in specs.items()
                    for seed, run in enumerate(runs))
    suite = replace(fakes.suite([], (column,), []), name=name, entries=entries,
                    rows=tuple(Row(m, fakes.BACKBONE, "", "", "src-lora") for m in SKILLS))
    study = Study("lora", fakes.BACKBONE, ("svhn",), Effort(2, "grid", 0, (0,)), {}, tuple(trials))
    return suite, Trials("demo", (study,))


def _table(folder: Path, suite: SuiteView, tried: Trials) -> Table | None:
    records = read(folder, index=False)
    predictions = Predictions(records)
    (world,) = worlds(grid(suite, records, records.by_run()), predictions)
    return ladder.table(world, predictions, tried)


def _lines(folder: Path, name: str = "demo-ladder") -> dict[str, list[str]]:
    found = _table(folder, *_written(folder, name))
    return {} if found is None else {line[1].text: [f.text for f in line] for line in found.body}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return _lines(tmp_path_factory.mktemp("ladder"))


def test_each_step_stands_beside_what_it_added_to_the_one_before(lines: dict[str, list[str]]) -> None:
    assert list(lines) == ["default", "paper", "tuned", "tuned, ensembled"]
    assert [line[4] for line in lines.values()] == ["", "default", "default", "tuned"]
    gains = {"paper": 60.5 - 51, "tuned": 70.5 - 51, "tuned, ensembled": 80 - 70.5}
    assert lines["default"][3] == "–"
    for step, gain in gains.items():
        assert lines[step][3].startswith(f"+{gain:.1f} ["), step
        low, high = (float(x.replace("−", "-")) for x in lines[step][3].split("[")[1].rstrip("]").split(", "))
        assert low < gain < high


def test_a_tuned_row_says_how_far_its_configurations_lay_apart(lines: dict[str, list[str]]) -> None:
    assert [line[5] for line in lines.values()] == ["", "", "50.0–60.0", ""]


def test_the_search_is_a_cost_of_every_step_that_rests_on_it(lines: dict[str, list[str]]) -> None:
    assert [line[6] for line in lines.values()] == ["–", "–", "4.80", "4.80"], "two trials of 2.4 s"
    assert [line[7] for line in lines.values()] == ["4.00", "4.00", "4.00", "2.00"], "seconds of training"
    assert all(line[8] == "4,490" for line in lines.values())


def test_other_suites_have_no_ladder(tmp_path: Path) -> None:
    assert _lines(tmp_path, "demo") == {}


def test_what_is_no_share_of_right_answers_is_not_called_so(tmp_path: Path) -> None:
    by_class = _table(tmp_path, *_written(tmp_path, column=replace(COLUMN, metric="class_mean")))
    assert by_class is not None and by_class.header[2] == "Score" and by_class.caption.startswith("Score in percent")
    plain = _table(tmp_path, *_written(tmp_path))
    assert plain is not None and plain.header[2] == "Top-1"


def test_a_search_is_published_with_the_suite_that_rests_on_it(tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    suite, tried = _written(tmp_path / "runs")
    words = ["pack", str(tmp_path / "runs"), "--out", str(tmp_path / "out" / suite.name), "--narrow"]
    file = ["--suite", str(save_suite(suite, tmp_path))]
    assert cli.main([*words, *file, "--selections", str(tmp_path)]) == 2
    assert "nothing was tuned for suite 'demo'" in capsys.readouterr().err
    save_trials(tried, tmp_path)
    assert cli.main([*words, *file, "--selections", str(tmp_path)]) == 0
    assert "9 records" in capsys.readouterr().out, "seven of the ladder, two of its search"
    told = leaderboard.build_reference(tmp_path / "out", tmp_path / "tables")[tmp_path / "tables" / "demo-ladder.md"]
    assert "|        4.80 |" in told, "the seconds of the two trials"
    assert cli.main([*words[:4], "--selections", str(tmp_path)]) == 2
