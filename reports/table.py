"""A table and its forms: markdown, CSV, LaTeX. A field carries the text people read and the numbers programs read."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from results.suites import Column, Row
from results.visible import visible

Number = float | int | None
FORMULA = ("=", "+", "-", "@", "\t", "\n", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)")
PARTS = ("value", "low", "high", "std", "n", "mark")
SIGNS = {"±": r"$\pm$", "–": "--", "†": r"$\dagger$", "§": r"\S{}", "°": r"$^\circ$", "×": r"$\times$",
         "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "★": r"$\star$", "◊": r"$\diamond$", "→": r"$\to$", "µ": r"$\mu$"}


@dataclass(frozen=True)
class Field:
    """One cell of a table. `text` is for people; a field without `value` is a word."""

    text: str
    value: Number = None
    low: Number = None
    high: Number = None
    std: Number = None
    n: Number = None
    mark: str = ""  # state or signs, in words
    code: bool = False  # a name that people type: set in a fixed font
    tail: str = ""  # signs and labels behind a name
    hint: str = ""  # more, for the page's tooltip


@dataclass(frozen=True)
class Table:
    key: str  # file name: <suite>-<key>.csv
    title: str
    caption: str
    header: tuple[str, ...]
    body: tuple[tuple[Field, ...], ...]
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    numeric: frozenset[int] = frozenset()  # columns that hold numbers
    rows: tuple[Row, ...] = ()  # line i is this row of the suite, where lines are rows
    sets: Mapping[int, Column] = field(default_factory=dict)  # place -> the data set whose cells stand there

    def __post_init__(self) -> None:
        for row in self.body:
            if len(row) != len(self.header):
                raise ValueError(f"table {self.key}: a row of {len(row)} fields under {len(self.header)} headings")


def md(text: str) -> str:
    """Plain text as markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", html.escape(visible(text), quote=False)).replace("\n", " ")


def md_code(text: str) -> str:
    """A name in a fixed font, whatever signs it holds; HTML's own tag, as backticks cannot hold every sign."""
    if re.fullmatch(r"[A-Za-z0-9_.,=()+' @:/*<>-]+", text):
        return f"`{text}`"
    return f"<code>{md(text)}</code>"


def markdown(table: Table) -> str:
    """Heading, caption, table, legend and notes."""
    rows = [[(md_code(f.text) if f.code else md(f.text)) + md(f.tail) for f in row] for row in table.body]
    align = ["right" if i in table.numeric else "left" for i in range(len(table.header))]
    grid = tabulate(rows, [md(h) for h in table.header], tablefmt="pipe", disable_numparse=True, colalign=align)
    parts = [f"#### {md(table.title)}", md(table.caption), grid if rows else "*No rows.*"]
    if table.legend:
        parts.append("Legend: " + "; ".join(md(line) for line in table.legend) + ".")
    if table.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {md(note)}" for note in table.notes))
    return "\n\n".join(p for p in parts if p) + "\n"


def to_csv(table: Table, records: str) -> str:
    """A column per number: `name`, then `name.low`, `name.high`, `name.std`, `name.n`, `name.mark` where used."""
    used = [[p for p in PARTS if any(getattr(row[i], p) not in (None, "") for row in table.body)]
            for i in range(len(table.header))]
    out = io.StringIO()
    out.write(f"# {_line(visible(table.title))}; records {records}\n")
    writer = csv.writer(out, lineterminator="\n")
    lines = [[label for name, parts in zip(table.header, used, strict=True) for label in _labels(name, parts)],
             *([v for f, parts in zip(row, used, strict=True) for v in _values(f, parts)] for row in table.body)]
    writer.writerows([_safe(cell) for cell in line] for line in lines)
    return out.getvalue()


def _safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: a sign that would begin one gets an apostrophe before it."""
    shown = visible(cell)
    return f"'{shown}" if shown[:1] in FORMULA and not _NUMBER.fullmatch(shown) else shown


def _labels(name: str, parts: Sequence[str]) -> list[str]:
    if "value" in parts:
        return [name if p == "value" else f"{name}.{p}" for p in parts]
    return [name, f"{name}.mark"] if "mark" in parts else [name]


def _values(cell: Field, parts: Sequence[str]) -> list[str]:
    if "value" not in parts:
        return [cell.text, cell.mark] if "mark" in parts else [cell.text]
    return [_plain(getattr(cell, p)) for p in parts]


def _plain(value: Number | str) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def latex(table: Table, records: str) -> str:
    """A booktabs table with its caption; needs \\usepackage{booktabs}."""
    rows = [[visible(f.text + f.tail) for f in row] for row in table.body]
    align = ["right" if i in table.numeric else "left" for i in range(len(table.header))]
    body = tabulate(rows, [visible(h) for h in table.header], tablefmt="latex_booktabs", disable_numparse=True,
                    colalign=align if rows else None)
    words = "; ".join(table.legend)
    caption = f"{table.title}. {table.caption}" + (f" {words}." if words else "")
    text = "\n".join([f"% {_line(visible(table.title))}; records {records}", r"\begin{table}", r"\centering", body,
                      rf"\caption{{{_tex(caption)}}}", r"\end{table}", ""])
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text


def _tex(text: str) -> str:
    table = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
             "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
             ">": r"\textgreater{}"}
    return "".join(table.get(c, c) for c in visible(text))


def _line(text: str) -> str:
    return " ".join(text.split())


def legend_of(rows: Iterable[Iterable[Field]], words: dict[str, str]) -> tuple[str, ...]:
    """The legend lines of the marks that a table really shows, in the legend's order."""
    shown = {mark for row in rows for field in row for mark in field.mark.split()}
    return tuple(text for mark, text in words.items() if mark in shown)
