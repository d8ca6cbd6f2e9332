"""The frame for questions that no table answers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports import cli
from reports.frame import frame
from results.schema import Failure
from tests.reports import fakes


def test_a_frame_has_a_row_per_run_and_unknown_is_missing(tmp_path: Path) -> None:
    fakes.store(tmp_path, fakes.record(fakes.spec("svhn"), 0.5))
    fakes.store(tmp_path, fakes.record(fakes.spec("dtd"), None, status="oom"))
    found = frame(tmp_path).set_index("spec.dataset")
    assert len(found) == 2 and found.loc["svhn", "metrics.test.top1"] == 0.5
    assert pd.isna(found.loc["dtd", "metrics.test.top1"]) and found.loc["dtd", "status"] == "oom"
    assert not list(tmp_path.glob(".index"))


def test_runs_prints_the_same_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.store(tmp_path, fakes.record(fakes.spec("svhn"), 0.5))
    assert cli.main(["runs", "--records", str(tmp_path)]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert read["metrics.test.top1"].tolist() == [0.5] and read.columns[0] == "run_id"
    assert cli.main(["runs", "--records", str(tmp_path / "no")]) == 2


def test_no_text_of_a_record_is_a_formula_in_the_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = fakes.record(fakes.spec("svhn"), None, status="failed")
    failure = Failure("code", "=HYPERLINK(1)\x1b[2J", "train")
    fakes.store(tmp_path, replace(made, failure=failure))
    assert cli.main(["runs", "--records", str(tmp_path)]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert read["failure.message"].tolist() == ["'=HYPERLINK(1)\\x1b[2J"]
    assert read["spec.seed"].tolist() == [0]
