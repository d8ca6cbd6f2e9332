"""The command line: exit 0 success, 1 findings, 2 wrong usage, and one sentence for a user's mistake."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
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
    path = path_of(RUN, tmp_path).with_suffix(".npz")
    np.savez(path, **held)
    kept = replace(result.artifacts[0], sha256=sha256(path.read_bytes()).hexdigest())
    fakes.store(tmp_path, replace(result, metrics=metrics(**held, prefix="test") | {"test.top1": 0.99},
                                  artifacts=(kept,)))
    return tmp_path


def test_recompute_finds_and_mends_a_metric_that_its_predictions_contradict(
        records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recompute", "--records", str(records)]) == 1
    assert "test.top1 is stored as 0.99, its predictions give 0.6" in capsys.readouterr().out
    assert cli.main(["recompute", "--records", str(records), "--write"]) == 0
    assert load(path_of(RUN, records)).metrics["test.top1"] == 0.6
    assert cli.main(["recompute", "--records", str(records)]) == 0


def test_recompute_blames_the_file_when_predictions_were_swapped_and_writes_nothing(
        records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with another hash says nothing of the record, whatever numbers it gives."""
    path = path_of(RUN, records)
    cli.main(["recompute", "--records", str(records), "--write"])
    before = path.read_bytes()
    held = dict(np.load(path.with_suffix(".npz")))
    np.savez(path.with_suffix(".npz"), **held | {"pred": held["label"]})
    capsys.readouterr()
    for words in ((), ("--write",)):
        assert cli.main(["recompute", "--records", str(records), *words]) == 1
        told = capsys.readouterr().out
        assert f"{path.stem}.npz is not the file that was stored" in told and "test.top1" not in told
    assert path.read_bytes() == before


def test_recompute_goes_on_past_what_cannot_be_read(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = records / "aaa" / "first.json"
    first.parent.mkdir()
    first.write_text("{")
    other = fakes.scored(records, fakes.spec("dtd"), 0.5)
    path_of(other.spec, records).with_suffix(".npz").unlink()
    assert cli.main(["recompute", "--records", str(records)]) == 1
    told = capsys.readouterr().out
    assert "not judged: aaa/first.json: not valid JSON" in told and ".npz is missing" in told
    assert "2 files could not be judged" in told
    assert "test.top1 is stored as 0.99, its predictions give 0.6" in told


def test_recompute_reads_a_folder_of_suites(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = tmp_path / "reference"
    records.joinpath("svhn").rename(tmp_path / "set")
    (reference / "demo").mkdir(parents=True)
    (tmp_path / "set").rename(reference / "demo" / "svhn")
    (reference / "demo" / "suite.json").write_text("{}")
    (reference / "demo-tuning.json").write_text("{}")
    assert cli.main(["recompute", "--records", str(reference)]) == 1
    told = capsys.readouterr().out
    assert told.startswith("demo/svhn/lora-") and "not judged" not in told
    assert cli.main(["recompute", "--records", str(reference), "--write"]) == 0
    assert load(path_of(RUN, reference / "demo")).metrics["test.top1"] == 0.6


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
