"""A run of a user's folder, afterwards: what was left out is told with its numbers, and it is made again elsewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from bench import checkout
from bench.cli import main
from bench.embedded.model import DRAWN
from bench.engine import zeroshot
from bench.engine.zeroshot import ClassHead
from bench.planning.again import again
from bench.verbs.sent import look
from datasets.own import note
from reports.cli import main as reports
from results import selections, store, suites
from results.schema import RunResult
from tests.datasets.test_own import draw

from .test_own import said

WORDS = ("--methods", "linear", "--seeds", "0", "--epochs", "1")


class Made(NamedTuple):
    """A folder of two classes with one file that is no image, and what a run of it under --partial left and said."""

    place: Path
    kept: Path
    printed: str
    record: RunResult


def there(kept: Path, patch: pytest.MonkeyPatch) -> None:
    """A checkout whose records, notes and caches lie elsewhere."""
    for name in ("RUNS", "CLAIMS", "CACHE", "FOLDERS", "RECEIVED"):
        patch.setattr(checkout, name, kept / name.lower())
    patch.setattr(store, "ROOT", kept)
    patch.setattr(suites, "ROOT", kept)
    patch.setattr(selections, "FOLDER", kept / "selections")
    patch.setenv(note.PLACE, str(kept / "folders"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    home = tmp_path_factory.mktemp("home")
    place, kept = home / "my fruits", home / "kept"
    for i in range(10):
        draw(place / "apple" / f"{i}.png", i)
        draw(place / "pear" / f"{i}.png", 100 + i)
    (place / "apple" / "bad.jpg").write_bytes(b"?")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        there(kept, patch)
        assert main(["run", "--datasets", f"folder:{place}", *WORDS, "--no-report", "--jobs", "1", "--partial"]) == 0
    yield Made(place, kept, printed.getvalue(), store.load(next((kept / "runs").rglob("*.json"))))


@pytest.fixture
def made(finished: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same in a place of its own for each test."""
    shutil.copytree(finished.kept, tmp_path / "kept")
    there(tmp_path / "kept", monkeypatch)
    return finished._replace(kept=tmp_path / "kept")


