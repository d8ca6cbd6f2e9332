"""The accuracy tables of a suite by its kind: groups of data sets, few-shot, distribution shift, test-time adaptation.

Rows that adapt at test stand in tables of their own: they have seen the test images, though not their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from results.suites import Column, Row

from . import fields, provenance, rules, summary
from .table import Field, Table, legend_of
from .world import World, name_header, names, title_of

UNADAPTED = "metrics.test:noadapt.top1"  # the same weights on the same images as they are


def accuracies(world: World) -> list[Table]:
    """A summary and every cell; then the same of rows that adapt at test, apart."""
    found = [summary.summary(world)] if world.plain or not world.adapting else []
    if world.plain:
        found += details(world, world.plain)
    if world.adapting:
        found.append(adapting(world))
        found += [_apart(table) for table in details(world, world.adapting)]
    return found


def details(world: World, rows: tuple[Row, ...]) -> list[Table]:
    """Every cell of some rows; few-shot and shift suites have their own order of columns."""
    if len(world.columns) == 1:
        return []
    special = [*_shots(world, rows), *_shifts(world, rows)]
    told = {c.name for _, columns in special for c in columns}
    rest = [(g, title, own) for g, title, columns in world.groups()
            if (own := tuple(c for c in columns if c.name not in told))]
    return [*(table for table, _ in special), *(summary.detail(world, *group, rows) for group in rest)]


def _apart(table: Table) -> Table:
    """The same table under its own name: files of one suite share a folder."""
    world, _, rest = table.key.partition("-")
    return replace(table, key=f"{world}-adapting-{rest}", title=table.title.replace("Accuracy", "Adapting at test", 1))


def adapting(world: World) -> Table:
    """Rows that adapt at test: with, without, and what it gains on the same weights and images."""
    many = len(world.columns) > 1
    body = []
    for row in world.adapting:
        cells = [world.grid.cell(row, c) for c in world.columns]
        mean = fields.mean_of(world.grid, row, world.columns) if many else fields.accuracy(cells[0], whole=True)
        body.append((*names(world, row), *summary.ranks(world, row), mean, *_gain(world, row),
                     Field(f"{sum(c.complete for c in cells)}/{len(cells)}", sum(c.complete for c in cells)),
                     Field(world.pool(row)),
                     *provenance.fields(world, row)))
    start = len(name_header(world)) + 2
    header = (*name_header(world), "Rank", "Tie", f"Mean of {len(world.columns)}" if many else world.columns[0].title,
              "Without adapting", "Gain, points", "Done", "Pool", *provenance.heads(world))
    words = ("these rows have seen the test images, though not their labels: they are ranked "
             + ("beside rows that leave test alone, as `--rank-across-pools` told" if world.across else
                "among themselves and never beside rows that leave test alone"),
             "without adapting: the same weights on the same images as they are; means over the data sets where both "
             "are known", *(summary.rank_legend(world) if world.ranked else ()),
             *legend_of(body, rules.LEGEND | provenance.LEGEND))
    return Table(f"{world.key}-adapting", title_of(world, "Methods that adapt at test"), summary.caption(world), header,
                 tuple(body), words, tuple(summary.notes(world, world.adapting)), frozenset(range(start, start + 4)),
                 world.adapting, {} if many else {start: world.columns[0]},
                 {start - 2: "rank", start - 1: "tie", start: "mean", start + 1: "whole", start + 2: "whole",
                  start + 3: "whole"}, {start: [world.columns]})


def _gain(world: World, row: Row) -> tuple[Field, Field]:
    """Mean without adaptation, and the gain, over the data sets whose every run has been scored both ways."""
    column = world.grid.records.number.get(UNADAPTED)
    before, after = [], []
    for one in world.columns:
        cell = world.grid.cell(row, one)
        if column is not None and one.split == "test" and cell.runs:
            values = [column[run] for run in cell.runs]
            if all(v == v for v in values):
                before.append(fmean(values))
                after.append(cell.mean)
    if not before:
        return Field("–", mark="unknown"), Field("–", mark="unknown")
    tail = "" if len(before) == len(world.columns) else f" ({len(before)} of {len(world.columns)})"
    plain, gain = fmean(before), fmean(after) - fmean(before)
    return (Field(fields.percent(plain) + tail, 100 * plain),
            Field(fields.points(gain) + tail, 100 * gain))


def _shots(world: World, rows: tuple[Row, ...]) -> list[tuple[Table, tuple[Column, ...]]]:
    """Few-shot: mean over data sets by images per class, then each data set, lists of one size averaged."""
    columns = tuple(c for c in world.columns if c.shots is not None)
    sizes = sorted({c.shots for c in columns if c.shots is not None})
    if not sizes:
        return []
    families = list(dict.fromkeys(c.family or c.name for c in columns))
    parts = [("All", columns)] if len(families) > 1 else []
    parts += [(f, tuple(c for c in columns if (c.family or c.name) == f)) for f in families]
    found = []
    for family, own in parts:
        there = [size for size in sizes if any(c.shots == size for c in own)]
        cells = [tuple(c for c in own if c.shots == size) for size in there]
        what = "mean over data sets" if family == "All" else family
        found.append((_wide(world, rows, f"fewshot-{family.lower()}", f"Accuracy by images per class, {what}",
                            [f"{size}-shot" for size in there], cells), own))
    return found


def _shifts(world: World, rows: tuple[Row, ...]) -> list[tuple[Table, tuple[Column, ...]]]:
    """Distribution shift: the data set trained on, each further test set of the same runs, and two means."""
    found = []
    sources = dict.fromkeys(c.run_dataset for c in world.columns if c.split != "test" and c.run_dataset)
    for source in sources:
        own = tuple(c for c in world.columns if (c.run_dataset or c.name) == source)
        inside = [c for c in own if c.split == "test"]
        outside = [c for c in own if c.split != "test"]
        name = inside[0].title if inside else source
        cells = [*((c,) for c in (*inside, *outside)), tuple(outside), tuple(own)]
        heads = [*(f"{c.title} (in distribution)" for c in inside), *(c.title for c in outside),
                 f"Mean of {len(outside)} shifted", f"Mean of all {len(own)}"]
        found.append((_wide(world, rows, f"shift-{source}", f"Accuracy under shift, trained on {name}", heads, cells),
                      own))
    return found


def _wide(world: World, rows: tuple[Row, ...], key: str, what: str, heads: Sequence[str],
          cells: Sequence[tuple[Column, ...]]) -> Table:
    """A column for each set of data sets: its cell, or the mean over several."""
    start = len(name_header(world))
    body = tuple((*names(world, row), *(fields.accuracy(world.grid.cell(row, c[0])) if len(c) == 1
                                        else fields.mean_of(world.grid, row, c) for c in cells)) for row in rows)
    return Table(f"{world.key}-accuracy-{key}", title_of(world, what), summary.short(world),
                 (*name_header(world), *heads), body, legend_of(body, rules.LEGEND), (),
                 frozenset(range(start, start + len(heads))), rows,
                 {start + j: c[0] for j, c in enumerate(cells) if len(c) == 1},
                 {start + j: "mean" for j, c in enumerate(cells) if len(c) > 1},
                 {start + j: [c] for j, c in enumerate(cells) if len(c) > 1})
