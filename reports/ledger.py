"""Rows printed in papers, apart from our own: what a paper says, what we measured, and whether they agree.

Only columns of real data are set beside a paper. A printed row keeps its own protocol, which is not ours: the verdict
says whether the paper's number lies inside our interval, never who is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from results.published import VTAB, Finding, PrintedRow, PrintedTable, convention, findings, plain, strangers
from results.suites import Column, Row

from .table import Field, Table
from .tables import World

COLUMNS = {"cub200": "cub", "flowers102": "flowers_fgvc", "imagenet": "imagenet1k", "imagenet_v2": "imagenetv2",
           "vtab_cifar100": "cifar100", "oxford_pets": "pets_fewshot", "oxford_flowers102@": "flowers_fewshot@"}
BACKBONES = (("ViT-B/16 (ImageNet-21k supervised)", re.compile(r"vit_base_patch16_224\.(augreg_in21k|orig_in21k)$")),
             ("Swin-B (ImageNet-21k)", re.compile(r"swin_base_patch4_window7_224\.ms_in22k$")),
             ("CLIP ViT-B/16", re.compile(r"vit_base_patch16_clip_224\.openai$")))
ROUNDED = 0.05  # percent: printed with one decimal


def our_name(column: str) -> str:
    """A paper's column under our data set's name; few-shot columns keep `@shots`."""
    name, at, shots = column.partition("@")
    return COLUMNS.get(name + at, COLUMNS.get(name, name) + at) + shots


def _named(column: Column) -> str:
    return f"{column.family}@{column.shots}" if column.shots is not None else column.name


def same_backbone(printed: str, model: str) -> bool:
    return any(words == printed and bool(pattern.search(model)) for words, pattern in BACKBONES)


def sections(world: World, papers: Sequence[PrintedTable]) -> list[Table]:
    """Two tables for real data: printed rows apart, and the ledger of rows that we have too."""
    if world.standin:
        return []
    wanted = {_named(c): c for c in world.columns}
    near = [t for t in papers if sum(our_name(c) in wanted for c in t.columns) >= max(2, len(t.columns) // 2)]
    if not near:
        return []
    known = {(f.table.file, f.table.name, f.method): f for f in findings(list(papers)) if f.kind != "convention"}
    found = [printed(world, near, known)]
    lines = [line for t in near for row in t.rows for line in _lines(world, t, row, wanted, known)]
    if lines:
        found.append(Table(
            f"{world.key}-ledger", "Paper and ours", "Percent. The interval is ours; a paper's protocol is not ours.",
            ("Method", "Data set", "Paper", "Printed", "Ours", "Ours − printed", "Verdict"), tuple(lines),
            ("inside: the printed number lies in our interval; higher, lower: ours lies surely above, below it",
             "‡: the printed row has a misprint or an open question, see the table of printed rows"), (),
            frozenset({3, 4, 5})))
    return found


def printed(world: World, tables: Sequence[PrintedTable], known: dict[tuple[str, str, str], Finding]) -> Table:
    """Rows as papers print them, with both VTAB means computed from their cells."""
    vtab = any(all(c in t.columns for names in VTAB.values() for c in names) for t in tables)
    head = ["Method", "Paper", "Backbone", "Mean as printed"]
    head += ["VTAB, 19 tasks", "VTAB, 3 groups"] if vtab else []
    head += ["Mean of its columns", "Trained, millions", "Flag"]
    body, notes = [], []
    for t in tables:
        usual = convention(t) or t.mean_convention
        for row in t.rows:
            finding = known.get((t.file, t.name, row.method))
            mean = row.printed.get("mean")
            both = _both(row)
            line = [Field(row.method), Field(_cite(t)), Field(t.backbone),
                    _number(mean) if mean is None else Field(f"{mean:g} ({usual})", mean)]
            line += [_number(both[0]), _number(both[1])] if vtab else []
            whole = len(row.values) == len(t.columns)
            line += [_number(fmean(row.values.values()) if whole and row.values else None),
                     _number(row.params_m), Field("‡" if finding else "secondary" if t.trust else "")]
            body.append(tuple(line))
            if finding:
                notes.append(f"‡ {row.method}, {_cite(t)}, {t.name}: {finding.text}")
    sources = [f"{_cite(t)}, {t.name}: {t.source}; verified: {t.verified}" for t in tables]
    return Table(f"{world.key}-printed", "Printed in papers (not run by Regatta)",
                 "Each row under its own paper's protocol; rows of different papers are not ranked.", tuple(head),
                 tuple(body), (), (*notes, *sources), frozenset(range(3, len(head) - 1)))


def _lines(world: World, table: PrintedTable, row: PrintedRow, wanted: dict[str, Column],
           known: dict[tuple[str, str, str], Finding]) -> list[tuple[Field, ...]]:
    ours = next((r for r in world.rows if plain(r.method) == plain(row.method)
                 and same_backbone(table.backbone, r.backbone)), None)
    if ours is None:
        return []
    mark = " ‡" if (table.file, table.name, row.method) in known else ""
    lines = []
    for name, value in row.values.items():
        column = wanted.get(our_name(name))
        line = _line(world, ours, column, value) if column is not None else None
        if column is not None and line is not None:
            lines.append((Field(ours.method, code=True), Field(column.title), Field(_cite(table) + mark),
                          Field(f"{value:g}", value), *line))
    return lines


def _line(world: World, row: Row, column: Column, value: float) -> tuple[Field, ...] | None:
    cell = world.grid.cell(row, column)
    if cell.state != "ok" or cell.interval is None:
        return None
    low, high, mean = 100 * cell.interval.low, 100 * cell.interval.high, 100 * cell.mean
    verdict = "higher" if low > value + ROUNDED else "lower" if high < value - ROUNDED else "inside"
    return (Field(f"{mean:.1f} [{low:.1f}, {high:.1f}]", mean, low, high, n=len(cell.values)),
            Field(f"{mean - value:+.1f}".replace("-", "−"), mean - value), Field(verdict))


def _both(row: PrintedRow) -> tuple[float | None, float | None]:
    groups = [[row.values[c] for c in names if c in row.values] for names in VTAB.values()]
    if any(len(g) != len(n) for g, n in zip(groups, VTAB.values(), strict=True)):
        return None, None
    return fmean(v for g in groups for v in g), fmean(fmean(g) for g in groups)


def _number(value: float | None) -> Field:
    return Field("") if value is None else Field(f"{value:.2f}", value)


def _cite(table: PrintedTable) -> str:
    """The paper's short name and year: the part before the colon, at most four words."""
    words = table.paper.split(":")[0].split()
    return f"{' '.join(words[:4])}{' …' if len(words) > 4 else ''} {table.year}"


def listing(tables: Sequence[PrintedTable]) -> tuple[str, int]:
    """What `python -m reports published` prints, and how many findings no note in a file explains."""
    lines = []
    for t in tables:
        usual = convention(t)
        words = f"means follow {usual}" if usual else "no printed mean that its cells can check"
        lines.append(f"{t.file}: {t.name}: {len(t.rows)} rows, {len(t.columns)} columns, {t.benchmark}; {words}")
    found = findings(list(tables))
    lines += ["", f"{len(found)} findings:"]
    lines += [f"  {f.table.file}: {f.table.name}: {f.method or 'table'}: {f.text}{'' if f.known else '  (NEW)'}"
              for f in found]
    unknown = strangers(list(tables))
    lines += ["", f"{len(unknown)} names that are not known here, which is no fault:", *(f"  {u}" for u in unknown)] \
        if unknown else []
    return "\n".join(lines) + "\n", sum(not f.known for f in found)
