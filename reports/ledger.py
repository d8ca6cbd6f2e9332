"""Rows printed in papers, apart from our own: what a paper says, what we measured, and whether they agree.

Only columns of real data are set beside a paper. A printed row keeps its own protocol, which is not ours: the verdict
says where our interval lies, never who is right. One line per method, data set and distinct number; whoever prints
that number stands behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from results.published import (
    TASKS,
    VTAB,
    Finding,
    PrintedRow,
    PrintedTable,
    convention,
    findings,
    follows,
    plain,
    strangers,
)
from results.spoken import many, word
from results.suites import Column, Row

from . import fields
from .table import Field, Table
from .world import World

COLUMNS = {"cub200": "cub", "flowers102": "flowers_fgvc", "imagenet": "imagenet1k", "imagenet_v2": "imagenetv2",
           "vtab_cifar100": "cifar100", "oxford_pets": "pets_fewshot", "oxford_flowers102@": "flowers_fewshot@"}
BACKBONES = (("ViT-B/16 (ImageNet-21k supervised)", re.compile(r"vit_base_patch16_224\.(augreg_in21k|orig_in21k)$")),
             ("Swin-B (ImageNet-21k)", re.compile(r"swin_base_patch4_window7_224\.ms_in22k$")),
             ("CLIP ViT-B/16", re.compile(r"vit_base_patch16_clip_(quickgelu_)?224\.openai$")))
ROUNDED = 0.05  # percent: printed with one decimal
MARGIN = 1.0  # percentage points: nearer than this counts as agreement, and only when the whole interval is


def our_name(column: str) -> str:
    """A paper's column under our data set's name; few-shot columns keep `@shots`."""
    name, at, shots = column.partition("@")
    return COLUMNS.get(name + at, COLUMNS.get(name, name) + at) + shots


def _named(column: Column) -> str:
    return f"{column.family}@{column.shots}" if column.shots is not None else column.name


def same_backbone(printed: str, model: str) -> bool:
    return any(words == printed and bool(pattern.search(model)) for words, pattern in BACKBONES)


@dataclass(frozen=True)
class Said:
    """One number of one paper about one of our columns, or about a mean of them."""

    row: int  # place of our row
    place: int  # of the column, means last: the order of the lines
    title: str
    value: float  # percent
    paper: str
    ours: Field


def sections(world: World, papers: Sequence[PrintedTable]) -> list[Table]:
    """Two tables for real data: printed rows apart, and the ledger of rows that we have too."""
    if world.standin:
        return []
    wanted = {_named(c): c for c in world.columns}
    near = [t for t in papers if sum(our_name(c) in wanted for c in t.columns) >= max(2, len(t.columns) // 2)]
    if not near:
        return []
    doubts = Doubts(papers)
    found = [printed(world, near, doubts)]
    said = [one for t in near for row in t.rows for one in _said(world, t, row, wanted, doubts)]
    return [*found, ledger(world, said, doubts.told(near))] if said else found


class Doubts:
    """What is known against a printed row: findings (‡) and what its own file says (§)."""

    def __init__(self, papers: Sequence[PrintedTable]) -> None:
        self.by_row: dict[tuple[str, str, str], list[Finding]] = {}
        for f in findings(list(papers)):
            if f.kind not in ("convention", "column"):
                self.by_row.setdefault((f.table.file, f.table.name, f.method), []).append(f)

    def of(self, table: PrintedTable, row: PrintedRow) -> list[Finding]:
        """Those of the row, then those of its whole table."""
        return [f for m in (row.method, "") for f in self.by_row.get((table.file, table.name, m), [])]

    def mark(self, table: PrintedTable, row: PrintedRow) -> str:
        found = self.of(table, row)
        signs = [sign for sign, own in (("‡", False), ("§", True)) if any((f.kind == "suspect") is own for f in found)]
        signs += ["§"] if row.kind and "§" not in signs else []
        return "".join(signs)

    def words(self, table: PrintedTable, row: PrintedRow) -> list[str]:
        """What is to say of one row, the file's own note last."""
        found = [f"{'§' if f.kind == 'suspect' else '‡'} {f.text}" for f in self.of(table, row) if f.method]
        return [*found, *([f"§ {row.kind}"] if row.kind else []), *([row.note] if row.note else [])]

    def told(self, tables: Sequence[PrintedTable]) -> tuple[str, ...]:
        """What files say against whole tables of theirs."""
        return tuple(f"§ {paper_of(t)}: {f.text}" for t in tables for f in self.by_row.get((t.file, t.name, ""), []))


