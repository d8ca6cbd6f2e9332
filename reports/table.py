"""A table and two of its forms, markdown and CSV (the third is latex.py).

A field carries the text people read and the numbers programs read.
"""

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
LONGEST = 60  # letters of a name in a table that people read


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
    # place -> what a page recomputes there for a choice: "rank", "tie", "below", "mean" (over `means`); "whole" holds
    # for all data sets alone
    roles: Mapping[int, str] = field(default_factory=dict)
    means: Mapping[int, Sequence[Sequence[Column]]] = field(default_factory=dict)  # place -> parts, averaged alike

    def __post_init__(self) -> None:
        for row in self.body:
            if len(row) != len(self.header):
                raise ValueError(f"table {self.key}: a row of {len(row)} fields under {len(self.header)} headings")


def cut(text: str) -> str:
    """A text of at most LONGEST letters: what tells names apart stands at their ends, so the middle goes."""
    if len(text) <= LONGEST:
        return text
    tail = (LONGEST - 1) // 2
    return f"{text[:LONGEST - 1 - tail]}…{text[-tail:]}"


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
    rows = [[(md_code(cut(f.text)) if f.code else md(f.text)) + md(f.tail) for f in row] for row in table.body]
    align = ["right" if i in table.numeric else "left" for i in range(len(table.header))]
    grid = tabulate(rows, [md(h) for h in table.header], tablefmt="pipe", disable_numparse=True, colalign=align)
    parts = [f"#### {md(table.title)}", md(table.caption), grid if rows else "*No rows.*"]
    if table.legend:
        parts.append("Legend: " + "; ".join(md(line) for line in table.legend) + ".")
    if table.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {md(note)}" for note in table.notes))
    return "\n\n".join(p for p in parts if p) + "\n"


def to_csv(table: Table, records: str) -> str:
    """A column per number: `name`, then `name.low`, `name.high`, `name.std`, `name.n`, `name.mark` where used.

    The first line is the heading, as pandas expects it; what is no number is an empty cell in a column of numbers, and
    the last column names the records.
    """
    used = [_used(table, i) for i in range(len(table.header))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    lines = [[label for name, parts in zip(table.header, used, strict=True) for label in _labels(name, parts)],
             *([v for f, parts in zip(row, used, strict=True) for v in _values(f, parts)] for row in table.body)]
    for i, line in enumerate(lines):
        writer.writerow([*map(csv_cell, line), records if i else "records"])
    return out.getvalue()


def _used(table: Table, place: int) -> list[str]:
    found = [p for p in PARTS if any(getattr(row[place], p) not in (None, "") for row in table.body)]
    return ["value", *found] if place in table.numeric and "value" not in found else found


def csv_cell(cell: str) -> str:
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


def legend_of(rows: Iterable[Iterable[Field]], words: dict[str, str]) -> tuple[str, ...]:
    """The legend lines of the marks that a table really shows, in the legend's order."""
    shown = {mark for row in rows for field in row for mark in field.mark.split()}
    return tuple(text for mark, text in words.items() if mark in shown)
