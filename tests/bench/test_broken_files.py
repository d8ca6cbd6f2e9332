"""A broken file in `methods/` or `datasets/` is named in one line; all else goes on, its own parts are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .copied import copy_to, python

METHOD = '''"""Broken on purpose."""

from __future__ import annotations

from ..base import Adapter
from ..compose import part
from ..vit import freeze, replace_head


@part("mine", "my")
class Mine(Adapter):
    """Mine."""

    def build(self, backbone, classes):
        freeze(backbone)
        return replace_head(backbone, classes)
'''
CARD = '''"""Broken on purpose."""

from __future__ import annotations

from .card import Card
from .registry import register

register(Card(name="ours", title="Ours", group="other", classes=2, splits={"trainval": 4, "test": 2}, source="none",
              license="none", cite="none", folder="ours", layout="none", items=lambda root, split: []))
'''
OPTION = '    """Mine."""\n\n    rank: int'
# what is wrong: (file, its text, the name to ask for, what the line says)
METHODS: dict[str, tuple[str, str, str]] = {
    "syntax": (METHOD.replace("return replace_head(", "return replace_head((", 1), "mine",
               "line 16: '(' was never closed"),
    "no default": (METHOD.replace('    """Mine."""', OPTION), "mine", "line 14: option 'rank' has no default"),
    "odd type": (METHOD.replace('    """Mine."""', OPTION.replace("int", "list[int] = 3")), "mine",
                 "option 'rank' is of type list[int]; it must be int, float, bool, str or a Literal"),
    "computed default": (METHOD.replace('    """Mine."""', OPTION + " = 2 * 4"), "mine", "default of option 'rank'"),
    "range in words": (METHOD.replace('    """Mine."""', OPTION.replace("int", "Annotated[int, '>= zero', 'x'] = 3")),
                       "mine", "the range '>= zero' of option 'rank' must be signs and numbers"),
    "half a formula": (METHOD.replace('    """Mine."""', '    """Mine."""\n\n    formula = "d L +"'), "mine",
                       "the formula of 'mine' cannot be read: 'd L +', at 'its end'; known are"),
    "no such module": (METHOD.replace("from ..vit", "import nowhere_to_be_found\nfrom ..vit"), "mine",
                       "line 7: there is no module 'nowhere_to_be_found'"),
    "no such sibling": (METHOD.replace("..vit", "..vitt"), "mine", "there is no module ..vitt"),
    "no such name": (METHOD.replace("import freeze,", "import freez,"), "mine", "vit.py has no 'freez'"),
    "not text": ("\x00", "broken", "null bytes"),
    "alias of another": (METHOD.replace('"my"', '"adapter"'), "mine", "both register 'adapter'"),
}
DATASETS: dict[str, tuple[str, str, str]] = {
    "syntax": (CARD + "def f(:\n", "ours", "line 10: invalid syntax"),
    "no such module": (CARD.replace("from .card", "import nowhere_to_be_found\nfrom .card"), "ours",
                       "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    "missing field": (CARD.replace('license="none", ', ""), "ours", "1 required positional argument: 'license'"),
    "half": (CARD + "raise RuntimeError('half way')\n", "ours", "RuntimeError: half way"),
    "name of another": (CARD.replace('name="ours"', 'name="digits"'), "digits", "'digits' is registered twice"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_to(tmp_path_factory.mktemp("checkout"))


@contextmanager
def with_file(checkout: Path, place: str, text: str) -> Iterator[None]:
    path = checkout / place
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink()


def warned(stderr: str, file: str) -> None:
    """One line, and it names the file."""
    lines = [line for line in stderr.splitlines() if line.startswith("regatta: ")]
    assert len(lines) == 1 and file in lines[0] and "everything else goes on" in lines[0], stderr


def refused(checkout: Path, name: str, file: str, words: tuple[tuple[str, ...], ...], why: str) -> None:
    for verb in words:
        done = python(checkout, "bench", *verb)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert repr(name) in last and f"{file} is mended" in last and why in last, last


@pytest.mark.parametrize("case", METHODS)
def test_a_broken_method_is_refused_and_the_others_go_on(checkout: Path, case: str) -> None:
    text, name, why = METHODS[case]
    with with_file(checkout, "methods/adapters/broken.py", text):
        listed = python(checkout, "bench", "list", "adapters")
        assert listed.returncode == 0 and "lora " in listed.stdout and "mine" not in listed.stdout, listed.stderr
        warned(listed.stderr, "methods/adapters/broken.py")
        assert why in listed.stderr
        other = ("--suite", "demo", "--datasets", "digits", "--methods", "lora")
        for verb in (("show", "lora"), ("plan", *other)):
            done = python(checkout, "bench", *verb)
            assert done.returncode == 0, done.stderr
            warned(done.stderr, "methods/adapters/broken.py")
        refused(checkout, name, "methods/adapters/broken.py",
                (("show", name), ("plan", *other[:-1], name), ("run", *other[:-1], f"{name}+pace")), why)


@pytest.mark.parametrize("case", DATASETS)
def test_a_broken_data_set_is_refused_and_the_others_go_on(checkout: Path, case: str) -> None:
    text, name, why = DATASETS[case]
    with with_file(checkout, "datasets/zz_broken.py", text):
        listed = python(checkout, "bench", "list", "datasets")
        assert listed.returncode == 0 and "Street View" in listed.stdout and "Ours" not in listed.stdout
        warned(listed.stderr, "datasets/zz_broken.py")
        for verb in (("show", "svhn"), ("plan", "--suite", "demo", "--datasets", "svhn")):
            done = python(checkout, "bench", *verb)
            assert done.returncode == 0, done.stderr
            warned(done.stderr, "datasets/zz_broken.py")
        refused(checkout, name, "datasets/zz_broken.py",
                (("show", name), ("plan", "--suite", "demo", "--datasets", name),
                 ("data", "check", name, "--root", ".")), why)


def test_others_run_beside_broken_files(checkout: Path) -> None:
    with (with_file(checkout, "methods/regularizers/broken.py", "def f(:\n"),
          with_file(checkout, "datasets/zz_broken.py", "raise ValueError('no')\n")):
        what = ("--suite", "demo", "--datasets", "digits", "--methods", "linear", "--epochs", "1")
        done = python(checkout, "bench", "run", *what, "--no-report")
        assert done.returncode == 0 and "1 ok" in done.stdout, done.stderr
        assert json.loads(python(checkout, "bench", "plan", *what, "--json").stdout)["counts"]["done"] == 1
        assert done.stderr.count("goes on without it") == 2


def test_what_only_importing_shows_is_the_sentence_of_its_runs(checkout: Path) -> None:
    """A name that an installed library lacks is not looked for while planning, which needs no torch."""
    text = METHOD.replace("from ..vit", "from torch import nothing_of_the_kind\nfrom ..vit")
    with with_file(checkout, "methods/adapters/broken.py", text):
        done = python(checkout, "bench", "run", "--suite", "demo", "--datasets", "digits", "--methods", "mine",
                      "--epochs", "1", "--no-report")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "methods/adapters/broken.py is mended: importing it raises ImportError" in done.stderr


def test_a_broken_file_that_ships_takes_nothing_else_with_it(checkout: Path) -> None:
    """LoRA is what the suite compares others with, and others build on its file."""
    path = checkout / "methods" / "adapters" / "lora.py"
    text = path.read_text()
    with with_file(checkout, "methods/adapters/lora.py", text + "\ndef f(:\n"):
        what = ("--suite", "demo", "--datasets", "digits", "--methods")
        done = python(checkout, "bench", "plan", *what, "linear")
        assert done.returncode == 0, done.stderr
        assert "methods/adapters/lora.py cannot be used" in done.stderr
        assert "methods/adapters/lora_last.py cannot be used: line" in done.stderr and "lora.py, line" in done.stderr
        refused(checkout, "lora", "methods/adapters/lora.py", (("plan", *what, "lora"),), "invalid syntax")
    path.write_text(text)
