"""A printed table becomes a file of results/published: names recognised, both means shown, nothing guessed.

    python -m reports import table.tex --paper "New: work" --backbone "ViT-B/16 (ImageNet-21k supervised)" \\
        --benchmark vtab1k

What is not recognised is named with the nearest name; `--column OLD=NEW` names it, `--skip OLD` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from results.printed import PrintedTable, load_published
from results.published import Finding, convention, findings, follows, means, strangers
from results.schema import RecordError
from results.spoken import many
from results.store import write_text
from results.vocabulary import (
    CLOSED,
    COLUMNS,
    PERCENT,
    TOTALS,
    VTAB,
    backbone_of,
    benchmark_of,
    column_of,
    family,
    known_column,
    near,
    squeezed,
    unit_of,
    words,
)

from .grids import Grid, grid_of

EMPTY = frozenset({"", "-", "–", "—", "−", "n/a", "na", "nan", "none", "✗", "x", "tba", "oom"})
METHOD = frozenset({"", "method", "methods", "model", "models", "name", "approach", "technique", "algorithm"})
MILLIONS = {"k": 1e-3, "m": 1.0, "b": 1e3, "g": 1e3}


@dataclass(frozen=True)
class Plan:
    """What each column of a grid is: `roles` holds ("value" | "printed" | "field" | "skip", name) by place."""

    method: int
    heading: int  # row of the headings
    roles: Mapping[int, tuple[str, str]]
    renamed: tuple[str, ...]  # "Camelyon -> patch_camelyon", for the preview


@dataclass(frozen=True)
class Imported:
    body: dict[str, Any]  # the file's content
    table: PrintedTable
    found: tuple[Finding, ...]
    left: tuple[str, ...]  # rows of the grid that hold no numbers
    renamed: tuple[str, ...]
    unknown: tuple[str, ...] = field(default=())


def plan(grid: Grid, benchmark: str, names: Mapping[str, str], skip: Sequence[str], where: str) -> Plan:
    """Recognise headings. Raises RecordError that names every unknown column with the nearest known one."""
    heading = max(range(min(4, len(grid))), key=lambda i: (sum(_known(c, benchmark) for c in grid[i]), -i))
    heads = [names.get(h, h) for h in grid[heading]]
    for asked in (*names, *skip):
        if asked not in grid[heading]:
            raise RecordError(f"{where}: there is no column {asked!r}; there are "
                              f"{', '.join(filter(None, grid[heading]))}")
    below = grid[heading + 1:]
    text = [i for i in range(len(heads)) if not any(_numeric(row[i]) for row in below)]
    method = next((i for i in range(len(heads)) if squeezed(heads[i]) in METHOD and i in text), text[0] if text else 0)
    roles: dict[int, tuple[str, str]] = {}
    unknown, renamed = [], []
    for i, head in enumerate(heads):
        if i == method or grid[heading][i] in skip or not any(row[i] for row in below):
            continue
        role = _role(head, i, heads, benchmark)
        if role is None and i in text:
            continue  # a column of words: a venue, a reference
        if role is None:
            unknown.append(f"{head!r}{near(head, COLUMNS.get(family(benchmark), {}))}")
            continue
        if role in roles.values():
            raise RecordError(f"{where}: two columns are {role[1]!r}, the second is {grid[heading][i]!r}; leave one "
                              "out with --skip or name it with --column")
        roles[i] = role
        if role[1] != grid[heading][i]:
            renamed.append(f"{grid[heading][i] or '(no heading)'} -> {role[1]}")
    if unknown:
        raise RecordError(f"{where}: unknown column {'; unknown column '.join(unknown)}; name it with --column OLD=NEW "
                          "or leave it out with --skip OLD")
    if not roles:
        raise RecordError(f"{where}: no column of {benchmark} was recognised in {', '.join(filter(None, heads))}")
    return Plan(method, heading, roles, tuple(renamed))


def _known(head: str, benchmark: str) -> bool:
    return bool(head) and (column_of(head, benchmark) in COLUMNS.get(family(benchmark), {})
                           or known_column(head, benchmark))


def _role(head: str, place: int, heads: Sequence[str], benchmark: str) -> tuple[str, str] | None:
    name, own = column_of(head, benchmark), COLUMNS.get(family(benchmark), {})
    if name in VTAB and benchmark != "vtab1k-groups":
        return "printed", name
    if name.partition("@")[0] in own:
        return "value", name
    said = words(head)
    if unit_of(head) == "parameters" or squeezed(head) in ("paramsm", "parameter"):
        return "field", "params_pct" if "%" in head or "pct" in said else "params_m"
    if squeezed(head) == "ppt":
        return "field", "ppt"
    if said and said[0] in TOTALS | {"ood"} and len(said) == 1:
        return "printed", _which_mean(place, heads, benchmark) if said[0] != "ood" else "ood"
    if said and said[0] in TOTALS and "@" in head:
        return "printed", f"mean@{head.partition('@')[2]}"
    if unit_of(head) != PERCENT or (benchmark not in CLOSED and head):
        return "value", re.sub(r"[^a-z0-9@+]+", "_", head.lower()).strip("_")
    return None


def _which_mean(place: int, heads: Sequence[str], benchmark: str) -> str:
    """Of several columns called `Avg.`, one behind a whole VTAB group is that group's mean."""
    behind: set[str] = set()
    for head in reversed(heads[:place]):
        if words(head)[:1] and words(head)[0] in TOTALS:
            break
        behind.add(column_of(head, benchmark))
    group = next((g for g, tasks in VTAB.items() if set(tasks) == behind & {t for ts in VTAB.values() for t in ts}), "")
    return group or "mean"


