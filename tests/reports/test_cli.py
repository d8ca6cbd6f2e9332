"""The command line: exit 0 success, 1 findings, 2 wrong usage, and one sentence for a user's mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports import cli
from results.metrics import metrics
from results.store import load, path_of
from tests.reports import fakes

RUN = fakes.spec("svhn")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """One record whose stored accuracy is not that of its predictions."""
    pred, label = fakes.answers("svhn", 0.6)
    held = {"pred": pred, "label": label, "confidence": np.full(200, 0.5), "nll": np.ones(200)}
    result = fakes.store(tmp_path, fakes.record(RUN, 0.6), pred, label)
    np.savez(path_of(RUN, tmp_path).with_suffix(".npz"), **held)
    fakes.store(tmp_path, replace(result, metrics=metrics(**held, prefix="test") | {"test.top1": 0.99}))
    return tmp_path


def test_recompute_finds_and_mends_a_metric_that_its_predictions_contradict(
        records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recompute", "--records", str(records)]) == 1
    assert "test.top1 is stored as 0.99, its predictions give 0.6" in capsys.readouterr().out
    assert cli.main(["recompute", "--records", str(records), "--write"]) == 0
    assert load(path_of(RUN, records)).metrics["test.top1"] == 0.6
    assert cli.main(["recompute", "--records", str(records)]) == 0


@pytest.mark.parametrize(("argv", "message"), [
    (["build", "--records", "/nowhere/at/all"], "there is no folder of records /nowhere/at/all"),
    (["recompute", "--records", "/nowhere/at/all"], "there is no folder of records"),
    (["runs", "--records", "/nowhere/at/all"], "there is no folder of records"),
    (["check", "--reference", "/nowhere/at/all"], "there is no folder of reference records"),
    (["compare", "/nowhere/at/all", "runs"], "no such folder; give runs, reference"),
    (["published", "--folder", "/nowhere/at/all"], "there is no JSON file"),
    (["serve", "--out", "/nowhere/at/all"], "there is no page"),
])
def test_a_mistake_is_one_sentence_and_exit_2(argv: list[str], message: str,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    text = capsys.readouterr()
    assert message in text.err and text.err.count("\n") == 1 and text.out == ""


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["bild"])
    assert stop.value.code == 2 and "build" in capsys.readouterr().err


def test_a_folder_of_suites_without_one_says_how_to_make_one(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    assert cli.main(["build", "--records", str(tmp_path / "runs"), "--suites", str(tmp_path / "none")]) == 2
    assert "there is no suite file" in capsys.readouterr().err
