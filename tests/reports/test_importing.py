"""Printed tables of three formats become files of the format; what is not recognised is named, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports import cli
from reports.grids import grid_of, plain_latex
from results.published import findings, follows, load_published

NAMES = ("Cifar Caltech101 DTD Flowers102 Pets SVHN Sun397 Camelyon EuroSAT Resisc45 Retinopathy Clevr-Count "
         "Clevr-Dist DMLab KITTI-Dist dSpr-Loc dSpr-Ori sNORB-Azim sNORB-Ele")
PRINTED = "70.0 90 70 99 90 90 51 85 95 85 75 80 60 50 80 80 50 30 40"  # group3 74.58, mean19 72.11
HEADS, CELLS = NAMES.split(), PRINTED.split()
CSV = f"Method,Params (M),{','.join(HEADS)},Mean\nAdapter+,0.16M,{','.join(CELLS)},74.6\n" \
      f"LoRA*,290K,71.0±0.2,{','.join(CELLS[1:])},72.2\n"


def _line(cells: list[str], averages: list[str]) -> str:
    """Cells of a LaTeX row: an average behind each of VTAB's groups, the whole one last."""
    parts = [*cells[:7], averages[0], *cells[7:11], averages[1], *cells[11:], *averages[2:]]
    return " & ".join(parts) + r" \\"


TEX = "\n".join([
    r"\begin{tabular}{l|c|ccccccc c|cccc c|cccccccc c|c} \toprule",
    r"& & \multicolumn{8}{c|}{\textbf{Natural}} & \multicolumn{5}{c|}{Special} & \multicolumn{9}{c|}{Structured} & \\",
    r"\cmidrule(lr){3-10}",
    r"Method & \rotatebox{90}{\# Params (M)} & " + _line([rf"\rotatebox{{90}}{{{h}}}" for h in HEADS],
                                                         ["Avg.", "Avg.", "Avg.", r"\textbf{Avg.}"]),
    r"\midrule % a comment & with a bar",
    r"\multicolumn{25}{l}{\textit{Traditional}} \\",
    r"Full~\cite{x} & 85.8 & " + _line([rf"\textbf{{{c}}}" for c in CELLS],
                                      ["80.0", "85.0", "58.8", r"\underline{74.6}"]),
    r"\rowcolor{gray!20} Ours$^\dagger$ & 0.3 & " + _line(["60.0", *CELLS[1:]],
                                                         ["78.6", "85.0", "58.8", r"74.1$_{\pm 0.2}$"]),
    r"\bottomrule \end{tabular}"])
FGVC = """# Results

| Method | CUB | NABirds | Flowers | Dogs | Carz | Mem (GB) | Mean |
|---|---:|---|---|---|---|---|---|
| **LoRA** | 88.0 | 84 | 99 | 90 | 85 | 12.3 | 89.2 |
| [Full](http://x) | 88.0 | 84 | - | 90 | 85 | 17 | – |
"""


def take(tmp_path: Path, name: str, text: str, *more: str, benchmark: str = "vtab1k", code: int = 0) -> Path:
    (tmp_path / name).write_text(text)
    (tmp_path / "out").mkdir(exist_ok=True)
    out = tmp_path / "out" / "new.json"
    asked = ["import", str(tmp_path / name), "--paper", "New: work", "--backbone", "ViT-B/16 (IN-21k)", "--benchmark",
             benchmark, "--out", str(out), *more]
    assert cli.main(asked) == code
    return out


