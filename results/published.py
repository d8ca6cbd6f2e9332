"""Numbers printed in papers: read, checked against themselves and against each other.

One JSON file per paper in results/published/ (its README says what the fields mean); further files of this shape need
no change here. Percent as printed. A printed mean must follow from its cells under a convention that is named: VTAB's
mean over 19 tasks (`mean19`) or over the means of its three groups (`group3`) are two to five points apart. Where a
file says how its mean is formed (`mean_over`, `ood_over`, `group_weights`), that alone counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from .printed import PrintedRow, PrintedTable, load_published
from .vocabulary import (
    BACKBONES,
    BENCHMARKS,
    CLOSED,
    COLUMNS,
    SHIFTED,
    TASKS,
    VTAB,
    family,
    known_column,
    near,
    plain,
)

TOLERANCE = 0.1 + 1e-9  # percent: cells and mean are rounded or cut to one decimal
BY_TASKS = {group: float(len(names)) for group, names in VTAB.items()}  # weights that make group means a mean19
GUESS = "mean of"  # a convention that no field of the file states


@dataclass(frozen=True)
class Finding:
    """Something a reader must know before quoting a row. `known` when the file's own note speaks of it."""

    table: PrintedTable
    method: str
    kind: str  # "mean", "group", "cell", "copy", "convention", "column", "twice", "ppt", "suspect"
    text: str
    known: bool


def means(table: PrintedTable, row: PrintedRow, key: str = "mean") -> dict[str, float]:
    """What the printed number may be, by convention, as far as the cells are there; {} when nothing is known."""
    values = row.values
    groups = {g: [values[c] for c in names] for g, names in VTAB.items() if all(c in values for c in names)}
    if key in VTAB:
        return {key: fmean(groups[key])} if key in groups else {}
    if key.startswith("mean@"):
        found = [v for c, v in values.items() if c.endswith(key[4:])]
        return {key: fmean(found)} if len(found) == sum(c.endswith(key[4:]) for c in table.columns) > 0 else {}
    over = table.mean_over if key == "mean" else table.over.get(key, SHIFTED.get(family(table.benchmark), ())
                                                               if key == "ood" else ())
    if key != "mean" or (over and set(over) not in (set(VTAB), set(TASKS))):
        label = f"mean of {len(over)}" if key == "mean" else f"{key}, mean of {len(over)}"
        return {label: fmean(values[c] for c in over)} if over and all(c in values for c in over) else {}
    heads = {g: fmean(groups[g]) if g in groups else values.get(g, math.nan) for g in VTAB}
    if not any(map(math.isnan, heads.values())):
        found_heads = _of_groups(table, heads, len(groups) == len(VTAB))
        if found_heads:
            return found_heads
    if table.weights:
        parts = {**values, **heads}
        held = {c: parts.get(c, math.nan) for c in table.weights}
        return {} if any(map(math.isnan, held.values())) else {_weighing(table.weights): _weighted(held, table.weights)}
    if family(table.benchmark) == "vtab1k" and any(c in TASKS for c in table.columns) \
            and table.benchmark == "vtab1k":
        return {}  # a VTAB table with a task missing or of unknown name: no convention can be checked
    columns = table.percents() or table.totals()
    return {f"{GUESS} {len(columns)}": fmean(values[c] for c in columns)} \
        if len(columns) > 1 and all(c in values for c in columns) else {}


def _of_groups(table: PrintedTable, heads: Mapping[str, float], tasks: bool) -> dict[str, float]:
    """Means of VTAB's three groups: by the file's weights, by its convention, or by either when it says neither."""
    both = {"group3": fmean(heads.values()), "mean19": _weighted(heads, BY_TASKS)}
    if table.weights and set(table.weights) == set(VTAB):
        own = {_weighing(table.weights): _weighted(heads, table.weights)}
        return own | ({"group3": both["group3"]} if table.mean_convention == "group3" else {})
    if tasks:
        return both
    others = [c for c in table.percents() if c not in VTAB]
    if others and not table.mean_over:
        return {}
    if table.mean_over:  # the three groups, named by the file
        return {"mean of 3": both["group3"]} if table.mean_convention != "mean19" else {"mean19": both["mean19"]}
    return {k: v for k, v in both.items() if table.mean_convention not in both or k == table.mean_convention}


def _weighted(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[c] * values[c] for c in weights) / sum(weights.values())


def _weighing(weights: Mapping[str, float]) -> str:
    """`mean19` and `group3` for their weights, else the weights themselves."""
    if set(weights) == set(VTAB):
        for name, known in (("mean19", BY_TASKS), ("group3", dict.fromkeys(VTAB, 1.0))):
            parts = [weights[g] / known[g] for g in VTAB]
            if max(parts) - min(parts) <= 0.01 * max(parts):  # written as shares, they are rounded
                return name
    return "weighted " + ":".join(f"{w:g}" for w in weights.values())


def follows(table: PrintedTable, row: PrintedRow, key: str = "mean") -> tuple[str, ...]:
    """The conventions that a printed number follows."""
    return tuple(name for name, value in means(table, row, key).items()
                 if key in row.printed and abs(value - row.printed[key]) <= TOLERANCE)


def convention(table: PrintedTable) -> str:
    """The convention that most rows with a printed mean follow; "" where none can be checked."""
    votes = Counter(name for row in table.rows for name in follows(table, row))
    return votes.most_common(1)[0][0] if votes else ""


