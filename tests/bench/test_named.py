"""One's own experiments have one's own names, and a set can be forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import checkout, cli
from bench.dispatch.survey import _planned
from bench.planning.plan import Plan, make
from bench.planning.request import Request, UsageError
from bench.suites import SUITES
from bench.verbs.forget import files_of
from results import store
from results.suites import save_suite

ASKED = Request(suite="demo", datasets=("digits",), methods=("linear",), seeds=(0,), sets=("lr=0.5",), name="my-try.1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    monkeypatch.setattr("results.suites.ROOT", tmp_path)
    monkeypatch.setattr(checkout, "SITE", tmp_path / "site")
    monkeypatch.delenv("DATA", raising=False)
    return tmp_path


def planned(request: Request, home: Path) -> Plan:
    return make(request, home / "runs")


def test_a_name_of_ones_own_names_the_set_and_not_its_runs(home: Path) -> None:
    own, glued = planned(ASKED, home), planned(replace(ASKED, name=""), home)
    assert (own.view.name, glued.view.name) == ("my-try.1", "demo-lr0.5")
    assert own.view.title.startswith("my-try.1: ") and own.view.title.endswith("lr=0.5")
    assert [r.spec.id for r in own.runs] == [r.spec.id for r in glued.runs]
    assert _planned(ASKED)[0] == "my-try.1", "status names it alike"


def test_the_set_holds_what_was_asked_under_its_name_and_nothing_else(home: Path) -> None:
    first = planned(replace(ASKED, sets=()), home)
    assert [(e.method, e.dataset) for e in first.view.entries] == [("linear", "digits")], "not the whole suite"
    save_suite(first.view, home / "suites")
    second = planned(replace(ASKED, methods=("lora",)), home)
    assert {e.method for e in second.view.entries} == {"linear", "lora"}
    assert {e.run_id for e in first.view.entries} < {e.run_id for e in second.view.entries}


def test_custom_experiments_gather_under_a_name_too(home: Path) -> None:
    asked = replace(ASKED, suite="custom", data="standin", datasets=("svhn",), backbones=("regatta_vit_48",),
                    sets=())
    save_suite(planned(asked, home).view, home / "suites")
    assert {e.method for e in planned(replace(asked, methods=("lora",)), home).view.entries} == {"linear", "lora"}


@pytest.mark.parametrize(("name", "words"), [
    ("a b", "at most 60"), ("x" * 61, "at most 60"), ("../x", "at most 60"), (".x", "at most 60"), ("", "at most 60"),
    ("ä", "at most 60"), ("demo", "a suite is called so"), ("vtab1k-tuned", "a suite is called so"),
    ("Index", "the first page")])
def test_a_name_that_no_set_may_bear_is_one_sentence(name: str, words: str, home: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--datasets", "digits", "--name", name]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


@pytest.mark.parametrize("name", ["x" * 60, "A.b_c+d-1", "demo-of-mine"])
def test_other_names_are_free(name: str, home: Path) -> None:
    plan = planned(replace(ASKED, name=name), home)
    assert save_suite(plan.view, home / "suites").name == f"{name}.json"


def test_every_suite_keeps_its_name(home: Path) -> None:
    for name in SUITES:
        assert cli.main(["plan", "--datasets", "digits", "--name", name]) == 2


def test_a_config_file_may_say_it(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("suite: demo\ndatasets: digits\nmethods: linear\nseeds: 0\nname: mine\n")
    assert cli.main(["plan", "--config", str(file)]) == 0
    assert "suite mine: 1 run," in capsys.readouterr().out
    assert cli.main(["plan", "--config", str(file), "--name", "other"]) == 0
    assert "suite other: 1 run," in capsys.readouterr().out
    assert cli.main(["tune", "--config", str(file), "--budget", "2"]) == 2
    assert "name is for run" in capsys.readouterr().err
    file.write_text("name: [1]\n")
    assert cli.main(["plan", "--config", str(file)]) == 2


def test_tuned_sets_name_themselves() -> None:
    with pytest.raises(UsageError, match="names its set itself"):
        make(replace(ASKED, tuned=True, sets=()))


FILES = ("mine.html", "mine-standin-accuracy.csv", "mine-standin-accuracy.tex", "mine-real-params.svg")
OTHERS = ("mine-2.html", "mine-2-standin-accuracy.csv", "mine-standin.html", "mine-standin-real-params.svg",
          "index.html", ".built.json", "minefield.html")


def test_a_set_is_forgotten_and_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = planned(ASKED, home).view
    for name in ("mine", "mine-2", "mine-standin"):
        save_suite(replace(view, name=name), home / "suites")
    (home / "site").mkdir()
    (home / "runs").mkdir()
    for file in (*FILES, *OTHERS):
        (home / "site" / file).write_text("x")
    (home / "runs" / "record.json").write_text("x")
    assert cli.main(["forget", "mine"]) == 0
    told = capsys.readouterr().out
    assert "set mine: 5 files removed; its records stay" in told and "until the next `python -m reports build`" in told
    assert {p.name for p in (home / "site").iterdir()} == set(OTHERS)
    assert {p.name for p in (home / "suites").glob("*.json")} == {"mine-2.json", "mine-standin.json"}
    assert (home / "runs" / "record.json").exists()
    assert cli.main(["forget", "mine-2", "mine-standin"]) == 0
    assert "no set is left to build" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "words"), [("mien", "did you mean mine?"), ("../mine", "no set is called"),
                                             ("zzzzzz", "there are: mine"), ("*", "there are: mine")])
def test_an_unknown_set_is_one_sentence_and_nothing_is_removed(name: str, words: str, home: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    save_suite(replace(planned(ASKED, home).view, name="mine"), home / "suites")
    assert cli.main(["forget", "mine", name]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert (home / "suites" / "mine.json").exists()


def test_files_of_a_set_are_its_own(tmp_path: Path) -> None:
    for file in (*FILES, *OTHERS):
        (tmp_path / file).write_text("x")
    assert {p.name for p in files_of("mine", {"mine", "mine-2", "mine-standin"}, tmp_path)} == set(FILES)