def ledger(world: World, said: Sequence[Said], notes: tuple[str, ...]) -> Table:
    """Lines in the order of our rows and columns; the papers that print one number share a line."""
    lines: dict[tuple[int, int, str, float], list[Said]] = {}
    for one in sorted(said, key=lambda s: (s.row, s.place, s.title, -s.value)):
        lines.setdefault((one.row, one.place, one.title, one.value), []).append(one)
    body = []
    for (row, _, title, value), group in lines.items():
        ours = group[0].ours
        apart = (ours.value or 0.0) - value
        body.append((Field(world.rows[row].method, code=True), Field(title), Field(number(value), value), ours,
                     Field(fields.points(apart / 100), apart), Field(verdict(ours, value)),
                     Field("; ".join(dict.fromkeys(s.paper for s in group)))))
    return Table(f"{world.key}-ledger", "Paper and ours",
                 "Percent. The interval is ours; a paper's protocol is not ours.",
                 ("Method", "Data set", "Printed", "Ours", "Ours − printed", "Verdict", "Printed by"), tuple(body),
                 (f"inside: our whole interval lies within {MARGIN:g} point of the printed number",
                  "open: the printed number is not ruled out, but our interval is too wide to speak of agreement",
                  "higher, lower: ours lies surely above, below the printed number",
                  "‡: the printed row has a misprint or an open question, see the table of printed rows",
                  "§: the paper's file itself says something against the number"), notes, frozenset({2, 3, 4}))


def verdict(ours: Field, value: float) -> str:
    """Where our interval lies: beyond the printed number, within MARGIN of it on both sides, or too wide to tell."""
    low, high = ours.low, ours.high
    if low is None or high is None:
        return "open"
    if low > value + ROUNDED or high < value - ROUNDED:
        return "higher" if low > value else "lower"
    return "inside" if value - MARGIN <= low and high <= value + MARGIN else "open"


def _said(world: World, table: PrintedTable, row: PrintedRow, wanted: dict[str, Column],
          doubts: Doubts) -> Iterator[Said]:
    """The cells of a printed row that we have too, and its means where we have all their columns."""
    place = next((i for i, r in enumerate(world.rows) if plain(r.method) == plain(row.method)
                  and same_backbone(table.backbone, r.backbone)), None)
    if place is None:
        return
    ours, mark = world.rows[place], doubts.mark(table, row)
    paper = paper_of(table) + (f" {mark}" if mark else "")
    percents = table.percents()
    for name, value in row.values.items():
        column = wanted.get(our_name(name))
        held = _ours(world, ours, column) if column is not None and name in percents else None
        if column is not None and held is not None:
            yield Said(place, world.columns.index(column), column.title, value, paper, held)
    for title, value, parts in _means(table, row):
        columns = [[wanted.get(our_name(c)) for c in part] for part in parts]
        known = [[c for c in part if c is not None] for part in columns]
        if all(len(k) == len(c) for k, c in zip(known, columns, strict=True)):
            mean = fields.mean_of(world.grid, ours, [c for part in known for c in part], known)
            if mean.value is not None and mean.low is not None:
                yield Said(place, len(world.columns), title, value, paper, _shown(mean))


def _means(table: PrintedTable, row: PrintedRow) -> Iterator[tuple[str, float, list[Sequence[str]]]]:
    """(title, printed number, parts whose means are averaged) of each printed mean that says what it is a mean of."""
    for group in VTAB:
        value = row.printed.get(group, row.values.get(group))
        if value is not None:
            yield f"Mean, {group}", value, [VTAB[group]]
    value, names = row.printed.get("mean"), follows(table, row)
    if value is None:
        return
    if "group3" in names:
        yield "VTAB, mean of 3 groups", value, list(VTAB.values())
    if "mean19" in names:
        yield "VTAB, mean of 19 tasks", value, [TASKS]
    over = table.mean_over or table.percents()
    if names and names[0] == f"mean of {len(over)}" and not set(over) <= set(VTAB):
        yield f"Mean of {len(over)}", value, [over]


def _ours(world: World, row: Row, column: Column) -> Field | None:
    cell = world.grid.cell(row, column)
    if cell.state != "ok" or cell.interval is None or "broken" in cell.signs:
        return None
    low, high, mean = 100 * cell.interval.low, 100 * cell.interval.high, 100 * cell.mean
    return _shown(Field("", mean, low, high, n=len(cell.values)))


def _shown(field: Field) -> Field:
    text = f"{field.value:.1f} [{field.low:.1f}, {field.high:.1f}]"
    return Field(text, field.value, field.low, field.high, n=field.n)


