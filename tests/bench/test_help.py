"""`--help` of every command stands in groups and names no option that the command does not read."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.planning.profile import Profile
from bench.verbs import completion

BENCH = Path(__file__).resolve().parents[2] / "bench"
FILES = [*sorted((BENCH / "verbs").glob("*.py")), BENCH / "planning" / "profile.py"]
PARSER: Any = cli._parser()
(VERBS,) = [a.choices for a in PARSER._actions if isinstance(a, argparse._SubParsersAction)]
BY_CLI = {"help", "extra", "do"}  # read for every command


@cache
def functions() -> dict[str, list[tuple[Path, ast.FunctionDef]]]:
    """Name -> every function so called in the files that read what was typed."""
    found: dict[str, list[tuple[Path, ast.FunctionDef]]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, []).append((path, node))
    return found


def reads(function: ast.FunctionDef) -> Iterator[str]:
    """Options that a function takes from `args`, by name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "args":
            yield node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "pick"):
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
            if any(getattr(a, "attr", "") == "name" for a in node.args):  # a profile's every field
                yield from (f.name for f in fields(Profile))


def reached(verb: str) -> set[str]:
    """Options that the command reads, itself or in what it calls."""
    act = VERBS[verb].get_default("do")
    home = Path(act.__code__.co_filename)
    waiting = [node for path, node in functions()[act.__name__] if path == home]
    seen, found = set[int](), set[str]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found |= set(reads(one))
        names = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(one)} - {"act", "add"}
        waiting += [node for name in names for _, node in functions().get(name, ())]
        further = {n.value.id for n in ast.walk(one) if isinstance(n, ast.Attribute) and n.attr == "act"
                   and isinstance(n.value, ast.Name)}  # of other commands, as the ladder calls them
        waiting += [node for path, node in functions()["act"] if path.stem in further]
    return found


def shown(verb: str) -> list[argparse.Action]:
    return [a for a in VERBS[verb]._actions if a.help is not argparse.SUPPRESS]


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_the_help_names_is_read(verb: str) -> None:
    unread = {a.dest for a in shown(verb)} - reached(verb) - BY_CLI
    assert not unread, f"{verb} reads nothing of {sorted(unread)}"


def test_what_nobody_reads_is_noticed() -> None:
    assert "keep_weights" in reached("run") and "keep_weights" not in reached("select")
    assert "partition" in reached("submit") and "partition" not in reached("run")


@pytest.mark.parametrize("verb", VERBS)
def test_a_long_help_stands_in_groups(verb: str) -> None:
    plain = [a for g in VERBS[verb]._action_groups if g.title == "options" for a in g._group_actions
             if a.help is not argparse.SUPPRESS]
    assert len(plain) <= 10, [a.dest for a in plain]
    assert all(a.help for a in shown(verb) if a.option_strings and len(plain) > 3), "each says what it does"


def test_words_that_go_through_tune_and_run_go_through_select_unshown() -> None:
    """`make bench TUNE=... ARGS=...` hands one line to all three."""
    words = ["--device", "cpu", "--jobs", "2", "--keep-weights", "none", "--checkpoint-epochs", "3"]
    assert PARSER.parse_args(["select", *words]).device == "cpu"
    told = VERBS["select"].format_help()
    assert "--device" not in told and "--jobs" not in told and "--rule" in told
    assert "--keep-weights" not in completion._options(VERBS["select"])


def test_status_shows_nothing_of_how_runs_are_carried_out() -> None:
    told = VERBS["status"].format_help()
    assert "--jobs" not in told and "--watch" in told
    assert PARSER.parse_args(["status", "--jobs", "2"]).jobs == 2
