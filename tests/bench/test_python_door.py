"""`from bench import plan, run, results`: the words of the command line as keywords, answers as DataFrames."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import bench
from bench import checkout, cli, door

ROOT = Path(__file__).resolve().parents[2]
ONE = {"suite": "demo", "datasets": "digits", "methods": ["linear"], "seeds": [0, 1], "epochs": 1, "no_report": True}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNS", "CLAIMS", "CACHE"):
        monkeypatch.setattr(checkout, name, tmp_path / name.lower())


def test_the_three_functions_are_found_in_the_package() -> None:
    assert (bench.plan, bench.run, bench.results) == (door.plan, door.run, door.results)
    with pytest.raises(AttributeError):
        bench.nothing  # noqa: B018


def test_keywords_are_the_words_of_the_command_line() -> None:
    asked = {"datasets": ["a", "b"], "batch_size": 8, "set": {"lr": 0.1}, "again": None, "strict": True,
             "no_cache": False}
    wanted = ["run", "--datasets", "a", "b", "--batch-size", "8", "--set", "lr=0.1", "--strict"]
    assert door.words("run", asked) == wanted


def test_a_plan_a_run_and_its_results() -> None:
    asked = {k: v for k, v in ONE.items() if k != "no_report"}
    planned = bench.plan(**asked)
    assert list(planned["state"]) == ["missing", "missing"] and list(planned["seed"]) == [0, 1]
    assert bench.results(**asked).empty
    done = bench.run(**ONE)
    assert list(done["id"]) == list(planned["id"]) and set(done["status"]) == {"ok"}
    assert done["test.top1"].between(0.2, 1).all()  # ten classes: a probe of one epoch is above chance
    assert done.equals(bench.results(**asked)) and set(bench.plan(**asked)["state"]) == {"done"}


@pytest.mark.parametrize("asked, sentence", [
    ({"datasets": "svnh"}, "did you mean svhn"), ({"seeds": ["x"]}, "--seeds"), ({"sedes": 1}, "--sedes"),
    ({"methods": "lora+full"}, "2 adapters")])
def test_a_mistake_is_a_value_error_with_the_sentence(asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        bench.plan(**asked)  # type: ignore[arg-type]


def test_small_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"regatta {told}\n"
    assert cli.main(["list"]) == 0
    assert "list suites" in capsys.readouterr().out
    assert cli.main(["run", "--suite", "demo", "--datasets", "digits", "--methods", "linear", "--dry-run"]) == 0
    assert "1 missing" in capsys.readouterr().out and not list(checkout.RUNS.rglob("*.json"))
