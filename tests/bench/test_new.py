"""`new` writes files that work as they stand; `completion` completes in bash what there is."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest

from bench import cli
from bench.verbs import completion

from .copied import copy_to, python

KINDS = {"adapter": "methods/adapters", "regularizer": "methods/regularizers", "constraint": "methods/constraints",
         "dataset": "datasets"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_to(tmp_path_factory.mktemp("checkout"), "tests/methods", "tests/datasets", "tests/data")
    for kind, place in KINDS.items():
        done = python(folder, "bench", "new", kind, f"zz_{kind}")
        assert done.returncode == 0 and f"{place}/zz_{kind}.py written" in done.stdout, done.stderr
    return folder


@pytest.mark.parametrize("kind", ["adapter", "regularizer", "constraint"])
def test_a_new_part_passes_check_method_as_it_stands(checkout: Path, kind: str) -> None:
    done = python(checkout, "bench", "check-method", f"zz_{kind}")
    assert done.returncode == 0 and "all is well" in done.stdout, done.stdout + done.stderr
    assert "two steps with each of" in done.stdout or kind != "adapter"


def test_the_new_adapter_and_data_set_pass_the_tests_that_they_inherit(checkout: Path) -> None:
    done = python(checkout, "pytest", "tests/methods/test_adapters.py", "tests/datasets/test_registry.py", "-q",
                  "-k", "zz_adapter or (complete and zz_dataset)", "-o", "addopts=", "-p", "no:cacheprovider")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]
    assert "zz_dataset" in python(checkout, "bench", "show", "zz_dataset").stdout


def test_what_is_written_is_clean(checkout: Path) -> None:
    files = [f"{place}/zz_{kind}.py" for kind, place in KINDS.items()]
    done = python(checkout, "ruff", "check", "--no-cache", *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("name", "sentence"), [("lora", "'lora' is taken"), ("My-Part", "small letters, digits and _"),
                                                ("bottleneck", "there is a methods/adapters/bottleneck.py already")])
def test_a_name_that_cannot_be_is_refused(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "adapter", name]) == 2
    assert sentence in capsys.readouterr().err


def completed(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    line = " ".join(f"'{w}'" for w in words)
    code = f"""{completion.script(cli._parser())}
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _regatta; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.split()


@pytest.mark.parametrize(("words", "offered"), [
    (("python", "-m", "bench", "pl"), ["plan"]),
    (("python", "-m", "bench", "run", "--methods", "linear", "adapter_pl"), ["adapter_plus"]),
    (("python", "-m", "bench", "plan", "--datasets", "svh"), ["svhn"]),
    (("python", "-m", "bench", "run", "--dry"), ["--dry-run"]),
    (("python", "-m", "bench", "list", "sui"), ["suites"]),
    (("python", "-m", "bench", "check-method", "mars_p"), ["mars_pgm"]),
    (("python", "-m", "http"), [])])
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == completion.script(cli._parser())
    assert isinstance(cli._parser(), argparse.ArgumentParser)


def test_the_help_of_a_command_stands_in_groups() -> None:
    help_of = cli._parser().of("run").format_help()
    order = [help_of.index(head) for head in ("what is run:", "which set, and which phase:", "how it is carried out;")]
    assert order == sorted(order) and help_of.index("--datasets NAME [NAME ...]", order[0]) < order[1]
    assert "how it is carried out" not in cli._parser().of("plan").format_help()
    facts = (ROOT / "docs" / "a-methods-promises.md").read_text()
    assert all(f"`{name}`" in facts for name in ("recipe_from", "later", "requires", "refused", "offers"))
