"""What is given to make arrives in the command as it was typed, and is never run: not by the shell, not by make."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = ("DATASETS", "SEEDS", "BACKBONES", "ARGS")  # cut at spaces; METHODS is cut by the program
SINGLE = ("SUITE", "METHODS", "DATA", "TUNE", "CLUSTER", "PARTITION", "JOBS")
HOSTILE = ("x; touch y", "x $(touch y)", "`touch y`", "x\ntouch y", "x & touch y", "x > y", "$(shell touch y)",
           '"; touch y; "', "x || touch y #", "${y:=z}$$(touch y)", "x <(touch y)", "'; touch y; '")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with our Makefile, an installation that is done, and a Python that writes down its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "installed").touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\0" "$@" $\'\\n\' >> told\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def made(checkout: Path, target: str, from_environment: bool = False, **given: str) -> tuple[int, list[list[str]]]:
    """(exit status, the arguments of each command) of `make target NAME=value ...`."""
    told = checkout / "told"
    told.unlink(missing_ok=True)
    clean = {k: v for k, v in os.environ.items() if k not in (*LISTS, *SINGLE, "MAKEFLAGS")}
    words = [] if from_environment else [f"{k}={v}" for k, v in given.items()]
    done = subprocess.run(["make", target, "PY=./python", "STAMP=installed", *words], cwd=checkout, check=False,
                          capture_output=True, env=clean | (given if from_environment else {}))
    calls = told.read_bytes().decode().split("\0\n\0")[:-1] if told.exists() else []
    return done.returncode, [call.split("\0") for call in calls]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", [*LISTS, *SINGLE])
def test_no_variable_is_run(checkout: Path, name: str, text: str) -> None:
    before = {p.name for p in checkout.iterdir()} | {"told", "results"}
    for target in ("plan", "submit", "bench", "perf", "report"):
        for from_environment in (False, True)[:1 + (target == "plan")]:
            made(checkout, target, from_environment, **{"METHODS": "lora", "TUNE": "4"} | {name: text})
            assert {p.name for p in checkout.iterdir()} <= before, f"make {target} {name}={text!r} ran it"


@pytest.mark.parametrize("text", [t for t in HOSTILE if "'" not in t and '"' not in t])
@pytest.mark.parametrize("name, option", [("DATASETS", "--datasets"), ("SEEDS", "--seeds"), ("SUITE", "--suite"),
                                          ("METHODS", "--methods"), ("DATA", "--root"), ("JOBS", "--jobs"),
                                          ("PARTITION", "--partition"), ("ARGS", None)])
def test_every_character_arrives(checkout: Path, name: str, option: str | None, text: str) -> None:
    status, calls = made(checkout, "submit", **{name: text})
    assert status == 0
    expected = text.split() if name in LISTS else [text]
    assert calls == [["-m", "bench", "submit", *([option] if option else []), *expected]]


def test_lists_become_words_and_files_are_not_looked_for(checkout: Path) -> None:
    _, calls = made(checkout, "plan", DATASETS="svhn * dtd", SEEDS="0 1 2", METHODS="lora lora+pace(sigma=1)",
                    ARGS="--set lr=1e-3 '--why not' \"a  b\" pyproject.tom?")
    assert calls == [["-m", "bench", "plan", "--datasets", "svhn", "*", "dtd", "--methods", "lora lora+pace(sigma=1)",
                      "--seeds", "0", "1", "2", "--set", "lr=1e-3", "--why not", "a  b", "pyproject.tom?"]]


def test_tuning_makes_three_commands_and_none_gives_no_option(checkout: Path) -> None:
    _, calls = made(checkout, "bench", TUNE="4", SEEDS="0 1")
    assert calls == [["-m", "bench", "tune", "--budget", "4"], ["-m", "bench", "select"],
                     ["-m", "bench", "run", "--seeds", "0", "1", "--tuned"]]
    assert made(checkout, "bench")[1] == [["-m", "bench", "run"]]
    assert made(checkout, "test")[1] == [["-m", "tests"]]


def test_an_open_quote_in_args_is_an_error_and_nothing_runs(checkout: Path) -> None:
    status, calls = made(checkout, "plan", ARGS="--why 'not")
    assert status != 0 and calls == []
