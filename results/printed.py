"""The files of results/published, read strictly: results/published/README.md says field by field what they may hold.

A file that breaks the format is named with the field; the other files are read all the same when the caller takes
the errors. Names of columns, benchmarks and backbones come out under one name each (results/vocabulary.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from . import door
from .schema import RecordError
from .spoken import many
from .store import ROOT
from .vocabulary import (
    COLUMNS,
    PERCENT,
    PERCENTS,
    VTAB,
    backbone_of,
    benchmark_of,
    column_of,
    family,
    is_total,
    unit_of,
)

CONVENTIONS = ("mean19", "group3", "other", "unknown")  # and mean5, mean8, ...: the mean over so many columns
SHARES = frozenset({"share", "shares", "fraction", "fractions"})
OOD = frozenset({"ood", "oodmean", "meanood", "oodavg", "avgood", "oodaverage"})


@dataclass(frozen=True)
class PrintedRow:
    method: str
    params_m: float | None  # trained parameters in millions, as printed
    values: Mapping[str, float]
    printed: Mapping[str, float]  # natural, specialized, structured, mean, mean@4, ood, ...
    note: str = ""
    suspect: str = ""  # why the file's author does not trust the row; "" when he does
    kind: str = ""  # what sort of number it is, in the file's words: "copied", "best epoch on test", ...
    params_pct: float | None = None  # trained parameters in percent of the backbone, as printed
    ppt: float | None = None  # V-PETL's trade-off of accuracy and parameters, as printed


@dataclass(frozen=True)
class PrintedTable:
    paper: str
    arxiv: str
    year: int  # 0 when the file does not know it
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
    notes: str = ""
    kind: str = ""
    suspect: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)  # group_weights: column or VTAB group -> weight
    over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "ood" -> the columns of its mean
    units: Mapping[str, str] = field(default_factory=dict)  # column -> unit, of every column
    written: Mapping[str, str] = field(default_factory=dict)  # column -> the name it has in the file, where another

    def percents(self) -> tuple[str, ...]:
        """The columns whose cells are percent and no means of others."""
        return tuple(c for c in self.columns if self.units.get(c, PERCENT) == PERCENT and not is_total(c))

    def totals(self) -> tuple[str, ...]:
        """The columns in percent that are means of others, VTAB's three groups apart: `fgvc_mean`, `vtab_mean`."""
        return tuple(c for c in self.columns if self.units.get(c, PERCENT) == PERCENT and is_total(c) and c not in VTAB)

    def remark(self) -> str:
        """What the file says against taking the table as a plain measurement, in its own words."""
        kind = "" if squashed(self.kind) in ("", "own", "accuracy", "measured", "results") else self.kind
        return "; ".join(filter(None, (kind, self.suspect)))


def squashed(text: str) -> str:
    return text.strip().lower()


def load_published(root: Path | None = None, on_error: Callable[[RecordError], None] | None = None) \
        -> list[PrintedTable]:
    """Every table of every file, in the order of file names. Raises RecordError naming file and field.

    With `on_error` a faulty file is handed over as its error and the others are read.
    """
    base, found = root if root is not None else ROOT / "published", list[PrintedTable]()
    for path in sorted(base.glob("*.json")):
        try:
            found += list(_file(path))
        except RecordError as error:
            if on_error is None:
                raise
            on_error(error)
    return found


def _file(path: Path) -> Iterator[PrintedTable]:
    body = _parsed(path)
    for i, table in enumerate(_want(body, "tables", list, path.name)):
        yield _table(path.name, body, table, f"{path.name}: tables[{i}]")


def _parsed(path: Path) -> Any:
    def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        for name in found:
            held = [value for key, value in pairs if key == name]
            if len(held) > 1:
                where = next((f" of the row {found[k]!r}" for k in ("method", "name") if k in found), "")
                raise RecordError(f"{path.name}: the key {name!r}{where} stands {len(held)} times in one object "
                                  f"({', '.join(str(h)[:20] for h in held)})")
        return found

    def refuse(name: str) -> float:
        raise RecordError(f"{path.name}: {name} is no number that a paper prints; leave out what is not known")

    try:
        return json.loads(door.read_text(path), object_pairs_hook=single, parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path.name}: not valid JSON ({error.__class__.__name__})") from None


