"""The examples of a method and a data set in docs/ get, saved where these say, all that is promised to such a file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.vtab.export import write

from .copied import copy_to, python

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = "".join((DOCS / f"adding-a-{what}.md").read_text() for what in ("method", "dataset"))


def example(mark: str) -> str:
    (found,) = (b for b in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if mark in b)
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tests = ("tests/methods", "tests/datasets", "tests/data", "tests/bench")
    folder = copy_to(tmp_path_factory.mktemp("checkout"), *tests)
    (folder / "methods" / "adapters" / "token_shift.py").write_text(example("@part("))
    (folder / "datasets" / "mushrooms.py").write_text(example("register(Card("))
    return folder


def bench(checkout: Path, *words: str, status: int = 0) -> str:
    done = python(checkout, "bench", *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_adapter_inherits_the_battery_and_passes_it(checkout: Path) -> None:
    done = python(checkout, "pytest", "tests/methods", "-k", "token_shift", "-rA", "-o", "addopts=",
                  "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(re.findall(r"^PASSED .*token_shift", done.stdout, re.MULTILINE)) >= 40


def test_the_adapter_is_listed_shown_planned_and_measured(checkout: Path) -> None:
    assert "token_shift" in bench(checkout, "list", "adapters")
    assert "pace" in bench(checkout, "show", "token_shift").partition("composes with:")[2]
    assert "576 trained" in bench(checkout, "show", "token_shift", "--backbone", "regatta_vit_48")
    what = ("--suite", "demo", "--datasets", "svhn", "--methods", "token_shift", "token_shift+pace", "--epochs", "1")
    plan = json.loads(bench(checkout, "plan", *what, "--json"))
    assert [run["method"] for run in plan["runs"]] == ["token_shift", "token_shift+pace"]
    assert "2 ok" in bench(checkout, "run", *what, "--no-report")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine kinds of noise in the layout that the card names, as many images as it promises."""
    root, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def pictures(count: int) -> Iterator[tuple[bytes, int]]:
        for i in range(count):
            stream = io.BytesIO()
            Image.fromarray(draw.integers(0, 99 + 17 * (i % 9), (8, 8, 3)).astype(np.uint8)).save(stream, "png")
            yield stream.getvalue(), i % 9

    (root / "mushrooms").mkdir()
    write(root / "mushrooms", {"train": pictures(800), "val": pictures(200), "test": pictures(5000)}, "png")
    return root


def test_the_data_set_is_listed_shown_checked_planned_and_trained_on(checkout: Path, data: Path) -> None:
    assert "mushrooms" in bench(checkout, "list", "datasets")
    assert "CC BY 4.0" in bench(checkout, "show", "mushrooms")
    assert "mushrooms: as promised" in bench(checkout, "data", "check", "mushrooms", "--root", str(data))
    what = ("--datasets", "mushrooms", "--methods", "linear", "--backbones", "regatta_vit_48",
            "--epochs", "1", "--root", str(data))
    assert "1 run" in bench(checkout, "plan", *what)
    assert "1 ok" in bench(checkout, "run", *what, "--no-report")


def test_the_data_set_inherits_its_tests(checkout: Path) -> None:
    done = python(checkout, "pytest", "tests/datasets/test_registry.py", "-k", "complete and mushrooms")
    assert done.returncode == 0, done.stdout[-3000:]


LISTER = '''"""Mushrooms in a layout of their own: a folder for each split, a folder for each class."""

from __future__ import annotations

from pathlib import Path

from .card import Card, DataError, Item
from .registry import register


def items(root: Path, split: str) -> list[Item]:
    folder = root / "fungi" / split
    if not folder.is_dir():
        raise DataError(f"{folder} is missing")
    return [Item(path, int(path.parent.name)) for path in sorted(folder.glob("*/*.png"))]


register(Card(
    name="fungi", title="Fungi", group="other", classes=2, splits={"trainval": 4, "test": 2},
    source="https://example.org/fungi", license="CC0", cite="nobody", folder="fungi", layout="folders", items=items,
))
'''


def test_a_layout_of_ones_own_needs_no_more_than_root_and_split(checkout: Path, tmp_path: Path) -> None:
    (checkout / "datasets" / "fungi.py").write_text(LISTER)
    try:
        assert "test is missing" in bench(checkout, "data", "check", "fungi", "--root", str(tmp_path), status=1)
        for split, count in (("trainval", 4), ("test", 2)):
            for i in range(count):
                path = tmp_path / "fungi" / split / str(i % 2) / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (i, 40 * (split == "test"), 9)).save(path)
        assert "fungi: as promised" in bench(checkout, "data", "check", "fungi", "--root", str(tmp_path))
        next((tmp_path / "fungi" / "test").glob("1/*")).unlink()
        assert "test has 1 image; expected 2" in bench(checkout, "data", "check", "fungi", "--root", str(tmp_path),
                                                        status=1)
    finally:
        (checkout / "datasets" / "fungi.py").unlink()