def findings(tables: list[PrintedTable]) -> list[Finding]:
    """Every mean that does not follow, every copied row, every cell that departs from copies of the same row."""
    found = [f for table in tables for f in (*_means(table, tables), *_copies(table, tables), *_declared(table),
                                             *_doubted(table), *_odd(table))]
    return found + list(_cells(tables))


def _means(table: PrintedTable, tables: list[PrintedTable]) -> Iterator[Finding]:
    usual = convention(table)
    asked = [row for row in table.rows if "mean" in row.printed and means(table, row)]
    unlike = [row for row in asked if not follows(table, row)]
    lost = len(asked) >= 4 and 2 * len(unlike) > len(asked) and all(
        name.startswith(GUESS) for row in asked for name in means(table, row)) and not table.mean_over
    if lost:
        text = f"{len(unlike)} of {len(asked)} printed means follow no convention known here; 'mean_over' or " \
               "'group_weights' would say how they are formed"
        yield Finding(table, "", "convention", text, bool(table.notes))
    for row in table.rows:
        for key, printed in row.printed.items():
            options = means(table, row, key)
            if not options or follows(table, row, key) or (lost and key == "mean"):
                continue
            words = " or ".join(f"{v:.2f} ({name})" for name, v in options.items())
            text = f"{key} is printed {printed:g}, but its cells give {words}"
            cell = _mended(table, row, printed, usual, tables) if key == "mean" else ""
            yield Finding(table, row.method, "group" if key in VTAB else "mean", text + cell, bool(row.note))


def _mended(table: PrintedTable, row: PrintedRow, printed: float, usual: str, tables: list[PrintedTable]) -> str:
    """The one cell whose value in other papers' copies of this row would give the printed mean."""
    for other, twin in _twins(table, row, tables):
        apart = [c for c in row.values if row.values[c] != twin.values.get(c)]
        if len(apart) == 1 and apart[0] in twin.values:
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


def _doubted(table: PrintedTable) -> Iterator[Finding]:
    """What the file itself says against its numbers."""
    if table.remark():
        yield Finding(table, "", "suspect", f"the file says: {table.remark()}", True)
    for row in table.rows:
        if row.suspect:
            yield Finding(table, row.method, "suspect", f"the file says: {row.suspect}", True)


def _odd(table: PrintedTable) -> Iterator[Finding]:
    """Columns that do not belong, cells that are no percentages, one method with two numbers, a PPT that is none."""
    if table.benchmark in CLOSED:
        for column in table.columns:
            if not known_column(column, table.benchmark):
                hint = near(column, COLUMNS[family(table.benchmark)])
                yield Finding(table, "", "column", f"{column!r} is no column of {table.benchmark}{hint}", False)
    percents = table.percents()
    ranges = {c: [r.values[c] for r in table.rows if c in r.values] for c in percents}
    seen: dict[tuple[str, float | None, float | None], PrintedRow] = {}
    for row in table.rows:
        for c in (c for c in percents if c in row.values):
            value, others = row.values[c], [v for v in ranges[c] if v > 1]
            if value > 100 or value < -100 or (value < 0 and c != "cola"):  # Matthews' correlation may be negative
                yield Finding(table, row.method, "cell", f"{c} is {value:g}, which is no percentage", bool(row.note))
            elif 0 < value <= 1 and others and min(others) > 10 and min(others) / 2 <= 100 * value <= max(others) * 2:
                text = f"{c} is {value:g}, which looks like a share: the other rows hold {min(others):g} to " \
                       f"{max(others):g}"
                yield Finding(table, row.method, "cell", text, bool(row.note))
        first = seen.setdefault((plain(row.method), row.params_m, row.params_pct), row)
        apart = [c for c in row.values if c in first.values and first.values[c] != row.values[c]]
        if first is not row and apart and not (row.note or row.kind):
            text = f"stands twice: {apart[0]} is {first.values[apart[0]]:g} and {row.values[apart[0]]:g}"
            yield Finding(table, row.method, "twice", text, False)
        yield from _trade(table, row)


def _trade(table: PrintedTable, row: PrintedRow) -> Iterator[Finding]:
    """V-PETL's PPT is mean / 100 * exp(-log10(millions / 10 + 1)), printed with two decimals."""
    if row.ppt is None or row.params_m is None or "mean" not in row.printed:
        return
    due = row.printed["mean"] / 100 * math.exp(-math.log10(row.params_m / 10 + 1))
    if abs(due - row.ppt) > 0.0105:  # one digit, as some round and some cut, and half of 0.001 for what goes in
        yield Finding(table, row.method, "ppt", f"PPT is printed {row.ppt:g}, its mean and parameters give {due:.3f}",
                      bool(row.note))


def strangers(tables: list[PrintedTable]) -> list[str]:
    """Benchmarks, backbones and columns that no list here knows, each once; their rows stand in no ledger."""
    found: dict[str, None] = {}
    names = {c for own in COLUMNS.values() for c in own}
    for t in tables:
        asked = [("benchmark", t.benchmark, near(t.benchmark, BENCHMARKS))] if t.benchmark not in BENCHMARKS else []
        asked += [("backbone", t.backbone, near(t.backbone, BACKBONES))] if t.backbone not in BACKBONES else []
        asked += [("column", c, near(c, names)) for c in t.columns
                  if t.benchmark not in CLOSED and not known_column(c, t.benchmark)]
        found |= {f"{t.file}: {t.name}: {what} {name!r} is not known here{hint}": None for what, name, hint in asked}
    return list(found)


__all__ = ["TASKS", "TOLERANCE", "VTAB", "Finding", "PrintedRow", "PrintedTable", "convention", "findings", "follows",
           "load_published", "means", "plain", "strangers"]
