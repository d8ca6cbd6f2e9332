"""Tables of texts: a row a line, fields between tabs, no quoting (a quote is text), columns found by their names.

A file is parsed once, whole: its items, its faults with file and line, and its rows that are passed over as published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from . import door
from .card import DataError, Item, Text

BOM = b"\xef\xbb\xbf"  # which some of the distributed tables begin with


class Form(NamedTuple):
    """How a table is written."""

    prefix: str  # of its items' names
    texts: tuple[str, ...]  # one or two columns
    label: str  # column
    labels: tuple[str, ...] = ()  # as they are written, by class; none: a score
    low: float = 0.0  # of a score
    high: float = 0.0
    header: tuple[str, ...] = ()  # of a file that has none
    gaps: bool = False  # rows of too few fields are part of the published file, and passed over
    after: int = 0  # lines behind the header that are no rows: what the columns hold, for the program that wrote them


class Table(NamedTuple):
    """What a file holds."""

    items: tuple[Item, ...]
    faults: tuple[str, ...]  # sentences with file and line
    empty: tuple[int, ...] = ()  # lines, which are passed over
    short: tuple[int, ...] = ()  # lines of too few fields, which are passed over where `gaps` says so

    def remarks(self, name: str) -> list[str]:
        """A sentence about each kind of lines that are passed over, if any are; `name`: of the file."""
        return [*_passed(self.short, "row", f"of {name} with too few fields"),
                *_passed(self.empty, "empty line", f"of {name}")]


def _passed(lines: Sequence[int], what: str, where: str) -> list[str]:
    count = len(lines)
    some = ", ".join(map(str, lines[:5])) + (" ..." if count > 5 else "")
    return [f"{count} {what}{'s' if count > 1 else ''} {where} {'are' if count > 1 else 'is'} passed over, at line "
            f"{some}"] if count else []


def table(file: Path, form: Form, layout: str) -> Table:
    """The parsed file. Raises DataError where it is missing, empty or no text, or has not each column once."""
    try:
        found = file.stat()
    except OSError:
        raise DataError(f"{file} is missing; expected there: {layout}") from None
    return _parsed(file, form, layout, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=6)  # the files of two sets; the largest takes some hundred megabytes
def _parsed(file: Path, form: Form, layout: str, size: int, changed: int) -> Table:
    try:
        data = door.read(file, "annotations")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    return parse(data, file, file, form, layout)


def parse(data: bytes, path: Path, file: Path, form: Form, layout: str) -> Table:
    """The table in these bytes, which lie at `path` or, of an archive, within `file`. Raises DataError as `table`."""
    if not data.removeprefix(BOM):
        raise DataError(f"{path} is empty; expected there: {layout}")
    lines = _lines(data, path)
    header = form.header or tuple(lines[0].split("\t"))
    for name in (*form.texts, form.label):
        if (count := header.count(name)) != 1:
            told = f"{count} columns are called" if count else "there is no column"
            raise DataError(f"{path}:1: {told} {name!r}; its columns are {', '.join(header)}; expected there: {layout}")
    items, faults = [], []
    empty: list[int] = []
    short: list[int] = []
    start = 0 if form.header else 1 + form.after
    for number, line in enumerate(lines[start:], start + 1):
        fields = line.split("\t")
        if not line or (form.gaps and len(fields) < len(header)):
            (short if line else empty).append(number)
            continue
        try:
            items.append(_item(fields, header, form, f"{path.stem}:{number}", file))
        except ValueError as error:
            faults.append(f"{path}:{number}: {error}")
    if not items and not faults:
        faults.append(f"{path} holds no rows; expected there: {layout}")
    return Table(tuple(items), tuple(faults), tuple(empty), tuple(short))


def _lines(data: bytes, path: Path) -> list[str]:
    """The lines, whichever way they end, an empty last one apart."""
    try:
        text = data.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file: byte {error.start} is not UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" and len(lines) > 1 else lines


def _item(fields: Sequence[str], header: Sequence[str], form: Form, place: str, file: Path) -> Item:
    """One row; raises ValueError saying what is wrong with it."""
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields; expected {len(header)}: {', '.join(header)}")
    row = dict(zip(header, fields, strict=True))
    told = row[form.label]
    text = Text(f"{form.prefix}/{place}", row[form.texts[0]],
                row[form.texts[1]] if len(form.texts) > 1 else None, file)
    if form.labels:
        if told not in form.labels:
            raise ValueError(f"the label {told[:40]!r} is none of {', '.join(form.labels)}")
        return Item(text, form.labels.index(told))
    try:
        score = float(told)
    except ValueError:
        raise ValueError(f"the score {told[:40]!r} is no number") from None
    if not (math.isfinite(score) and form.low <= score <= form.high):
        raise ValueError(f"the score {told[:40]!r} is out of range; scores are {form.low:g} to {form.high:g}")
    return Item(text, score)