def _table(file: str, body: Any, table: Any, where: str) -> PrintedTable:
    benchmark = benchmark_of(_want(table, "benchmark", str, where))
    given = _names(_want(table, "columns", list, where), f"{where}.columns")
    columns = tuple(column_of(c, benchmark) for c in given)
    for i, name in enumerate(columns):
        if name in columns[:i]:
            raise RecordError(f"{where}: field 'columns' has {name!r} twice"
                              + (f", once as {given[i]!r}" if given[i] != name else ""))
    convention = _want(table, "mean_convention", str, where)
    if convention not in CONVENTIONS and not (convention.startswith("mean") and convention[4:].isdigit()):
        raise RecordError(f"{where}: field 'mean_convention' is {convention!r}; it is one of {', '.join(CONVENTIONS)}, "
                          "or 'mean5' for a mean over five columns")
    short = {c: column_of(c, benchmark) for c in given}
    over = {name[:-5]: _over(value, columns, benchmark, f"{where}.{name}") for name, value in table.items()
            if name.endswith("_over") and value is not None}
    read = [_row(row, columns, benchmark, f"{where}.rows[{j}]")
            for j, row in enumerate(_want(table, "rows", list, where))]
    notes = filter(None, (_text(table, "notes", where), _text(table, "note", where)))
    units = _units(table, columns, benchmark, where)
    year = 0 if isinstance(body, dict) and body.get("year", 0) is None else _want(body, "year", int, file)
    made = PrintedTable(
        _want(body, "paper", str, file), _text(body, "arxiv", file), year, file,
        _want(table, "name", str, where), benchmark, backbone_of(_want(table, "backbone", str, where)), columns,
        convention, over.pop("mean", ()), tuple(read), _text(table, "source", where), _text(table, "verified", where),
        _text(body, "trust", file), "; ".join(notes),
        _text(table, "kind", where), _doubt(table, where) or _doubt(body, file),
        _weights(table.get("group_weights"), columns, benchmark, where), over,
        _other_units(units, read, benchmark, frozenset(units) if table.get("unit") else _said_units(table, benchmark)),
        {new: old for old, new in short.items() if old != new})
    _percent(made, where)
    return made


def _row(row: Any, columns: tuple[str, ...], benchmark: str, where: str) -> PrintedRow:
    values = _numbers(_want(row, "values", dict, where), f"{where}.values", lambda name: column_of(name, benchmark))
    printed = _numbers(_want(row, "printed", dict, where), f"{where}.printed", _key)
    for name in values:
        if name not in columns:
            raise RecordError(f"{where}: field 'values' has {name!r}, which is no column")
    return PrintedRow(_want(row, "method", str, where), _number(row.get("params_m"), f"{where}: field 'params_m'"),
                      values, printed, "; ".join(filter(None, (_text(row, "note", where), _text(row, "notes", where)))),
                      _doubt(row, where), _text(row, "kind", where),
                      _number(row.get("params_pct"), f"{where}: field 'params_pct'"),
                      _number(row.get("ppt"), f"{where}: field 'ppt'"))


def _key(name: str) -> str:
    """A printed mean under its one name: `avg` is `mean`, `ood_mean` is `ood`, `specialised` is `specialized`."""
    base, at, shots = name.partition("@")
    text = "".join(c for c in base.lower() if c.isalnum())
    if text in ("mean", "avg", "average", "overall"):
        base = "mean"
    elif text in OOD:
        base = "ood"
    elif column_of(base, "vtab1k") in VTAB:
        base = column_of(base, "vtab1k")
    return base + at + shots


def _want(body: Any, name: str, kind: type, where: str) -> Any:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecordError(f"{where}: field {name!r} must be a {kind.__name__}"
                          + (f", not {value!r}" if isinstance(value, str | int | float) else ""))
    return value