def printed(world: World, tables: Sequence[PrintedTable], doubts: Doubts) -> Table:
    """Rows as papers print them, with both VTAB means computed from their cells."""
    whole = [all(c in t.columns for c in TASKS) for t in tables]
    head = ["Method", "Paper", "Backbone", "Mean as printed"]
    head += ["VTAB, 19 tasks", "VTAB, 3 groups"] if any(whole) else []
    head += ["Mean of its columns"] if not all(whole) else []
    head += ["Trained, millions", "Flag"]
    body, notes = [], []
    for t, vtab in zip(tables, whole, strict=True):
        for row in t.rows:
            means = [_number(v) for v in _both(row)] if any(whole) else []
            means += [_number(None if vtab else _mean(t, row))] if not all(whole) else []
            sign = " ".join(filter(None, (doubts.mark(t, row), "secondary" if t.trust else "")))
            body.append((Field(row.method), Field(paper_of(t)), Field(t.backbone), _as_printed(t, row), *means,
                         _number(row.params_m), Field(sign)))
            notes += [f"{row.method}, {paper_of(t)}: {text}" for text in doubts.words(t, row)]
    sources = [f"{paper_of(t)}: {'; '.join(filter(None, (t.source, f'verified: {t.verified}', t.notes)))}"
               for t in tables]
    return Table(f"{world.key}-printed", "Printed in papers (not run by Regatta)",
                 "Each row under its own paper's protocol; rows of different papers are not ranked.", tuple(head),
                 tuple(body), ("‡: a misprint or an open question", "§: the paper's file itself says something against "
                               "the number", "both are told in the notes"),
                 (*doubts.told(tables), *notes, *sources), frozenset(range(3, len(head) - 1)))


def _as_printed(table: PrintedTable, row: PrintedRow) -> Field:
    """The printed mean with the convention that it follows, or else the one that the table's others follow."""
    mean, own = row.printed.get("mean"), follows(table, row)
    usual = convention(table) or table.mean_convention
    name = usual if usual in own or not own else own[0]
    return Field("") if mean is None else Field(f"{number(mean)} ({name})", mean)


def _mean(table: PrintedTable, row: PrintedRow) -> float | None:
    """The mean over the columns in percent, where all are there."""
    cells = [row.values[c] for c in table.percents() if c in row.values]
    return fmean(cells) if len(cells) == len(table.percents()) > 0 else None


def _both(row: PrintedRow) -> tuple[float | None, float | None]:
    groups = [[row.values[c] for c in names if c in row.values] for names in VTAB.values()]
    if any(len(g) != len(n) for g, n in zip(groups, VTAB.values(), strict=True)):
        return None, None
    return fmean(v for g in groups for v in g), fmean(fmean(g) for g in groups)


def number(value: float) -> str:
    """As a paper prints it, with one decimal at least: JSON keeps no 85.0 apart from 85."""
    value += 0.0  # no minus before a zero
    text = f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}"
    return text if "." in text else f"{text}.0"


def _number(value: float | None) -> Field:
    return Field("") if value is None else Field(f"{value:.2f}", value)


def paper_of(table: PrintedTable) -> str:
    """Paper and table: `Neural Prompt Search 2022, Table 1`."""
    name = re.sub(r"\s*\(.*?\)", "", table.name) or table.name
    name = name if len(name) <= 40 else name[:38].rstrip() + " …"
    return f"{_cite(table)}, {name}"


def _cite(table: PrintedTable) -> str:
    """The paper's short name and year: the part before the colon, at most four words."""
    words = table.paper.split(":")[0].split()
    return f"{' '.join(words[:4])}{' …' if len(words) > 4 else ''}" + (f" {table.year}" if table.year else "")


def listing(tables: Sequence[PrintedTable]) -> tuple[str, int]:
    """What `python -m reports published` prints, and how many findings no note in a file explains."""
    lines = []
    for t in tables:
        usual = convention(t)
        words = f"means follow {usual}" if usual else "no printed mean that its cells can check"
        lines.append(f"{t.file}: {t.name}: {many(len(t.rows), 'row')}, {many(len(t.columns), 'column')}, "
                     f"{t.benchmark}; {words}")
    found = findings(list(tables))
    lines += ["", f"{many(len(found), 'finding')}:"]
    lines += [f"  {f.table.file}: {f.table.name}: {f.method or 'table'}: {f.text}{'' if f.known else '  (NEW)'}"
              for f in found]
    unknown = strangers(list(tables))
    lines += ["", f"{many(len(unknown), 'name')} that {word(len(unknown), 'is', 'are')} not known here, which is no "
              "fault:", *(f"  {u}" for u in unknown)] if unknown else []
    return "\n".join(lines) + "\n", sum(not f.known for f in found)
