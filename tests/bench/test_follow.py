"""`--follow tensorboard` writes what the record says, changes nothing of it, and survives kills and lost folders."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import checkout, cli
from bench.engine.record import execute
from bench.verbs import here
from results import store
from results.schema import RunResult

from . import tiny

METHOD = "lora+pace"


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


class Killed(BaseException):
    """What `execute` does not catch."""


def told(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curve -> (epoch, value), as TensorBoard reads it."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def said(record: RunResult) -> dict[str, list[tuple[int, float]]]:
    """The same of a record."""
    found: dict[str, list[tuple[int, float]]] = {}
    for epoch, row in enumerate(record.history, 1):
        for name, value in row.items():
            if value is not None and name != "epoch":
                found.setdefault(name.replace(".", "/", 1), []).append((epoch, value))
    for name, value in record.metrics.items():
        if value is not None:
            found[name.replace(".", "/", 1)] = [*found.get(name.replace(".", "/", 1), []), (len(record.history), value)]
    return found


def agree(curves: dict[str, list[tuple[int, float]]], record: RunResult) -> None:
    wanted = said(record)
    assert curves.keys() == wanted.keys() and len(record.history) == 5
    for name, points in wanted.items():
        assert [step for step, _ in curves[name]] == [step for step, _ in points], name
        assert [v for _, v in curves[name]] == pytest.approx([v for _, v in points], rel=1e-6), name


def plain(record: RunResult) -> RunResult:
    """Without when and how long."""
    return replace(record, attempts=(), time=record.time.__class__(None, None, None, None, None), artifacts=tuple(
        replace(a, sha256="") if a.kind == "adapter" else a for a in record.artifacts),
        throughput=replace(record.throughput, train_images_per_s=None, eval_images_per_s=None),
        provenance=replace(record.provenance, started=""))


def test_the_record_is_the_same_and_the_curves_are_the_records(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    spec = tiny.spec(METHOD)
    without = execute(spec, {}, tiny.where(tmp_path / "a", checkpoints=None), tmp_path / "a" / "runs")
    where = tiny.where(tmp_path / "b", checkpoints=None, follow=tmp_path / "b" / "tensorboard")
    followed = execute(spec, {}, where, tmp_path / "b" / "runs")
    assert without.status == "ok" and plain(without) == plain(followed)
    weights = [store.path_of(spec, tmp_path / x / "runs").with_suffix(".safetensors").read_bytes() for x in "ab"]
    assert weights[0] == weights[1]
    agree(told(store.path_of(spec, tmp_path / "b" / "tensorboard").with_suffix("")), followed)
    assert not (tmp_path / "a" / "tensorboard").exists()


def test_two_runs_have_two_folders_and_a_killed_one_goes_on_in_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    where = tiny.where(tmp_path, follow=tmp_path / "tensorboard", checkpoint_every_s=1e9, checkpoint_every_epochs=2)
    first, second = tiny.spec(METHOD), tiny.spec(METHOD, seed=1)

    def kill(step: int, steps: int) -> None:
        if step == 14:  # in the fourth epoch; the checkpoint is that of the second, and the third is told already
            raise Killed

    with pytest.raises(Killed):
        execute(first, {}, where, tmp_path / "runs", kill)
    made = [execute(spec, {}, where, tmp_path / "runs") for spec in (second, first)]
    assert made[1].attempts[-1].resumed_from_step == 8
    for record in made:
        agree(told(store.path_of(record.spec, tmp_path / "tensorboard").with_suffix("")), record)


def test_a_follower_that_cannot_write_takes_no_run_with_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file in its way")
    where = tiny.where(tmp_path, checkpoints=None, follow=tmp_path / "tensorboard")
    assert execute(tiny.spec("linear"), {}, where, tmp_path / "runs").status == "ok"
    assert f"no more curves of run {tiny.spec('linear').id}, which goes on: " in capfd.readouterr().err


@pytest.mark.parametrize(("made", "why"), [("file", "results/tensorboard cannot be a folder: tensorboard is a file"),
                                           ("shut", "results/tensorboard may not be written")])
def test_curves_that_cannot_be_written_are_told_once_before_anything_runs(
        made: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "results" / "runs")
    place = tmp_path / "results" / "tensorboard"
    if made == "file":
        place.parent.mkdir()
        place.write_text("a file in its way")
    else:
        place.mkdir(parents=True)
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    args = argparse.Namespace(no_cache=True, strict=False, checkpoint_every=1.0, checkpoint_epochs=0, time_limit=None,
                              keep_weights="none", follow="tensorboard")
    assert here.where_of(args, tmp_path, "cpu").follow is None and here.where_of(args, tmp_path, "cpu").follow is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"regatta: --follow tensorboard: {why}; the runs go on and write no curves"


@pytest.mark.parametrize(("word", "sentence"), [("wandb", "knows tensorboard alone"),
                                                ("tensorboard", "needs tensorboard, which is not installed")])
def test_what_cannot_follow_is_one_sentence(word: str, sentence: str, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("bench.verbs.words.lacking", lambda names: f"needs {names[0]}, which is not installed: "
                        f"python -m pip install -c constraints.txt -e '.[{names[0]}]'")
    with pytest.raises(SystemExit) as left:
        cli.main(["run", "--datasets", "digits", "--follow", word])
    told = capsys.readouterr()
    assert left.value.code == 2 and sentence in told.err and len(told.err.splitlines()) == 1 and not told.out