def _text(body: Any, name: str, where: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "; ".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError(f"{where}: field {name!r} must be words, not {_said(value)}")
    return str(value)


def _doubt(body: Any, where: str) -> str:
    """`suspect`: true, the reason in words, the columns in doubt, or a reason by column."""
    value = body.get("suspect")
    if value is True:
        return "marked suspect"
    if value is None or value is False:
        return ""
    if isinstance(value, dict):
        return "suspect: " + "; ".join(f"{k}: {v}" for k, v in value.items()) if value else ""
    text = _text(body, "suspect", where)
    return f"suspect: {text}" if text else ""


def _names(value: list[Any], where: str) -> list[str]:
    for name in value:
        if not isinstance(name, str) or not name.strip():
            raise RecordError(f"{where}: a name must be words, not {_said(name)}")
    return [str(name) for name in value]


def _over(value: Any, columns: tuple[str, ...], benchmark: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RecordError(f"{where} must be a list of columns, not {_said(value)}")
    found = tuple(column_of(name, benchmark) for name in _names(value, where))
    for name in found:
        if name not in columns:
            raise RecordError(f"{where} names {name!r}, which is no column")
    return found


def _weights(value: Any, columns: tuple[str, ...], benchmark: str, where: str) -> dict[str, float]:
    """`group_weights` by column or VTAB group; a list goes by VTAB's groups, or by the columns in their order."""
    where = f"{where}: field 'group_weights'"
    if value is None:
        return {}
    if isinstance(value, list):
        names = tuple(VTAB) if len(value) == len(VTAB) and (set(VTAB) <= set(columns) or len(columns) != len(value)) \
            else columns
        if len(value) != len(names):
            raise RecordError(f"{where} has {many(len(value), 'weight')} for {many(len(names), 'column')}")
        value = dict(zip(names, value, strict=True))
    if not isinstance(value, dict):
        raise RecordError(f"{where} must hold a number for each group, not {_said(value)}")
    found = {}
    for name, weight in value.items():
        key = column_of(name, "vtab1k") if column_of(name, "vtab1k") in VTAB else column_of(name, benchmark)
        if key not in columns and key not in VTAB:
            raise RecordError(f"{where} names {name!r}, which is no column")
        number = _number(weight, f"{where}.{name}")
        if number is None or number < 0:
            raise RecordError(f"{where}.{name} is {weight!r}; a weight is a number from 0 on")
        found[key] = number
    if sum(found.values()) <= 0:
        raise RecordError(f"{where} must hold a weight above 0")
    return found


def _units(table: Any, columns: tuple[str, ...], benchmark: str, where: str) -> dict[str, str]:
    """The unit of every column: what `units` says of it, else what `unit` says of all, else what its name says."""
    given, whole = table.get("units") or {}, table.get("unit")
    if isinstance(given, str):
        given, whole = {}, given
    if isinstance(given, list) and len(given) == len(columns):
        given = dict(zip(columns, given, strict=True))
    if not isinstance(given, dict) or not all(isinstance(u, str) for u in (*given.values(), whole or "")):
        raise RecordError(f"{where}: field 'units' must hold a word for each column, not {_said(given or whole)}")
    named = {column_of(name, benchmark): unit for name, unit in given.items()}
    for name in named:
        if name not in columns:
            raise RecordError(f"{where}: field 'units' names {name!r}, which is no column")
    found = {c: named.get(c, whole if whole and unit_of(c) == PERCENT else unit_of(c)) for c in columns}
    return {c: PERCENT if squashed(u) in PERCENTS else u for c, u in found.items()}


def _said_units(table: Any, benchmark: str) -> frozenset[str]:
    given = table.get("units")
    return frozenset(column_of(c, benchmark) for c in given) if isinstance(given, dict) else frozenset()


def _other_units(units: Mapping[str, str], rows: Sequence[PrintedRow], benchmark: str,
                 said: frozenset[str]) -> dict[str, str]:
    """Columns taken for percent for want of a word, whose cells say otherwise: mostly above 100, or all below 1."""
    known = COLUMNS.get(family(benchmark), {})
    cells = {c: [r.values[c] for r in rows if c in r.values] for c in units}
    high = any(found and median(found) > 10 for c, found in cells.items() if units[c] == PERCENT)
    return {c: "unknown" if unit == PERCENT and c not in said and c.partition("@")[0] not in known and cells[c]
            and (median(cells[c]) > 100 or (high and max(cells[c]) <= 1)) else unit for c, unit in units.items()}


def _numbers(body: dict[str, Any], where: str, name_of: Callable[[str], str]) -> dict[str, float]:
    """Numbers by their one name; null is a number that the paper does not print."""
    found: dict[str, float] = {}
    for name, value in body.items():
        number, short = _number(value, f"{where}: field {name!r}"), name_of(name)
        if short in found:
            raise RecordError(f"{where}: {short!r} stands twice, once as {name!r}")
        if number is not None:
            found[short] = number
    return found


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError(f"{where} has the value {_said(value)}, which is no number")
    return float(value)


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _percent(table: PrintedTable, where: str) -> None:
    """Raises RecordError where cells that must be percent are shares: every cell of a table or of a long row."""
    columns = table.percents()
    cells = [[row.values[c] for c in columns if c in row.values] for row in table.rows]
    every, tall = [v for row in cells for v in row], 1.0
    word = "are shares from 0 to 1; the format wants percent (or says \"unit\": \"share\")"
    if len(every) >= 3 and max(every) <= tall and any(every):
        raise RecordError(f"{where}: its {len(every)} cells {word}")
    for j, (row, found) in enumerate(zip(table.rows, cells, strict=True)):
        others = [v for k, other in enumerate(cells) if k != j for v in other]
        if len(found) >= 3 and max(found) <= tall and any(found) and (not others or median(others) > 10):
            raise RecordError(f"{where}.rows[{j}]: the {len(found)} cells of {row.method!r} {word}")