def _numeric(cell: str) -> bool:
    return _first(cell) is not None


def _first(cell: str) -> float | None:
    """The number that a cell begins with: `78.3 ± 0.2`, `78.3*`, `78,3`, `1,234`, `78.3%`."""
    match = re.fullmatch(r"[*†‡\s~≈(]*([-+−]?\d[\d.,]*)\s*[%kKmMbBG)]?[*†‡§★◊\s]*(?:[±+(\[].*)?", cell)
    if match is None:
        return None
    text = match[1].replace("−", "-")
    text = text.replace(",", "") if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text) else text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


def _cell(cell: str, unit: str, what: str) -> float | None:
    if cell.strip().lower() in EMPTY:
        return None
    value = _first(cell)
    if value is None or not math.isfinite(value):
        raise RecordError(f"{what} is {cell[:30]!r}, which is no number")
    if unit == "share":
        return round(100 * value, 6)
    return value


def _millions(cell: str, what: str) -> float | None:
    value = _cell(cell, "", what)
    match = re.search(r"\d\s*([kmbg])\b", cell.lower())
    return None if value is None else round(value * MILLIONS[match[1]], 9) if match else value


def rows(grid: Grid, found: Plan, unit: str, where: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the format, and what was left out for holding no numbers."""
    made, left = [], []
    for line in grid[found.heading + 1:]:
        if not any(re.search(r"\d", line[i]) for i in found.roles):
            left.append(" ".join(filter(None, line)))
            continue
        method = re.sub(r"\s*\^?[†‡§★*]+$", "", line[found.method])  # a footnote's mark is no part of the name
        row: dict[str, Any] = {"method": method, "params_m": None, "values": {}, "printed": {}}
        for i, (role, name) in found.roles.items():
            what = f"{where}: {grid[found.heading][i]!r} of {method!r}"
            if role == "field":
                row[name] = _millions(line[i], what) if name == "params_m" else _cell(line[i], "", what)
                continue
            number = _cell(line[i], unit if role == "printed" or unit_of(name) == PERCENT else "", what)
            if number is not None:
                row["values" if role == "value" else "printed"][name] = number
        made.append(row)
    return made, left


def imported(grid: Grid, found: Plan, about: Mapping[str, Any], unit: str, where: str,
             others: Sequence[PrintedTable]) -> Imported:
    """The file's content, read back through the strict reader and checked against itself and the other papers."""
    lines, left = rows(grid, found, unit, where)
    columns = [name for role, name in found.roles.values() if role == "value"]
    table = {**{k: about[k] for k in ("name", "benchmark", "backbone", "mean_convention")}, "columns": columns,
             "units": {c: unit_of(c) for c in columns if unit_of(c) != PERCENT}, "rows": lines,
             **{k: about[k] for k in ("source", "verified")}}
    body = {**{k: about[k] for k in ("paper", "arxiv", "year", "venue")}, "tables": [table]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / where).with_suffix(".json").write_text(json.dumps(body))
        (read,) = load_published(Path(folder))
    own = [f for f in findings([*others, read]) if f.table is read]
    return Imported(body, read, tuple(own), tuple(left), found.renamed, tuple(strangers([read])))


def preview(made: Imported) -> str:
    """What was understood: names, units, each row with its means, findings."""
    t = made.table
    parts = [f"{t.name}, {t.benchmark}, {t.backbone}: {many(len(t.rows), 'row')}, "
             f"{many(len(t.columns), 'column')}"]
    parts += ["Read as: " + ", ".join(made.renamed)] if made.renamed else []
    units = {c: u for c, u in t.units.items() if u != PERCENT}
    parts += ["Units: percent" + ("".join(f", {c} in {u}" for c, u in units.items()) or " for all columns")]
    parts += [f"Left out, without numbers: {line}" for line in made.left]
    names = list(dict.fromkeys(name for row in t.rows for name in means(t, row)))
    lines = [[row.method, row.params_m, len(row.values), row.printed.get("mean"),
              *(means(t, row).get(n) for n in names),
              ", ".join(follows(t, row)) or ("–" if "mean" not in row.printed or not means(t, row) else "nothing")]
             for row in t.rows]
    parts += ["", tabulate(lines, ["method", "params_m", "cells", "printed mean", *names, "follows"],
                           floatfmt=".2f", missingval="–"), ""]
    parts += [f"unknown: {text.split(': ', 2)[2]}" for text in made.unknown]
    parts += [f"finding: {f.method or 'table'}: {f.text}" for f in made.found]
    return "\n".join(parts)


def slug(paper: str, year: int | None) -> str:
    """`Neural Prompt Search: ...`, 2022 -> `neural_prompt_search_2022`."""
    text = re.sub(r"[^a-z0-9]+", "_", paper.split(":")[0].lower()).strip("_")[:40].strip("_")
    return f"{text or 'paper'}" + (f"_{year}" if year else "")


def joined(old: Any, new: dict[str, Any], where: str) -> dict[str, Any]:
    """A further table of a paper that has a file. Raises RecordError when the file is another paper's."""
    if not isinstance(old, dict) or old.get("paper") != new["paper"]:
        raise RecordError(f"{where}: exists and is another paper's; give --out FILE")
    name = new["tables"][0]["name"]
    if any(t.get("name") == name for t in old["tables"]):
        raise RecordError(f"{where}: has a table {name!r} already; give another --name or remove it there")
    return {**old, "tables": [*old["tables"], *new["tables"]]}


def run(args: argparse.Namespace, folder: Path, shown: Callable[[Path], str]) -> int:
    """`python -m reports import`: preview, then the file; exit 1 when a row does not follow from its cells."""
    where = args.table.name
    names = dict(_pair(text) for text in args.column)
    benchmark = benchmark_of(args.benchmark)
    grid = turned(grid_of(args.table), benchmark)
    found = plan(grid, benchmark, names, args.skip, where)
    about = {"paper": args.paper, "arxiv": args.arxiv, "year": args.year, "venue": args.venue, "name": args.name,
             "benchmark": benchmark, "backbone": backbone_of(args.backbone), "source": args.source or where,
             "verified": args.verified, "mean_convention": args.convention or "unknown"}
    out = args.out or folder / f"{slug(args.paper, args.year)}.json"
    others = [t for t in load_published(folder, lambda _: None) if t.file != out.name]
    made = imported(grid, found, about, args.unit, where, others)
    if not args.convention:  # what the rows follow, where they follow one
        usual = convention(made.table)
        made.body["tables"][0]["mean_convention"] = usual if usual in ("mean19", "group3") else "unknown"
    print(preview(made))
    if args.preview:
        return 1 if made.found else 0
    body = joined(json.loads(out.read_text(encoding="utf-8")), made.body, out.name) if out.exists() else made.body
    write_text(out, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    print(f"written: {shown(out)}")
    return 1 if made.found else 0


def turned(grid: Grid, benchmark: str) -> Grid:
    """Methods as rows: a table whose first column holds more data sets than any heading is turned round."""
    across = max(sum(_known(c, benchmark) for c in row) for row in grid[:4])
    down = sum(_known(row[0], benchmark) for row in grid)
    return [list(column) for column in zip(*grid, strict=True)] if down > across else grid


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not sign or not new:
        raise RecordError(f"--column {text}: write it as OLD=NEW")
    return old, new
