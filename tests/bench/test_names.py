"""A file is found by its name: no two of a folder differ by an ending, each says its idea; a step names no method."""

from __future__ import annotations

import ast
import re
from itertools import permutations
from pathlib import Path

import pytest

from methods.catalog import catalog

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "datasets", "methods", "results", "reports")
FOLDERS = sorted({path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")})
PAPERS = ROOT / "methods" / "adapters"  # named as their papers call them: lora, lora_last; fact, fact_tt


def confused(names: set[str]) -> list[tuple[str, str]]:
    """Pairs of which one is the other with an ending, the plural's or the past's for instance."""
    endings = r"(s|es|d|ed|ing|er|_\w+)"
    return sorted((a, b) for a, b in permutations(names, 2) if re.fullmatch(re.escape(a) + endings, b))


def test_what_differs_by_an_ending_is_found() -> None:
    assert confused({"table", "tables", "fgvc", "fgvc_raw", "plan", "planet", "publish", "published"}) == [
        ("fgvc", "fgvc_raw"), ("publish", "published"), ("table", "tables")]


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f != PAPERS], ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_two_files_of_a_folder_differ_by_an_ending(folder: Path) -> None:
    inside = {p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert confused(inside) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_says_its_one_idea_first(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(told.partition("\n\n")[0]) > 15, f"{path.relative_to(ROOT)} has no docstring"


@pytest.mark.parametrize(("file", "function", "lines"), [("train.py", "train", 40), ("step.py", "take", 40)])
def test_the_loop_and_a_step_fit_on_a_screen_and_name_no_method(file: str, function: str, lines: int) -> None:
    tree = ast.parse((ROOT / "bench" / "engine" / file).read_text(encoding="utf-8"))
    (found,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function]
    assert found.end_lineno is not None and found.end_lineno - found.lineno < lines
    words = {w for n in ast.walk(tree) for w in (getattr(n, "id", None), getattr(n, "attr", None),
                                                 n.value if isinstance(n, ast.Constant) else None)}
    assert "optimizer" in {getattr(n, "attr", None) for n in ast.walk(tree)}, "the words of a file are seen"
    assert words & {part.name for part in catalog().values()} == set()
