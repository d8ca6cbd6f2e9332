"""Tables outside the page: LaTeX that compiles and marks the best, CSV that pandas reads without being told how."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from reports.latex import latex, tex
from reports.table import Field, Table, cut, markdown, to_csv

NAME = "lora(" + ", ".join(f"option{i}={i}" for i in range(17)) + ")+pace"  # over 200 letters
AWKWARD = "50 % of A & B_c #1 {x} ~ ^ \\ <±§†◊ [1]"


def made(**changes: object) -> Table:
    def score(text: str, value: float | None, mark: str = "") -> Field:
        return Field(text, value, None if value is None else value - 1, None if value is None else value + 1, mark=mark)

    body = ((Field("linear", code=True), Field("2–3", 2, 2, 3), score("50.0 [49.0, 51.0]", 50.0),
             score("61.04", 61.04)),
            (Field(NAME, code=True), Field("1", 1, 1, 1), score("62.0", 62.0), score("61.01", 61.01)),
            (Field("foreign", code=True), Field("–"), score("99.0", 99.0), score("99.0", 99.0)),
            (Field("failed", code=True), Field("–"), score("OOM †", None, "oom"), Field("–", mark="missing")))
    table = Table("standin-accuracy", "Accuracy (x_1 & 50 %)", AWKWARD, ("Method", "Rank", "Mean of 2", "A_b"), body,
                  (AWKWARD,), (), frozenset({2, 3}))
    return Table(**{**table.__dict__, **changes})  # type: ignore[arg-type]


def test_csv_is_read_by_pandas_as_it_lies_and_its_numbers_are_numbers() -> None:
    read = pd.read_csv(io.StringIO(to_csv(made(), "abc")))
    assert list(read.columns) == ["Method", "Rank", "Rank.low", "Rank.high", "Mean of 2", "Mean of 2.low",
                                  "Mean of 2.high", "Mean of 2.mark", "A_b", "A_b.low", "A_b.high", "A_b.mark",
                                  "records"]
    numbers = [c for c in read.columns if c not in ("Method", "records") and not c.endswith(".mark")]
    assert all(pd.api.types.is_numeric_dtype(read[c]) for c in numbers)
    assert read["Method"][1] == NAME and read["Mean of 2"].tolist()[:3] == [50.0, 62.0, 99.0]
    assert read["Mean of 2"].isna().tolist() == [False, False, False, True] and set(read["records"]) == {"abc"}


def test_a_column_of_numbers_without_any_is_empty_and_holds_no_words() -> None:
    body = ((Field("a"), Field("0/3", mark="incomplete")), (Field("b"), Field("–", mark="missing")))
    read = pd.read_csv(io.StringIO(to_csv(Table("x", "t", "c", ("m", "n"), body, (), (), frozenset({1})), "r")))
    assert read["n"].isna().all() and read["n.mark"].tolist() == ["incomplete", "missing"]


def test_the_best_of_a_column_is_bold_and_the_second_underlined_within_one_protocol() -> None:
    text = latex(made(), "abc", "demo", apart=[2])
    assert r"\textbf{62.0}" in text and r"\underline{50.0 {[}49.0, 51.0{]}}" in text and r"\textbf{99.0}" not in text
    assert r"\textbf{61.04}" in text and r"\textbf{61.01}" in text  # 61.0 both, as printed
    assert r"\textbf{1}" not in text and r"\label{tab:demo-standin-accuracy}" in text
    assert "textbf" not in latex(made(key="standin-memory"), "abc") and text.isascii()


def test_a_long_name_is_cut_in_the_middle_where_people_read_and_whole_where_programs_do() -> None:
    assert len(NAME) > 200 and len(cut(NAME)) == 60 and cut(NAME).endswith("+pace") and cut("short") == "short"
    assert cut(NAME) in markdown(made()) and NAME not in markdown(made()) and NAME in to_csv(made(), "r")
    assert tex(cut(NAME)) in latex(made(), "r") and tex(NAME) not in latex(made(), "r")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
@pytest.mark.parametrize("style", ["table", "table*", "sidewaystable"])
def test_latex_compiles_without_an_error_or_a_line_too_wide(style: str, tmp_path: Path) -> None:
    (tmp_path / "t.tex").write_text(latex(made(header=("Method", "Rank", AWKWARD, "A_b")), "abc", "demo"))
    (tmp_path / "paper.tex").write_text("\n".join([
        r"\documentclass{article}", r"\usepackage{booktabs,graphicx,rotating}",
        rf"\newcommand{{\regattafloat}}{{{style}}}",
        r"\begin{document}", r"See table~\ref{tab:demo-standin-accuracy}.", r"\input{t.tex}", r"\end{document}"]))
    for _ in range(2):
        done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path,
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    tabular = [line for line in done.stdout.splitlines() if line.startswith("Overfull")]
    assert not tabular and "undefined" not in done.stdout and (tmp_path / "paper.pdf").exists()
