"""A table of words out of a file of CSV, LaTeX or Markdown: the cells as people read them, without any markup."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from results.schema import RecordError

Grid = list[list[str]]
KINDS = {".csv": "CSV", ".tsv": "CSV", ".txt": "CSV", ".tex": "LaTeX", ".md": "Markdown"}
RULES = re.compile(r"\\(?:hline|toprule|midrule|bottomrule|cline\{[^}]*\}|c?midrule(?:\([^)]*\))?\{[^}]*\}|hdashline"
                   r"|addlinespace(?:\[[^]]*\])?|specialrule(?:\{[^}]*\}){3}|rowcolor(?:\[[^]]*\])?\{[^}]*\})")
DROPPED = re.compile(r"\\(?:cite[a-z]*|ref|label|footnote|cellcolor|color|textcolor|vspace|hspace|hphantom|phantom)"
                     r"(?:\[[^]]*\])?\{[^{}]*\}")
BARE = re.compile(r"\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|bf|it|rm|centering|bfseries|itshape|xspace"
                  r"|quad|qquad|hfill|strut|arraybackslash|displaystyle)(?![A-Za-z])")
SIGNS = {r"\pm": "±", r"\dagger": "†", r"\ddagger": "‡", r"\times": "×", r"\star": "★", r"\uparrow": "",
         r"\downarrow": "", r"\textasciitilde": "~", r"\textbackslash": "\\", r"\checkmark": "✓", r"\ast": "*",
         r"\S": "§", r"\to": "→"}


def grid_of(path: Path) -> Grid:
    """Rows of cells, each row as long as the longest. Raises RecordError naming the file."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise RecordError(f"{path.name}: a table is read from .csv, .tsv, .tex or .md")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecordError(f"{path.name}: not text in UTF-8") from None
    rows = {"CSV": _csv, "LaTeX": _latex, "Markdown": _markdown}[kind](text)
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise RecordError(f"{path.name}: no table of {kind} with a heading and a row is in it")
    width = max(map(len, rows))
    return [row + [""] * (width - len(row)) for row in rows]


def _csv(text: str) -> Grid:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    mark = max("\t;,", key=first.count)
    return [list(row) for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark)]


def _markdown(text: str) -> Grid:
    """The longest run of lines with bars."""
    runs: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.count("|") >= 2 or (line.count("|") == 1 and line.strip().strip("|")):
            runs[-1].append(line)
        elif runs[-1]:
            runs.append([])
    rows = []
    for line in max(runs, key=len):
        cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
        if not all(re.fullmatch(r"\s*:?-+:?\s*", cell) for cell in cells):
            rows.append([_plain_markdown(cell) for cell in cells])
    return rows


def _plain_markdown(cell: str) -> str:
    text = re.sub(r"<br\s*/?>", " ", cell.strip())
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"</?[a-z][^>]*>", "", text)
    for mark in (r"\*\*", "__", "`", r"\*", "_", "~~"):
        text = re.sub(rf"^{mark}(.+){mark}$", r"\1", text.strip())
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text)
    return re.sub(r"\\([\\`*_{}\[\]|~#<>.-])", r"\1", text)


def _latex(text: str) -> Grid:
    """The largest tabular of the file."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    bodies = re.findall(r"\\begin\{(tabular[xy*]?|longtable|array)\}(.*?)\\end\{\1\}", text, re.DOTALL)
    body = max((_behind_spec(inner, kind) for kind, inner in bodies), key=lambda b: b.count("&"), default=text)
    body = _unfold(RULES.sub(" ", body), "makecell")
    body = _unfold(body, "shortstack")
    rows = []
    for line in re.split(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline", body):
        cells: list[str] = []
        for cell in re.split(r"(?<!\\)&", line):
            wide = re.search(r"\\multicolumn\{(\d+)\}", cell)
            cells += [plain_latex(cell)] + [""] * (int(wide[1]) - 1 if wide else 0)
        rows.append(cells)
    return rows


def _behind_spec(inner: str, kind: str) -> str:
    """What follows the column specification (and the width of tabularx and tabular*)."""
    for _ in range(2 if kind in ("tabularx", "tabulary", "tabular*") else 1):
        inner = re.sub(r"^\s*\[[^\]]*\]", "", inner)
        if inner.lstrip().startswith("{"):
            inner = inner.lstrip()
            inner = inner[_closing(inner, 0) + 1:]
    return inner


def _closing(text: str, at: int) -> int:
    """Place of the brace that closes the one at `at`; the end where it is missing."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    return len(text) - 1


def _unfold(text: str, command: str) -> str:
    """`\\makecell{a \\\\ b}` as `a b`: its line breaks are none of the table's."""
    start = text.find(f"\\{command}")
    while start >= 0:
        brace = text.find("{", start)
        if brace < 0:
            return text
        end = _closing(text, brace)
        text = text[:start] + text[brace + 1:end].replace("\\\\", " ") + text[end + 1:]
        start = text.find(f"\\{command}")
    return text


def plain_latex(cell: str) -> str:
    """A cell's words: commands with an argument give their last argument, citations and colours go."""
    cell = re.sub(r"[_^]\{\\?(?:scriptsize|tiny)?\s*(\\pm)", r"{\1", cell)  # an error set small
    text = BARE.sub("", DROPPED.sub("", DROPPED.sub("", cell)))
    for sign, plain in SIGNS.items():
        text = re.sub(re.escape(sign) + r"(?![A-Za-z])", plain.replace("\\", r"\\"), text)
    text = re.sub(r"\\multirow(?:\[[^\]]*\])?\{[^}]*\}(?:\[[^\]]*\])?\{[^}]*\}", "", text)
    text = re.sub(r"\\multicolumn\{[^}]*\}\{(?:[^{}]|\{[^}]*\})*\}", "", text)
    text = re.sub(r"\\(?:rotatebox|rot)(?:\[[^\]]*\])?\{[^}]*\}", "", text)
    text = re.sub(r"\\(?:scalebox|resizebox\{[^}]*\}|raisebox|parbox)\{[^}]*\}", "", text)
    text = re.sub(r"\\([%&$#_{} ,;!])", lambda m: {",": "", ";": "", "!": "", " ": " "}.get(m[1], "\0" + m[1]), text)
    text = re.sub(r"\\[A-Za-z]+\*?", "", text)
    text = re.sub(r"(?<!\0)[{}$]", "", text).replace("\0", "")
    return text.replace("~", " ").replace("--", "–")
