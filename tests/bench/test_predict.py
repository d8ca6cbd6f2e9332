"""A stored run answers for images of any kind as it answered for its test images; what cannot be read is named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import checkout, cli
from bench.engine.record import execute
from datasets import registry
from results import store
from results.schema import RunResult

from . import tiny

NAMES = ("night", "dusk", "dawn", "noon")


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def _run(runs: Path, method: str = "lora", keep: str = "all", **changes: object) -> RunResult:
    where = tiny.where(runs.parent, checkpoints=None, keep_weights=keep)
    record = execute(tiny.spec(method, epochs=2, **changes), {}, where, runs)
    assert record.status == "ok", record.failure
    return record


def _pictures(place: Path) -> list[Path]:
    """The test images as files without loss."""
    place.mkdir()
    made = []
    for i, item in enumerate(tiny.items(place, "test")):
        made.append(place / f"{i:02d}.png")
        item.image.open().save(made[-1])
    return made


@pytest.mark.parametrize("changes", ({}, {"merged_eval": True}, {"class_query": True}, {"precision": "bf16"}))
def test_the_answers_for_test_images_are_the_stored_predictions(
        runs: Path, changes: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    record = _run(runs, **changes)
    _pictures(runs.parent / "images")
    assert cli.main(["predict", record.run_id, str(runs.parent / "images"), "--json", "--top", "1"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with np.load(store.path_of(record.spec, runs).with_suffix(".npz")) as kept:
        assert [s["classes"][0]["class"] for s in said] == kept["pred"].tolist()
        assert [s["classes"][0]["probability"] for s in said] == pytest.approx(kept["confidence"].tolist(), abs=2e-6)


def test_names_are_told_where_they_are_known_and_numbers_elsewhere(
        runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    record = _run(runs)
    image = _pictures(runs.parent / "images")[0]
    assert cli.main(["predict", record.run_id[:8], str(image)]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{image}   class ") and line.count("%") == 3
    monkeypatch.setitem(registry._cards, tiny.DATASET, replace(registry.get(tiny.DATASET), class_names=NAMES))
    named = _run(runs, seed=1)
    assert cli.main(["predict", named.run_id, str(image), "--json", "--top", "9"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert [NAMES[c["class"]] for c in classes] == [c["name"] for c in classes] and len(classes) == 4
    assert sum(c["probability"] for c in classes) == pytest.approx(1, abs=1e-5)


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_answered(
        runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = _run(runs)
    good = _pictures(runs.parent / "images")[0]
    bad = runs.parent / "broken.png"
    bad.write_bytes(good.read_bytes()[:60])
    assert cli.main(["predict", record.run_id, str(bad), str(good)]) == 1
    said = capsys.readouterr()
    assert "broken.png cannot be read as an image" in said.err and "Traceback" not in said.err
    assert said.out.count("\n") == 1 and str(good) in said.out


def test_what_is_no_image_no_folder_of_images_or_no_run_is_a_sentence(
        runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = _run(runs)
    (runs.parent / "empty").mkdir()
    assert cli.main(["predict", record.run_id, str(runs.parent / "nowhere.png"), str(runs.parent / "empty")]) == 2
    said = capsys.readouterr().err
    assert "there is no image" in said and "nowhere.png" in said and "there is no image in the folder" in said
    assert cli.main(["predict", "ffffffffffff", str(runs)]) == 2
    assert "no run is called 'ffffffffffff'" in capsys.readouterr().err


def test_a_folder_without_images_is_named_and_the_others_are_answered(
        runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, good = _run(runs), _pictures(runs.parent / "images")[0]
    (runs.parent / "empty").mkdir()
    nowhere = runs.parent / "nowhere.png"
    assert cli.main(["predict", record.run_id, str(runs.parent / "empty"), str(good), str(nowhere)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{good}   class ") and said.out.count("\n") == 1
    empty, gone = said.err.splitlines()
    assert empty.startswith(f"regatta: there is no image in the folder '{runs.parent / 'empty'}'; leave it out")
    assert gone == f"regatta: there is no image '{nowhere}'"


def test_a_name_of_two_lines_or_without_letters_is_told_on_one_line(
        runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, good = _run(runs), _pictures(runs.parent / "images")[0]
    odd = [runs.parent / name for name in ("a\nb.png", os.fsdecode(b"caf\xe9.png"))]
    for file in odd:
        file.write_bytes(good.read_bytes())
    (runs.parent / "bad\nfile.png").write_bytes(b"?")
    words = ["predict", record.run_id, *map(str, odd), str(runs.parent / "bad\nfile.png")]
    assert cli.main(words) == 1
    said = capsys.readouterr()
    first, second = said.out.splitlines()
    assert first.startswith(f"{runs.parent}/a\\nb.png   ") and second.startswith(f"{runs.parent}/caf\\udce9.png   ")
    assert first.index(" class") == second.index(" class"), "a table's columns stand one below the other"
    assert said.err.count("\n") == 1 and "bad\\nfile.png cannot be read" in said.err and "<" not in said.err
    assert cli.main([*words, "--json"]) == 1
    assert [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()] == list(map(str, odd))


def test_a_run_without_weights_says_what_stores_them(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = _pictures(runs.parent / "images")[0]
    without = _run(runs, keep="none")
    assert cli.main(["predict", without.run_id, str(image)]) == 2
    assert "stored no weights; the same words with `--keep-weights all` store them" in capsys.readouterr().err
    lost = _run(runs, seed=1)
    store.path_of(lost.spec, runs).with_suffix(".safetensors").unlink()
    assert cli.main(["predict", lost.run_id, str(image)]) == 2
    assert "has no stored weights here" in capsys.readouterr().err


def test_a_run_that_adapts_at_test_says_that_it_does_not_here(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = _run(runs, "lora+ugr(objective='ent', tta='online')")
    assert cli.main(["predict", record.run_id, str(_pictures(runs.parent / "images")[0])]) == 0
    assert "adapted its weights to the test images; here they are as they were stored" in capsys.readouterr().err