def test_a_csv_table_is_read_with_the_field_s_names_for_tasks_and_both_means_shown(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = take(tmp_path, "t.csv", CSV)
    said = capsys.readouterr().out
    assert "Camelyon -> patch_camelyon" in said and "Units: percent for all columns" in said
    line = next(row for row in said.splitlines() if row.startswith("Adapter+")).split()
    assert line == ["Adapter+", "0.16", "19", "74.60", "74.58", "72.11", "group3"]
    (table,) = load_published(out.parent)
    assert table.backbone == "ViT-B/16 (ImageNet-21k supervised)" and table.year == 0
    first, second = table.rows
    assert (first.method, second.method, second.params_m) == ("Adapter+", "LoRA", 0.29)
    assert second.values["cifar100"] == 71.0 and follows(table, second) == ("mean19",)


def test_a_latex_table_with_groups_rotated_heads_and_four_averages_is_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = take(tmp_path, "t.tex", TEX)
    assert "Left out, without numbers: Traditional" in capsys.readouterr().out
    (table,) = load_published(out.parent)
    assert [r.method for r in table.rows] == ["Full", "Ours"] and table.mean_convention == "group3"
    assert dict(table.rows[0].printed) == {"natural": 80.0, "specialized": 85.0, "structured": 58.8, "mean": 74.6}
    assert dict(table.rows[1].printed)["mean"] == 74.1 and findings([table]) == []
    assert list(table.rows[0].values.values()) == [float(c) for c in CELLS]


def test_an_unknown_column_is_answered_with_the_nearest_and_can_be_named_or_left_out(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = take(tmp_path, "t.md", FGVC, benchmark="fgvc", code=2)
    error = capsys.readouterr().err
    assert "t.md: unknown column 'Carz'; did you mean 'stanford_cars'?; name it with --column" in error
    assert not out.exists()
    take(tmp_path, "t.md", FGVC, "--column", "Carz=stanford_cars", benchmark="fgvc")
    assert "Units: percent, mem_gb in memory" in capsys.readouterr().out
    (table,) = load_published(out.parent)
    assert table.columns == ("cub200", "nabirds", "flowers102", "stanford_dogs", "stanford_cars", "mem_gb")
    assert follows(table, table.rows[0]) == ("mean of 5",) and table.rows[1].method == "Full"
    assert "flowers102" not in table.rows[1].values and not table.rows[1].printed
    out.unlink()
    take(tmp_path, "t.md", FGVC, "--skip", "Carz", "--preview", benchmark="fgvc", code=1)  # the mean was over five
    assert not out.exists()


def test_a_mean_that_does_not_follow_is_told_and_kept_as_printed(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = take(tmp_path, "t.csv", CSV.replace("72.2\n", "75.9\n"), code=1)
    assert "finding: LoRA: mean is printed 75.9, but its cells give 74.63 (group3) or 72.16" in capsys.readouterr().out
    assert json.loads(out.read_text())["tables"][0]["rows"][1]["printed"] == {"mean": 75.9}


def test_shares_are_refused_unless_they_are_said_to_be_shares(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "method,cub,nabirds,memory GB\na,0.9,0.855,12\nb,0.8,0.7,9\n"
    take(tmp_path, "t.csv", text, benchmark="fgvc", code=2)
    assert "shares from 0 to 1" in capsys.readouterr().err
    out = take(tmp_path, "t.csv", text, "--unit", "share", benchmark="fgvc")
    assert json.loads(out.read_text())["tables"][0]["rows"][0]["values"] == \
        {"cub200": 90.0, "nabirds": 85.5, "memory_gb": 12.0}


def test_a_further_table_joins_its_paper_s_file_and_no_other_s(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = take(tmp_path, "t.csv", CSV)
    take(tmp_path, "t.csv", CSV, code=2)
    assert "has a table 'Table 1' already" in capsys.readouterr().err
    take(tmp_path, "t.csv", CSV, "--name", "Table 2")
    assert [t.name for t in load_published(out.parent)] == ["Table 1", "Table 2"]
    out.write_text(out.read_text().replace("New: work", "Another"))
    take(tmp_path, "t.csv", CSV, "--name", "Table 3", code=2)
    assert "exists and is another paper's" in capsys.readouterr().err


def test_a_table_with_methods_as_columns_is_turned_round(tmp_path: Path) -> None:
    out = take(tmp_path, "t.csv", "data set;LoRA;Full\nCUB;88,5;87\nNABirds;84;83\nDogs;90;-\n", benchmark="fgvc")
    (table,) = load_published(out.parent)
    assert [(r.method, dict(r.values)) for r in table.rows] == [
        ("LoRA", {"cub200": 88.5, "nabirds": 84.0, "stanford_dogs": 90.0}), ("Full", {"cub200": 87.0, "nabirds": 83.0})]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("t.xlsx", "x", "a table is read from .csv, .tsv, .tex or .md"),
    ("t.md", "no table", "no table of Markdown with a heading and a row is in it"),
    ("t.csv", "method,cub\na,88.0\nb,about 80\n", "'cub' of 'b' is 'about 80', which is no number"),
    ("t.csv", "method,cub,CUB-200\na,88.0,88\n", "two columns are 'cub200', the second is 'CUB-200'"),
    ("t.csv", "method,venue\na,ICML\n", "no column of fgvc was recognised"),
])
def test_a_table_that_cannot_be_read_is_one_sentence(name: str, text: str, words: str, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    take(tmp_path, name, text, benchmark="fgvc", code=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


def test_cells_lose_their_markup_and_keep_their_words(tmp_path: Path) -> None:
    for cell, words in ((r"\textbf{78.3}", "78.3"), (r"\cellcolor{red!20}{78.3}$_{\pm 0.2}$", "78.3±0.2"),
                        (r"LoRA\_mul", "LoRA_mul"), (r"\multirow{2}{*}{Full FT}", "Full FT"), (r"3.2\%", "3.2%"),
                        (r"\textcolor{gray}{A \& B}", "A & B"), (r"Ours$^\dagger$~\citep[see]{k}", "Ours^†")):
        assert " ".join(plain_latex(cell).split()).replace("_±", "±").replace(" ", "") == words.replace(" ", "")
    (tmp_path / "t.md").write_text("| a \\| b | c |\n|--|--|\n| `x_y` | **1**<br>2 |\n")
    assert grid_of(tmp_path / "t.md") == [["a | b", "c"], ["x_y", "1 2"]]
