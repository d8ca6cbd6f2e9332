"""What the README and docs/ show works: links, commands, make targets, and what follows from the registry."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cli
from bench.engine.packaged import TEXT_WHEELS, WHEELS
from bench.suites import SUITES
from bench.verbs import docs
from datasets.packages import PACKAGES
from reports import cli as reports_cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNS = ("run", "tune", "curve")  # what would compute is planned in its place: the same words must mean something
ANSWERS = ("list", "show", "plan", "docs")  # these cost nothing and are done as they stand


def _commands() -> Iterator[tuple[Path, str]]:
    """(page, command): the lines of its bash blocks and what stands in backticks, from `python -m` or `make` on."""
    for page in PAGES:
        text = page.read_text()
        inside = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for line in (*inside, *re.findall(r"`([^`\n]+)`", prose)):
            command = " ".join(shlex.split(line.strip(), comments=True, posix=False)) if "'" not in line else line
            command = command.partition("  #")[0].strip()
            if re.match(r"(python -m (bench|reports)\b(?!\.)|make [a-z])", command) and "..." not in command:
                yield page, command


COMMANDS = list(dict.fromkeys(_commands()))


def _is_pattern(words: list[str]) -> bool:
    """Whether a word stands for something that the reader puts there: NAME, RUN, DIR."""
    return any(re.fullmatch(r"(folder:)?[A-Z][A-Z0-9]*", word) or word.startswith("/") for word in words)


def test_the_pages_hold_commands() -> None:
    assert {page.name for page, _ in COMMANDS} >= {"README.md", "CONTRIBUTING.md", "protocol.md", "data.md"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_heading_of_the_page_resolves(page: Path) -> None:
    text = page.read_text()
    heads = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in
             re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= heads


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"\b(?!NODE_FAIL)[A-Z]{4,}_[A-Z]{4,}\b", prose)


def test_the_readme_can_be_read_at_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("line", [c for _, c in COMMANDS if c.startswith("python -m bench")])
def test_every_bench_command_is_one_and_is_done_where_it_costs_nothing(
        line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA", raising=False)
    words = shlex.split(line)[3:]
    if not _is_pattern(words) and words and words[0] in (*RUNS, *ANSWERS):
        if words[0] in RUNS:
            kept = cli._parser().parse_args(words)  # its own options too
            words = ["plan", *_what(words[1:])]
            assert kept.verb in RUNS
        if words == ["list"] or words == ["show"] or words == ["docs"]:
            return
        if "--tuned" in words or "token_shift" in line or "my_adapter" in line:
            return  # needs a selection, or a file: the pages' own examples are tried elsewhere
        if "--profile" in words:
            words += ["--cluster-file", str(ROOT / "cluster.example.yaml")]
        status, told = cli.main(words), capsys.readouterr().err
        absent = [w.project for w in (WHEELS | TEXT_WHEELS).values() if w.path() is None and w.project in told]
        absent += [p.name for p in PACKAGES.values() if p.installed() is None and p.command in told]
        if status == 2 and absent:  # refused for the want of a package, which the refusal names
            pytest.skip(f"{absent[0]} is not installed")
        assert status in (0, 1), told
    elif len(words) > 1:
        cli._parser().parse_args(words)
    elif words:
        assert words[0] in capsys_help(capsys)


def capsys_help(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    return capsys.readouterr().out


def _what(words: list[str]) -> list[str]:
    """The words that name a set of runs, without those of how it is carried out."""
    kept: list[str] = []
    known = {"--suite", "--datasets", "--methods", "--backbones", "--seeds", "--epochs", "--batch-size", "--set",
             "--root", "--data", "--tuned", "--phase", "--no-pretrained", "--weights"}
    taking = False
    for word in words:
        taking = word in known if word.startswith("--") else taking
        kept += [word] * taking
    return kept


@pytest.mark.parametrize("line", [c for _, c in COMMANDS if c.startswith("python -m reports")])
def test_every_reports_command_is_one(line: str) -> None:
    words = shlex.split(line)[3:]
    if words:
        reports_cli._parser().parse_args([*words, *(["x", "y"] if words == ["compare"] else [])])


@pytest.mark.parametrize("line", [c for _, c in COMMANDS if c.startswith("make ")])
def test_every_make_command_is_one(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] in ("sense", "sure"):
        return
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generated_pages_follow_from_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs", "--check"]) == 0, capsys.readouterr().out
    rows = {"methods.md": "\n### ", "families.md": "\n| "}
    for path, text in docs.pages().items():
        assert text.count(rows[path.name]) >= 30, path.name


def test_the_suite_of_the_page_is_one() -> None:
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adding-a-suite.md").read_text(), re.DOTALL)
    from bench.suites import base
    from methods.grammar import parse

    try:
        exec(compile(text, "adding-a-suite.md", "exec"), dict(vars(base)))
        made = SUITES["textures"]()
        assert made.name == "textures" and len(made.datasets) * len(made.methods) * len(made.seeds) == 24
        assert all(parse(m) for m in made.methods) and base.miniature(made).standins
    finally:
        SUITES.pop("textures", None)
