"""`folder:PATH` as a user meets it: read, told of, refused in one go, run under its own name without its path."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from bench import checkout
from bench.cli import main
from bench.engine.record import classify
from bench.planning import own
from datasets.own import note
from results import store, suites
from tests.datasets.test_own import draw


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes, and a checkout whose records, notes and caches lie elsewhere."""
    for name in ("RUNS", "CLAIMS", "CACHE", "FOLDERS"):
        monkeypatch.setattr(checkout, name, tmp_path / "kept" / name.lower())
    for module in (store, suites):
        monkeypatch.setattr(module, "ROOT", tmp_path / "kept")
    monkeypatch.setenv(note.PLACE, str(tmp_path / "kept" / "folders"))
    for i in range(10):
        draw(tmp_path / "my fruits" / "apple" / f"{i}.png", i)
    for i in range(6):
        draw(tmp_path / "my fruits" / "pear" / f"{i}.png", 100 + i)
    return tmp_path / "my fruits"


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        status = main(words)
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_a_folder_is_planned_with_three_seeds_and_told_of(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(["plan", "--datasets", f"folder:{fruits}", "--json"], capsys)
    assert status == 0
    runs = json.loads(out)["runs"]
    assert {r["spec"]["dataset"].partition("@")[0] for r in runs} == {"my_fruits"} and len(runs) % 3 == 0
    assert "16 images of 2 classes" in err and "your folder stays as it is" in err
    assert str(fruits) not in out


def test_one_run_keeps_the_name_and_the_classes_but_never_the_place(
        fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(["run", "--datasets", f"folder:{fruits}", "--methods", "linear", "--seeds", "0", "--epochs",
                             "1", "--no-report", "--jobs", "1"], capsys)
    assert status == 0, err
    file = next((checkout.RUNS).rglob("*.json"))
    record = json.loads(file.read_text())
    row = next(line for line in out.splitlines() if line.startswith("linear"))
    assert "macro-F1" in out and row.split()[1] == f"{100 * record['metrics']['test.top1']:.1f}"
    assert record["status"] == "ok" and record["spec"]["dataset"].startswith("my_fruits@")
    assert record["dataset"]["class_names"] == ["apple", "pear"] and "test.macro_f1" in record["metrics"]
    assert str(fruits) not in file.read_text() and str(fruits.parent) not in file.read_text()
    weights = next(checkout.RUNS.rglob("*.safetensors"))
    assert b'"apple"' in weights.read_bytes()[:5000].replace(b"\\", b"")


def test_what_is_wrong_stops_before_anything_runs(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fruits / "apple" / "bad.jpg").write_bytes(b"?")
    draw(fruits / "plum" / "0.png", 7)
    status, _, err = said(["run", "--datasets", f"folder:{fruits}"], capsys)
    assert status == 2 and "apple/bad.jpg" in err and "plum" in err and "--partial" in err
    assert not checkout.RUNS.exists()
    (fruits / "plum" / "0.png").unlink()
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}", "--partial"], capsys)
    assert status == 0 and "left aside" in err


def test_a_folder_that_is_named_without_its_mark_is_told_it(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = said(["plan", "--datasets", str(fruits)], capsys)
    assert status == 2 and f"images of your own are folder:{fruits}" in err


def test_a_real_set_beside_a_folder_has_the_folders_suite(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was planned as the demo, where a folder has no stand-in."""
    words = ["plan", "--datasets", f"folder:{fruits}", "digits", "--methods", "linear", "--json"]
    status, out, err = said(words, capsys)
    assert status == 0, err
    specs = [r["spec"] for r in json.loads(out)["runs"]]
    assert {s["dataset"].partition("@")[0] for s in specs} == {"my_fruits", "digits"}
    assert {(s["epochs"], s["batch_size"]) for s in specs} == {(20, 16)}


def test_a_backbone_beside_a_folder_says_that_the_recipe_is_another(fruits: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--datasets", f"folder:{fruits}", "--methods", "linear", "--backbones", "regatta_vit_64", "--json"]
    status, out, err = said(words, capsys)
    assert status == 0 and "--suite folder keeps those" in err
    assert json.loads(out)["runs"][0]["spec"]["batch_size"] == 64
    status, out, err = said([*words, "--suite", "folder"], capsys)
    assert status == 0 and "--suite folder" not in err
    assert json.loads(out)["runs"][0]["spec"]["batch_size"] == 16
    assert "--suite folder" not in said(words[:5], capsys)[2]


@pytest.mark.parametrize("words", [["plan", "--datasets", "folder:/nowhere/at/all"], ["data", "split", "/nowhere"],
                                   ["data", "new", "just_one_word"], ["data", "split", ".", "--root", "x", "--raw"],
                                   ["data", "check", "svhn", "--root", ".", "--write"]])
def test_mistakes_get_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = said(words, capsys)
    assert status == 2 and err.startswith("regatta:") and "Traceback" not in err


def test_the_split_is_shown_and_written_on_demand(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["data", "split", str(fruits)], capsys)[0] == 0
    assert not list(fruits.glob("*.csv"))
    assert said(["data", "split", str(fruits), "--write"], capsys)[0] == 0
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}/regatta-split.csv"], capsys)
    assert status == 0 and "10 train" in err


def test_data_check_tells_of_a_folder_what_a_run_would_be_told(
        fruits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA", raising=False)
    (fruits / "plum").mkdir()
    status, out, err = said(["data", "check", f"folder:{fruits}"], capsys)
    assert status == 0 and not err and "16 images of 2 classes" in out
    assert "my fruits: worth knowing: plum has no image that can be read" in out
    (fruits / "apple" / "bad.jpg").write_bytes(b"?")
    (fruits / "pear" / "x.png").write_bytes((fruits / "apple" / "0.png").read_bytes())
    planned = said(["plan", "--datasets", f"folder:{fruits}"], capsys)[2].removeprefix("regatta: ")
    status, out, _ = said(["data", "check", f"folder:{fruits}", "folder:/nowhere"], capsys)
    assert status == 1 and out.splitlines()[0] == planned.strip() and "folder:/nowhere does not exist" in out
    (fruits / "pear" / "x.png").unlink()
    status, out, _ = said(["data", "check", f"folder:{fruits}", "--partial"], capsys)
    assert status == 0 and "1 image that cannot be read left aside: apple/bad.jpg" in out
    status, _, err = said(["data", "hashes", f"folder:{fruits}"], capsys)
    assert status == 2 and "folder:PATH goes with check, new and split, not with hashes" in err


def test_names_of_files_and_folders_are_told_on_one_line_with_hidden_signs_spelled_out(
        fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = [fruits / "apple" / "a\nb.png", fruits / "pe\x1bar\tx" / "0.png"]
    for number, file in enumerate(odd):
        draw(file, 50 + number)
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}"], capsys)
    assert status == 2 and len(err.splitlines()) == 1
    assert "apple/a\\nb.png has a control character in its name; rename it" in err and "pe\\x1bar\\tx/0.png has" in err
    for file in odd:
        file.unlink()
    rows = "".join(f'apple/{i}.png,"re\nd"\npear/{i % 6}.png,green\n' * (i < 6) for i in range(10))
    (fruits / "my.csv").write_text(f"path,label\n{rows}apple/9.png,\"o\nne\"\n")
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}/my.csv"], capsys)
    assert status == 2 and len(err.splitlines()) == 1 and "fewer than three images" in err and "o\\nne" in err


def test_partial_counts_and_names_every_image_that_it_leaves_aside(
        fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fruits / "apple" / "bad.jpg").write_bytes(b"?")
    draw(fruits / "apple" / "a\nb.png", 50)
    (fruits / "pear" / os.fsdecode(b"caf\xe9.png")).write_bytes((fruits / "pear" / "0.png").read_bytes())
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}"], capsys)
    assert status == 2 and len(err.splitlines()) == 1 and "3 images cannot be read" in err
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}", "--partial"], capsys)
    assert status == 0 and "16 images of 2 classes" in err
    assert "3 images that cannot be read left aside: apple/a\\nb.png, apple/bad.jpg, pear/caf\\udce9.png" in err
    for name in ("bad.jpg", "../pear/" + os.fsdecode(b"caf\xe9.png")):
        (fruits / "apple" / name).unlink()
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}", "--partial"], capsys)
    assert status == 0 and "1 image that cannot be read left aside: apple/a\\nb.png" in err


def test_a_folder_whose_place_is_no_utf8_is_read(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = fruits.rename(fruits.parent / os.fsdecode(b"fr\xfcchte"))
    status, _, err = said(["plan", "--datasets", f"folder:{place}"], capsys)
    assert status == 0 and "fr\\udcfcchte: 16 images of 2 classes" in err
    (file,) = checkout.FOLDERS.glob("*.json")
    assert Path(json.loads(file.read_text(encoding="utf-8"))["place"]) == place


def test_folders_that_are_hidden_are_left_aside_and_told(fruits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("..c", ".git", "pear/.old"):
        draw(fruits / name / "0.png", 60)
    status, _, err = said(["plan", "--datasets", f"folder:{fruits}"], capsys)
    assert status == 0 and "16 images of 2 classes" in err
    assert "hidden by the dot that their names begin with, and left aside: ..c/, .git/, pear/.old/" in err


def test_a_folder_that_goes_away_under_a_command_is_named(fruits: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    def gone(place: Path, *rest: object) -> None:
        shutil.rmtree(place)
        (place / "apple" / "0.png").stat()

    monkeypatch.setattr(own, "scan", gone)
    status, out, err = said(["plan", "--datasets", f"folder:{fruits}"], capsys)
    assert status == 1 and not out
    assert err == (f"regatta: {str(fruits)!r} is missing; put it back; what was stored before stays, the same command "
                   "goes on from here\n")
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", str(fruits / "apple" / "0.png"))
    status_, failure = classify(error, None)
    assert (status_, failure.kind) == ("failed", "data") and failure.message.startswith("'my fruits' is missing")
