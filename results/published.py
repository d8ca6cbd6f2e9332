"""Numbers printed in papers: read, checked against themselves and against each other.

One JSON file per paper in results/published/ (its README says what the fields mean); further files of this shape need
no change here. Percent as printed. A printed mean must follow from its cells under a convention that is named: VTAB's
mean over 19 tasks (`mean19`) or over the means of its three groups (`group3`) are two to five points apart.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .schema import RecordError
from .store import ROOT

TOLERANCE = 0.1 + 1e-9  # percent: cells and mean are rounded or cut to one decimal
VTAB = {
    "natural": ("cifar100", "caltech101", "dtd", "oxford_flowers102", "oxford_iiit_pet", "svhn", "sun397"),
    "specialized": ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    "structured": ("clevr_count", "clevr_dist", "dmlab", "kitti", "dsprites_loc", "dsprites_ori", "smallnorb_azi",
                   "smallnorb_ele"),
}
ALIASES = {"fulltuning": "full", "fullfinetuning": "full", "fullft": "full", "linearprobe": "linear",
           "linearprobing": "linear", "head": "linear", "bias": "bitfit", "vpt": "vptdeep", "fact": "facttk",
           "adapterpfeiffer": "adapter"}


@dataclass(frozen=True)
class PrintedRow:
    method: str
    params_m: float | None  # trained parameters in millions, as printed
    values: Mapping[str, float]
    printed: Mapping[str, float]  # natural, specialized, structured, mean, mean@4, ...
    note: str = ""


@dataclass(frozen=True)
class PrintedTable:
    paper: str
    arxiv: str
    year: int
    file: str
    name: str
    benchmark: str
    backbone: str
    columns: tuple[str, ...]
    mean_convention: str
    mean_over: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    source: str
    verified: str
    trust: str


@dataclass(frozen=True)
class Finding:
    """Something a reader must know before quoting a row. `known` when the file's own note speaks of it."""

    table: PrintedTable
    method: str
    kind: str  # "mean", "group", "cell", "copy", "convention"
    text: str
    known: bool


def load_published(root: Path | None = None) -> list[PrintedTable]:
    """Every table of every file, in the order of file names. Raises RecordError naming file and field."""
    base = root if root is not None else ROOT / "published"
    return [table for path in sorted(base.glob("*.json")) for table in _file(path)]


def _file(path: Path) -> Iterator[PrintedTable]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path.name}: not valid JSON ({error.__class__.__name__})") from None
    for i, table in enumerate(_want(body, "tables", list, path.name)):
        where = f"{path.name}: tables[{i}]"
        columns = tuple(map(str, _want(table, "columns", list, where)))
        rows = tuple(_row(row, columns, f"{where}.rows[{j}]")
                     for j, row in enumerate(_want(table, "rows", list, where)))
        yield PrintedTable(_want(body, "paper", str, path.name), str(body.get("arxiv") or ""),
                           _want(body, "year", int, path.name), path.name, _want(table, "name", str, where),
                           _want(table, "benchmark", str, where), _want(table, "backbone", str, where), columns,
                           _want(table, "mean_convention", str, where), tuple(table.get("mean_over") or ()), rows,
                           str(table.get("source", "")), str(table.get("verified", "")), str(body.get("trust", "")))


def _row(row: Any, columns: tuple[str, ...], where: str) -> PrintedRow:
    values, printed = (_numbers(_want(row, name, dict, where), f"{where}.{name}") for name in ("values", "printed"))
    for name in values:
        if name not in columns:
            raise RecordError(f"{where}: field 'values' has {name!r}, which is no column")
    params = row.get("params_m")
    return PrintedRow(_want(row, "method", str, where), None if params is None else float(params), values, printed,
                      str(row.get("note") or ""))


def _want(body: Any, name: str, kind: type, where: str) -> Any:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise RecordError(f"{where}: field {name!r} must be a {kind.__name__}")
    return value


def _numbers(body: dict[str, Any], where: str) -> dict[str, float]:
    for name, value in body.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecordError(f"{where}: field {name!r} has the value {value!r}, which is no number")
    return {name: float(value) for name, value in body.items()}


def plain(method: str) -> str:
    """One name for one method: `Full fine-tuning`, `Full tuning` and `full` are the same."""
    text = re.sub(r"[^a-z0-9]", "", method.lower())
    return ALIASES.get(text, text)


def means(table: PrintedTable, row: PrintedRow, key: str = "mean") -> dict[str, float]:
    """What the printed number may be, by convention, as far as the cells are there."""
    values = row.values
    groups = {g: [values[c] for c in names] for g, names in VTAB.items() if all(c in values for c in names)}
    if key in VTAB:
        return {key: fmean(groups[key])} if key in groups else {}
    if key.startswith("mean@"):
        found = [v for c, v in values.items() if c.endswith(key[4:])]
        return {key: fmean(found)} if len(found) == sum(c.endswith(key[4:]) for c in table.columns) > 0 else {}
    if len(groups) == len(VTAB):
        cells = [v for group in groups.values() for v in group]
        return {"group3": fmean(fmean(group) for group in groups.values()), "mean19": fmean(cells)}
    if table.mean_over:
        return {f"mean of {len(table.mean_over)}": fmean(values[c] for c in table.mean_over)} \
            if all(c in values for c in table.mean_over) else {}
    return {f"mean of {len(table.columns)}": fmean(values.values())} if len(values) == len(table.columns) > 1 else {}