def test_the_record_says_how_many_images_were_left_out(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    spec, dataset = made.record.spec, made.record.dataset
    assert spec.partial and dataset is not None and dataset.left_out == 1
    assert "my fruits: PARTIAL DATA: an image of the folder could not be read and was left out" in made.printed
    status, _, err = said(["plan", "--datasets", spec.dataset, *WORDS], capsys)
    assert status == 2 and "1 image that cannot be read left out" in err and "--partial" in err


def test_where_nothing_is_left_out_the_word_changes_nothing(made: Made, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "my fruits"
    shutil.copytree(made.place, whole)
    (whole / "apple" / "bad.jpg").unlink()
    found = []
    for more in ([], ["--partial"]):
        _, out, _ = said(["plan", "--datasets", f"folder:{whole}", *WORDS, "--json", *more], capsys)
        found += [run["spec"] for run in json.loads(out)["runs"]]
    assert found[0] == found[1] and found[0]["data"] == made.record.spec.data.replace("partial:", "lists:")
    assert found[0]["dataset"] == made.record.spec.dataset, "the images that are read are the same"


def test_show_the_tables_and_an_exported_card_say_it(made: Made, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "PARTIAL DATA: an image of the folder could not be read and was left out (run with --partial)"
    status, out, _ = said(["show", made.record.run_id], capsys)
    assert status == 0 and out.splitlines()[1] == sentence
    assert said(["export", made.record.run_id, "--as", "state-dict", "--out", str(tmp_path / "out")], capsys)[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"**{sentence}.**" in card
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["dataset"]["name"] == \
        "my fruits (partial data)"
    assert reports(["build", "--records", str(made.kept / "runs"), "--suites", str(made.kept / "suites"), "--out",
                    str(tmp_path / "tables")]) == 0
    page = (tmp_path / "tables" / "LEADERBOARD.md").read_text()
    assert "PARTIAL DATA of my fruits (1 image left out)" in page and "¶" in page
    assert "- my fruits: 1 image of the folder could not be read, left out by --partial" in page


def test_a_card_for_keeping_says_what_it_was_made_without(made: Made, tmp_path: Path) -> None:
    from datasets.own import keep
    from datasets.registry import get

    (tmp_path / "package").mkdir()
    files = keep.write_card("fruit_bowl", get(made.record.spec.dataset), made.kept / "folders", tmp_path / "package")
    kept = keep.kept(files[1], "Fruits", "https://example.org", "mine", "")
    assert kept.note == "without 1 of their images, which could not be read" and "left_out" not in kept.facts


def test_the_line_that_makes_it_again_names_the_folder_and_the_leave(made: Made, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [one.strip() for one in said(["show", made.record.run_id], capsys)[1].splitlines() if "bench run" in one]
    assert "--datasets folder:FOLDER " in line and "--root" not in line and line.endswith(" --partial")
    words = [word.replace("FOLDER", str(made.place)) for word in shlex.split(line)[4:]]
    shutil.rmtree(made.kept / "folders")  # as in another clone
    assert again(made.record).command == line
    status, out, err = said(["plan", *words, "--json"], capsys)
    assert status == 0, err
    assert [(run["id"], run["state"]) for run in json.loads(out)["runs"]] == [(made.record.run_id, "done")]


def test_a_folder_that_was_divided_by_another_seed_is_made_again_by_its_name(
        made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["data", "split", str(made.place), "--partial", "--seed", "5"], capsys)[0] == 0
    (name,) = {p.stem for p in checkout.FOLDERS.glob("*.json")} - {made.record.spec.dataset}
    how = again(replace(made.record, spec=replace(made.record.spec, dataset=name)))
    assert f"--datasets {name} " in how.command
    assert f"{name} is known by that name after `python -m bench data split FOLDER --seed 5`" in how.told


def test_a_pack_of_a_folders_runs_is_verified_elsewhere_where_the_folder_is_given(
        made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pack, theirs, run = tmp_path / "my runs.zip", tmp_path / "their pictures", made.record.run_id
    assert said(["pack", run, "--out", str(pack)], capsys)[0] == 0
    shutil.copytree(made.place, theirs)
    (theirs / "apple" / "bad.jpg").unlink()  # nobody sends what cannot be read
    there(tmp_path / "clone", monkeypatch)
    status, out, _ = said(["submit-check", str(pack)], capsys)
    line = f"python -m bench submit-check {shlex.quote(str(pack))} --root FOLDER"
    assert status == 0 and "consistent: not scored again: the images of" in out and f"`{line}`" in out
    draw(tmp_path / "others" / "apple" / "0.png", 1)
    status, out, _ = said(["verify", run, "--root", str(tmp_path / "others")], capsys)
    assert status == 1 and "one class only" in out and f"`python -m bench verify {run} --root FOLDER`" in out
    shutil.copytree(theirs, tmp_path / "more")
    draw(tmp_path / "more" / "apple" / "new.png", 77)
    status, out, _ = said(["submit-check", str(pack), "--root", str(tmp_path / "more")], capsys)
    assert status == 0 and "more/ holds other images than" in out
    assert not list(checkout.FOLDERS.glob("*")), "nothing is noted of other images"
    status, out, _ = said([word.replace("FOLDER", str(theirs)) for word in shlex.split(line)[3:]], capsys)
    assert status == 0 and "1 verified" in out, out
    status, out, _ = said(["verify", run], capsys)  # the folder is known from now on
    assert status == 0 and "predictions are the same" in out
    theirs.rename(tmp_path / "moved")
    status, out, _ = said(["verify", run], capsys)
    assert status == 1 and "are not here; `python -m bench verify" in out
    status, out, _ = said(["verify", run, "--root", str(tmp_path / "moved")], capsys)
    assert status == 0 and "predictions are the same" in out


def test_advise_reads_a_folder_under_partial_and_says_so_in_its_command(made: Made,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    words = ["advise", "--datasets", f"folder:{made.place}", "--memory", "12GB", "--methods", "linear", "bitfit",
             "--epochs", "1"]
    status, _, err = said(words, capsys)
    assert status == 2 and "give --partial" in err
    status, out, _ = said([*words, "--partial"], capsys)
    row = next(line for line in out.splitlines() if line.startswith("linear"))
    assert status == 0 and " own" in row, "the run of this folder is known"
    command = shlex.split(out.splitlines()[-1])
    assert command[:6] == ["python", "-m", "bench", "run", "--datasets", f"folder:{made.place}"]
    assert "--partial" in command and "linear" not in command and "bitfit" in command


@pytest.mark.parametrize(("words", "end"), [
    ((), ""), (("--partial",), " --partial"), (("--partial", "--seed", "3"), " --partial")])
def test_the_line_that_data_split_prints_runs_what_it_shows(made: Made, words: tuple[str, ...], end: str,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    place = made.place if words else shutil.copytree(made.place, made.kept / "my fruits")
    if not words:
        (place / "apple" / "bad.jpg").unlink()
    status, out, _ = said(["data", "split", str(place), *words], capsys)
    line = out.splitlines()[-1].removeprefix("run it: python -m bench run ")
    known = out.splitlines()[0].rpartition("known as ")[2]
    assert status == 0 and line == (f"--datasets {known if '--seed' in words else shlex.quote(f'folder:{place}')}{end}")
    status, out, err = said(["plan", *shlex.split(line), *WORDS, "--json"], capsys)
    assert status == 0, err
    assert [run["spec"]["dataset"] for run in json.loads(out)["runs"]] == [known]


def test_the_line_of_submit_that_shows_how_far_it_is_can_be_typed(made: Made,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    line = look("folder", [made.record.spec])
    assert line == f"python -m bench status --suite folder --datasets {made.record.spec.dataset} --partial --watch"
    status, out, err = said(["status", *shlex.split(line)[4:-1], *WORDS], capsys)
    assert status == 0 and re.search(r"done +1$", out, re.MULTILINE), err
    assert look("demo", [replace(made.record.spec, dataset="digits", data="shipped:digits")]) == \
        "python -m bench status --suite demo --watch"


def test_the_lines_of_tune_and_select_keep_partial(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--datasets", f"folder:{made.place}", "--methods", "linear", "--partial"]
    status, _, err = said(["select", *words], capsys)
    line = re.search(r"`python -m bench (tune .*)` does it", err)
    assert status == 2 and line is not None and line[1].endswith("--budget 8 --partial")
    assert said([*shlex.split(line[1].replace("--budget 8", "--budget 1")), "--epochs", "1", "--jobs", "1"],
                capsys)[0] == 0
    status, out, _ = said(["select", *words], capsys)
    line = re.search(r"python -m bench (run .* --partial)$", out, re.MULTILINE)
    assert status == 0 and line is not None
    assert said(["plan", *shlex.split(line[1])[1:]], capsys)[0] == 0


def test_the_line_of_select_names_the_file_that_heads_start_from(made: Made, tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(2, DRAWN.width)).astype(np.float32)
    file = tmp_path / "class names.safetensors"
    zeroshot.write(ClassHead(rows, None, None, 1.0, ("apple", "pear")), file)
    words = ["--datasets", f"folder:{made.place}", "--methods", "full", "--partial"]
    searched = ["tune", *words, "--head", str(file), "--budget", "1", "--epochs", "1", "--jobs", "1"]
    assert said(searched, capsys)[0] == 0
    status, out, _ = said(["select", *words], capsys)
    assert status == 0 and out.rstrip().endswith("--head FILE --partial")
    _, out, _ = said(["select", *words, "--head", str(file)], capsys)
    line = re.search(r"python -m bench (run .* --partial)$", out, re.MULTILINE)
    assert line is not None and said(["plan", *shlex.split(line[1])[1:]], capsys)[0] == 0
