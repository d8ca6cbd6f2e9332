"""Signs that a screen obeys or hides leave by no way out: terminal, markdown, LaTeX, CSV, HTML, pictures."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest

from bench import cli
from bench.planning.request import UsageError
from bench.verbs import list as verbs_list
from bench.verbs import show as verbs_show
from reports import draw, page, table
from reports.latex import latex
from reports.table import Field, Table
from results.visible import bare, guarded, visible

HOSTILE = "a\x1b[2Jb\x07c\u202ed\u200be\rf\x9b1mg\u2066h\ufeffi\u2028j\x00k\ud800l\U000e0041m"
SHOWN = ("a\\x1b[2Jb\\x07c\\u202ed\\u200be\\x0df\\x9b1mg\\u2066h\\ufeffi\\u2028j\\x00k\\ud800l\\U000e0041m")


def hidden(text: str) -> list[str]:
    """By Unicode's own tables: what has no shape of its own."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_every_hidden_sign_is_spelled_out_and_nothing_else_changes() -> None:
    assert visible(HOSTILE) == SHOWN
    plain = "lora(rank=4) ± 0.3 − 1 → ★ †\tä 漢字 é\n"
    assert visible(plain) == plain
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    # Unicode's format signs that stand in running text of some scripts (Arabic numbers, music, shorthand) have a shape
    left = {f"{ord(c):04X}" for c in hidden(visible(every))}
    assert all(int(code, 16) in range(0x600, 0x606) or unicodedata.name(chr(int(code, 16))).startswith(
        ("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND", "MUSICAL")) for code in left), left


def test_what_is_printed_inside_the_guard_is_shown_and_streams_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = sys.stdout, sys.stderr
    with guarded():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stdout.writelines([HOSTILE, "\n"])
        assert bare(sys.stdout) is out and sys.stdout.isatty() == out.isatty()
    assert (sys.stdout, sys.stderr) == (out, err)
    assert capsys.readouterr() == (f"{SHOWN}\n{SHOWN}\n", f"{SHOWN}\n")


@pytest.mark.parametrize("words", [["show", HOSTILE], ["plan", "--methods", HOSTILE], ["plan", "--datasets", HOSTILE],
                                   ["run", "--suite", HOSTILE], [HOSTILE], ["plan", f"--{HOSTILE}"],
                                   ["plan", "--backbones", HOSTILE], ["data", "check", HOSTILE, "--root", HOSTILE]])
def test_no_refusal_of_the_program_repeats_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert cli.main(words) == 2
    except SystemExit as end:
        assert end.code == 2
    said = capsys.readouterr()
    assert said.err and not hidden(said.out + said.err)


def test_no_result_of_the_program_repeats_them(capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UsageError([HOSTILE])

    monkeypatch.setattr(verbs_list, "listing", lambda kind: [{"name": HOSTILE, "about": HOSTILE}])
    assert cli.main(["list", "methods"]) == 0
    monkeypatch.setattr(verbs_show, "card", refuse)
    assert cli.main(["show", "x"]) == 2
    said = capsys.readouterr()
    assert SHOWN in said.out and SHOWN in said.err and not hidden(said.out + said.err)


def built() -> Table:
    cell = Field(HOSTILE, mark=HOSTILE, tail=HOSTILE, hint=HOSTILE, code=True)
    return Table("x", HOSTILE, HOSTILE, (HOSTILE, "n"), ((cell, Field("-1.5", -1.5)),), (HOSTILE,), (HOSTILE,),
                 frozenset({1}))


def test_markdown_latex_and_csv_show_them() -> None:
    for text in (table.markdown(built()), latex(built(), "r"), table.to_csv(built(), "r")):
        assert not hidden(text) and "u202e" in text
    assert r"\textbackslash{}x1b" in latex(built(), "r")


def test_html_and_pictures_show_them() -> None:
    assert draw.escape(HOSTILE + "<b>") == SHOWN + "&lt;b&gt;" and page.escape is draw.escape
    with draw.figure(2, 1) as fig:
        fig.text(0.1, 0.5, HOSTILE.replace("\ud800", ""))
        drawn = draw.to_svg(fig, HOSTILE.replace("\ud800", ""))
    assert not hidden(drawn) and "u202e" in drawn
    assert not hidden(draw.inline(drawn, "p", HOSTILE, {}, {}))


@pytest.mark.parametrize("word", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=", "-", "-1e",
                                  "+-1"])
def test_a_cell_that_a_spreadsheet_would_compute_is_text(word: str) -> None:
    made = Table("x", "t", "c", (word, "b"), ((Field(word), Field("y", mark=word)),))
    rows = list(csv.reader(io.StringIO(table.to_csv(made, "r"))))
    cells = [cell for row in rows for cell in row if cell not in ("b", "b.mark", "y", "records", "r")]
    assert len(cells) == 3 and all(cell[0] not in "=+-@\t\r" for cell in cells), cells


@pytest.mark.parametrize("number", [-1.5, -0.0, 1e-7, -2e-9, -3, float("-inf")])
def test_numbers_stay_numbers(number: float) -> None:
    made = Table("x", "t", "c", ("a", "b"), ((Field("shown", number), Field(f"{number:+.1f}")),))
    row = list(csv.reader(io.StringIO(table.to_csv(made, "r"))))[-1]
    assert float(row[0]) == number and row[1] == f"{number:+.1f}"


def test_json_for_programs_stays_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs_list, "listing", lambda kind: [{"name": HOSTILE, "about": ""}])
    assert cli.main(["list", "methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == HOSTILE


def test_no_other_module_prints_past_the_guard() -> None:
    """`bare` streams carry our own signs; each use shows what it tells."""
    root = Path(__file__).resolve().parents[2]
    users = {p.relative_to(root).as_posix() for folder in ("bench", "reports") for p in (root / folder).rglob("*.py")
             if "bare(" in p.read_text()}
    assert users == {"bench/progress.py", "bench/verbs/status.py", "bench/verbs/perf.py", "reports/cli.py"}