def convention(table: PrintedTable) -> str:
    """The convention that most rows with a printed mean follow; "" where none can be checked."""
    votes = Counter(name for row in table.rows if "mean" in row.printed
                    for name, value in means(table, row).items() if abs(value - row.printed["mean"]) <= TOLERANCE)
    return votes.most_common(1)[0][0] if votes else ""


def findings(tables: list[PrintedTable]) -> list[Finding]:
    """Every mean that does not follow, every copied row, every cell that departs from copies of the same row."""
    found = [f for table in tables for f in (*_means(table, tables), *_copies(table, tables), *_declared(table))]
    return found + list(_cells(tables))


def _means(table: PrintedTable, tables: list[PrintedTable]) -> Iterator[Finding]:
    usual = convention(table)
    for row in table.rows:
        for key, printed in row.printed.items():
            options = means(table, row, key)
            if not options or any(abs(v - printed) <= TOLERANCE for v in options.values()):
                continue
            words = " or ".join(f"{v:.2f} ({name})" for name, v in options.items())
            text = f"{key} is printed {printed:g}, but its cells give {words}"
            cell = _mended(table, row, printed, usual, tables) if key == "mean" else ""
            yield Finding(table, row.method, "mean" if key.startswith("mean") else "group", text + cell,
                          bool(row.note))


def _mended(table: PrintedTable, row: PrintedRow, printed: float, usual: str, tables: list[PrintedTable]) -> str:
    """The one cell whose value in other papers' copies of this row would give the printed mean."""
    for other, twin in _twins(table, row, tables):
        apart = [c for c in row.values if row.values[c] != twin.values.get(c)]
        if len(apart) == 1:
            again = means(table, PrintedRow(row.method, None, {**row.values, apart[0]: twin.values[apart[0]]}, {}))
            if abs(again.get(usual, 1e9) - printed) <= TOLERANCE:
                return f"; {apart[0]} is {row.values[apart[0]]:g} here, and only {twin.values[apart[0]]:g} " \
                       f"({other.file}) gives the printed mean"
    return ""


def _twins(table: PrintedTable, row: PrintedRow,
           tables: list[PrintedTable]) -> Iterator[tuple[PrintedTable, PrintedRow]]:
    """The same method on the same benchmark and backbone in other files, with enough cells to be a copy."""
    for other in tables:
        if other.file == table.file or (other.benchmark, other.backbone) != (table.benchmark, table.backbone):
            continue
        for twin in other.rows:
            shared = row.values.keys() & twin.values.keys()
            equal = sum(row.values[c] == twin.values[c] for c in shared)
            if plain(twin.method) == plain(row.method) and len(shared) >= 5 and equal >= len(shared) - 2:
                yield other, twin


def _cells(tables: list[PrintedTable]) -> Iterator[Finding]:
    for table in tables:
        for row in table.rows:
            twins = list(_twins(table, row, tables))
            for column, value in row.values.items():
                others = Counter(t.values[column] for _, t in twins if column in t.values)
                if others and value not in others:
                    usual, files = others.most_common(1)[0][0], sorted({o.file for o, _ in twins})
                    text = f"{column} is {value:g} here and {usual:g} in the same row of {', '.join(files)}"
                    yield Finding(table, row.method, "cell", text, bool(row.note))


def _copies(table: PrintedTable, tables: list[PrintedTable]) -> Iterator[Finding]:
    """Rows that carry another method's cells, from this table or from another file."""
    seen: dict[tuple[tuple[str, float], ...], tuple[str, str]] = {}
    here = (table.benchmark, table.backbone)
    peers = [t for t in tables if t.file != table.file and (t.benchmark, t.backbone) == here]
    for row in table.rows:
        key = tuple(sorted(row.values.items()))
        twin = seen.get(key) if len(key) >= 5 else None
        own = {plain(r.method) for t in peers for r in t.rows if tuple(sorted(r.values.items())) == key}
        if twin is None and len(key) >= 10 and own and plain(row.method) not in own:
            twin = next((r.method, t.file) for t in peers for r in t.rows if tuple(sorted(r.values.items())) == key)
        if twin is not None:
            text = f"has the same {len(key)} cells as the row {twin[0]!r} of {twin[1]}"
            yield Finding(table, row.method, "copy", text, bool(row.note))
        seen.setdefault(key, (row.method, table.file))


def _declared(table: PrintedTable) -> Iterator[Finding]:
    usual = convention(table)
    if usual in ("group3", "mean19") and table.mean_convention in ("group3", "mean19") \
            and usual != table.mean_convention:
        text = f"the file says {table.mean_convention}, its means follow {usual}"
        yield Finding(table, "", "convention", text, False)
