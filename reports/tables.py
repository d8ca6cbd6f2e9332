"""Accuracy tables of a suite: a summary, then every cell by groups of data sets; in the suite's row order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from results.suites import Column, Row

from . import fields, rules, stats
from .cells import Grid, RowKey
from .pairs import PLAIN, Against, Predictions, Ranked, against, rank, split
from .table import Field, Table, legend_of

VTAB = ("natural", "specialized", "structured")
ASIDE = "ood_all"  # group whose cells repeat another column's images: shown, counted in no mean


@dataclass(frozen=True)
class World:
    """The columns of one kind (stand-in or real) with everything that tables, pictures and pages show of them."""

    grid: Grid
    standin: bool
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    against: dict[RowKey, Against]
    ranked: dict[RowKey, tuple[Ranked, int]]
    problems: tuple[str, ...]
    aside: tuple[Column, ...] = ()  # shown in a table of their own, counted in no mean

    @property
    def key(self) -> str:
        return "standin" if self.standin else "real"

    @cached_property
    def partial(self) -> tuple[str, ...]:
        """Data sets with runs on data that are not what their cards promise."""
        return tuple(c.title for c in (*self.columns, *self.aside)
                     if any("broken" in self.grid.cell(row, c).signs for row in self.rows))

    @cached_property
    def runs(self) -> dict[RowKey, list[int]]:
        """Records behind each row's cells."""
        return {key_of(row): self.grid.runs(row, self.columns) for row in self.rows}

    @cached_property
    def by_run(self) -> dict[str, int]:
        """run_id -> record."""
        return {run_id: run for run, run_id in enumerate(self.grid.records.text.get("run_id", []))}

    @cached_property
    def adapting(self) -> tuple[Row, ...]:
        """Rows whose weights move on unlabelled test images: never beside rows that leave test alone."""
        return tuple(row for row in self.rows if self.words("method.adapts_at_test", row))

    @cached_property
    def plain(self) -> tuple[Row, ...]:
        """The others."""
        return tuple(row for row in self.rows if row not in self.adapting)

    @cached_property
    def headings(self) -> dict[RowKey, list[Field]]:
        return {key_of(row): _heading(self, row) for row in self.rows}

    def values(self, row: Row, name: str) -> list[float]:
        """A number of every record of a row that has it."""
        column = self.grid.records.number.get(name)
        return [] if column is None else [v for run in self.runs[key_of(row)] if (v := column[run]) == v]

    def words(self, name: str, row: Row | None = None) -> list[str]:
        """The different values of a field over a row's records or all."""
        runs = self.runs[key_of(row)] if row is not None else [run for own in self.runs.values() for run in own]
        texts, numbers = self.grid.records.text.get(name), self.grid.records.number.get(name)
        if texts is not None:
            return sorted({texts[run] for run in runs} - {""})
        return [] if numbers is None else [f"{v:g}" for v in sorted({numbers[run] for run in runs}) if v == v]

    def groups(self) -> list[tuple[str, str, tuple[Column, ...]]]:
        """(key, title, columns) in the suite's order."""
        found = [(g, t, tuple(c for c in (*self.columns, *self.aside) if c.group == g))
                 for g, t in self.grid.suite.groups.items()]
        return [part for part in found if part[2]]

    @cached_property
    def foreign(self) -> tuple[Row, ...]:
        """Rows whose protocol is not their reference row's: neither ranked nor compared with it."""
        return tuple(row for row in self.rows if (other := self.reference(row)) is not None
                     and self.grid.alike(row, other, self.columns) is False)

    @cached_property
    def mixed(self) -> bool:
        """Whether complete rows of one backbone have different protocols: no line may join them."""
        found: dict[str, set[str]] = {}
        for row in self.plain:
            if self.grid.complete(row, self.columns):
                found.setdefault(row.backbone, set()).add(self.grid.protocol(row, self.columns))
        return any(len(protocols) > 1 for protocols in found.values())

    def reference(self, row: Row) -> Row | None:
        """The row on the same backbone that others are compared with."""
        name = self.grid.suite.reference
        return next((r for r in self.rows if r.method == name and r.backbone == row.backbone), None)


def key_of(row: Row) -> RowKey:
    return row.method, row.backbone


def worlds(grid: Grid, predictions: Predictions) -> list[World]:
    """Stand-in and real columns of a suite, each with its comparisons and ranks."""
    found = []
    for standin, every in grid.worlds():
        columns = tuple(c for c in every if c.group != ASIDE) or every
        rows = tuple(grid.rows(columns))
        world = World(grid, standin, columns, rows, {}, {}, (), tuple(c for c in every if c not in columns))
        for other in dict.fromkeys(filter(None, map(world.reference, rows))):
            same = [r for r in rows if r != other and r.backbone == other.backbone and r not in world.foreign]
            world.against.update(against(grid, predictions, same, other, columns))
        for peers in (world.plain, world.adapting):
            for ranked in rank(grid, predictions, peers, columns):
                world.ranked.update({key: (ranked, i) for i, key in enumerate(ranked.rows)})
        problems = list(predictions.problems)
        if not world.ranked and sum(grid.complete(row, columns) for row in rows) > 1:
            problems.append("no ranks: complete rows differ in protocol, or predictions are not stored for all runs")
        found.append(replace(world, problems=tuple(problems)))
        predictions.problems.clear()
    return found


def banner(world: World) -> str:
    if world.standin:
        return ("STAND-IN DATA (generated miniatures in the real formats): says nothing about the real data sets")
    named = ", ".join(c.title for c in world.columns)
    return f"Real data: {named}" + (f" ({_partial(world)})" if world.partial else "")


def _partial(world: World) -> str:
    """Which data sets are not what their cards promise."""
    return f"PARTIAL DATA of {', '.join(world.partial)}, not what the card promises"


def title_of(world: World, what: str) -> str:
    """Every title says what the data are, as a table is read and copied alone."""
    kind = ("STAND-IN DATA, generated miniatures that say nothing about the real data sets" if world.standin
            else "real data" + (f"; {_partial(world)}" if world.partial else ""))
    return f"{what} ({kind})"


def names(world: World, row: Row) -> list[Field]:
    """The row's heading: method, label of test-time adaptation, backbone when there is more than one."""
    return world.headings[key_of(row)]


def _of_partial(world: World, row: Row) -> bool:
    return any("broken" in world.grid.cell(row, column).signs for column in world.columns)


def _heading(world: World, row: Row) -> list[Field]:
    label, ours = world.words("method.adapts_at_test", row), world.words("method.ours", row)
    tail = (f" {rules.OURS}" if ours else "") + (" (partial data)" if _of_partial(world, row) else "")
    tail += f" (adapts at test: {', '.join(label)})" if label else ""
    marks = " ".join(mark for mark, holds in (("ours", ours), ("adapts", label)) if holds)
    method = Field(row.method, code=True, tail=tail, hint=row.note, mark=marks)
    return [method, Field(row.backbone, code=True)] if several_backbones(world) else [method]


def name_header(world: World) -> list[str]:
    return ["Method", "Backbone"] if several_backbones(world) else ["Method"]


def several_backbones(world: World) -> bool:
    return len({r.backbone for r in world.rows}) > 1


def summary(world: World) -> Table:
    """Means by group, both VTAB means, coverage, ranks, and the comparison with the reference row."""
    grid, groups = world.grid, [g for g in world.groups() if g[0] != ASIDE or not world.aside]
    vtab = [columns for name, _, columns in groups if name in VTAB]
    tasks = [c for columns in vtab for c in columns]
    many = len(world.columns) > 1
    budget, apart = any(r.budget for r in world.rows), of_parts(world)
    header = [*name_header(world), "Rank", "Tie"]
    header += [f"Mean of {len(world.columns)}"] if many else [world.columns[0].title]
    shown = len(groups) > 1  # the mean of the only group stands there already, and so may that of all VTAB tasks
    header += [f"VTAB, {len(tasks)} tasks"] if len(vtab) == len(VTAB) and len(tasks) < len(world.columns) else []
    header += ["VTAB, 3 groups"] if len(vtab) == len(VTAB) else []
    header += [f"{t} ({len(c)})" for _, t, c in groups] if many and shown else []
    last = len(header)
    header += ["Done", "At chance", f"Against {grid.suite.reference}", *(["Against its own adapter"] if apart else []),
               *(["Tuning"] if budget else [])]
    body, rows = [], in_rank_order(world)
    for row in rows:
        cells = [grid.cell(row, c) for c in world.columns]
        line = [*names(world, row), *ranks(world, row)]
        line += [fields.mean_of(grid, row, world.columns)] if many else [fields.accuracy(cells[0], whole=True)]
        if len(vtab) == len(VTAB):
            line += [fields.mean_of(grid, row, tasks)] if len(tasks) < len(world.columns) else []
            line += [fields.mean_of(grid, row, tasks, vtab)]
        line += [fields.mean_of(grid, row, columns) for _, _, columns in groups] if many and shown else []
        done = sum(c.complete for c in cells)
        ours = [c for c in cells if c.state == "ok"]
        idle = sum("chance" in c.signs for c in ours)
        line += [Field(f"{done}/{len(cells)}", done), Field(f"{idle} of {len(ours)}" if ours else "–", idle)]
        body.append((*line, versus(world, row), *([apart.get(key_of(row), Field(""))] if apart else []),
                     *([Field(row.budget or "none")] if budget else [])))
    numeric = frozenset((*range(len(name_header(world)) + 2, last + 2), *([last + 3] if apart else [])))
    return Table(f"{world.key}-accuracy", title_of(world, "Accuracy"), caption(world), tuple(header), tuple(body),
                 summary_legend(world, body, bool(apart)),
                 (*notes(world, world.plain), *foreign(world), *world.problems), numeric, rows,
                 {} if many else {len(name_header(world)) + 2: world.columns[0]})


def in_rank_order(world: World) -> tuple[Row, ...]:
    """Ranked rows by their mean, the best first, each ranking for itself; then the others in the suite's order."""
    found = {key_of(row): world.ranked[key_of(row)] for row in world.plain if key_of(row) in world.ranked}
    groups = list(dict.fromkeys(id(ranked) for ranked, _ in found.values()))

    def place(row: Row) -> tuple[int, float]:
        ranked, i = found.get(key_of(row), (None, 0))
        return (len(groups), 0.0) if ranked is None else (groups.index(id(ranked)), -float(ranked.ranking.mean[i]))

    return tuple(sorted(world.plain, key=place))


def of_parts(world: World) -> dict[RowKey, Field]:
    """What a row's parts add to its adapter alone, for complete rows of one protocol; nothing where the reference row
    is the only such adapter, as the comparison with it says the same."""
    found = {}
    for row in world.plain:
        adapter, part = split(row.method)
        home = (adapter, row.backbone)
        if part == PLAIN or not any(key_of(r) == home for r in world.plain):
            continue
        found[key_of(row)] = Field("–")
        (ranked, i), (other, j) = (world.ranked.get(key, (None, 0)) for key in (key_of(row), home))
        if ranked is not None and ranked is other:
            rows = np.eye(len(ranked.rows))
            found[key_of(row)] = fields.effect(stats.effects(ranked.spread, rows[i] - rows[j])[0])
    homes = {split(method)[0] for method, _ in found}
    return found if homes - {world.grid.suite.reference} else {}


def foreign(world: World) -> list[str]:
    """Why some rows have a dash where the others are compared with the reference row."""
    rows = list(dict.fromkeys(row.method for row in world.foreign))
    return [f"{', '.join(rows)}: not compared with {world.grid.suite.reference}, whose runs have another protocol"
            ] if rows else []


def summary_legend(world: World, body: Sequence[Sequence[Field]], apart: bool) -> tuple[str, ...]:
    lines = ["value [95 % interval over the test items] for one seed; mean ± standard deviation (seeds) [95 % interval "
             "of the mean over test items and seeds] for several, rows of one backbone sharing what they know of the "
             "spread over seeds", "k/m instead of a mean: only k of m cells are complete"]
    if world.ranked:
        lines += rank_legend(world)
    if world.against:
        runs = any(found.of_runs for found in world.against.values())
        lines.append("Against: data sets where the row is surely better / surely worse / undecided on the same test "
                     "items (Holm, 5 %), then the mean difference in points with its 95 % interval over test items and "
                     "seeds"
                     + ("; (runs): over test items alone, as one seed shows no spread" if runs else ""))
    if apart:
        lines.append("Against its own adapter: what the parts add to the same adapter alone, in points with its 95 % "
                     "interval as the ranks have it (its ends may differ a little from those of the other column, "
                     "whose rows are others), not corrected for their number; complete rows of one protocol only")
    return (*lines, *legend_of(body, rules.LEGEND))


def rank_legend(world: World) -> list[str]:
    """What the ranks promise: of methods where seeds show their spread, else of these runs alone."""
    found = [ranked.ranking for ranked, _ in world.ranked.values()]
    if all(r.of_runs for r in found):
        lines = ["Rank (runs): one seed says nothing about a method at other seeds; the range holds all true ranks of "
                 "these runs at once with 95 % confidence over test items (Holm); Tie: runs that share a letter are "
                 "not told apart"]
    else:
        lines = ["Rank: range that holds all true ranks at once with 95 % confidence over test items (paired) and "
                 "seeds (Holm); Tie: rows that share a letter are not told apart"]
        if any(r.of_runs for r in found):
            lines.append("(runs): one seed somewhere; ranks of these runs, which say nothing about other seeds")
    if any(r.lent and not r.of_runs for r in found):
        lines.append("(lent): a row of one seed somewhere, whose spread over seeds is borrowed from the others")
    return lines


def ranks(world: World, row: Row) -> list[Field]:
    found = world.ranked.get(key_of(row))
    if found is None:
        return [Field("–"), Field("–")]
    ranked, i = found
    low, high = ranked.ranking.ranks[i]
    tail = " (runs)" if ranked.ranking.of_runs else " (lent)" if i in ranked.ranking.lent else ""
    return [Field(f"{low}{tail}" if low == high else f"{low}–{high}{tail}", low, low, high),
            Field(ranked.ranking.letters[i])]


def versus(world: World, row: Row) -> Field:
    found = world.against.get(key_of(row))
    if row.method == world.grid.suite.reference:
        return Field("(reference)")
    if found is None:
        return Field("–")
    compared = found.better + found.worse + found.undecided
    difference = f"{fields.points(found.difference)} [{fields.points(found.interval.low)}, " \
                 f"{fields.points(found.interval.high)}]" + (" (runs)" if found.of_runs else "")
    if compared == 1:
        word = "better" if found.better else "worse" if found.worse else "undecided"
        return Field(f"{word}; difference {difference}", 100 * found.difference, 100 * found.interval.low,
                     100 * found.interval.high)
    words = f"better on {found.better}, worse on {found.worse}, undecided on {found.undecided} of {compared} data " \
            f"sets; mean difference {difference} points"
    return Field(f"{found.better} / {found.worse} / {found.undecided}: {difference}", 100 * found.difference,
                 100 * found.interval.low, 100 * found.interval.high, hint=words)


def detail(world: World, group: str, title: str, columns: Sequence[Column], rows: tuple[Row, ...]) -> Table:
    """Every cell of one group of data sets."""
    start = len(name_header(world))
    body = tuple((*names(world, row), *(fields.accuracy(world.grid.cell(row, c)) for c in columns),
                  fields.mean_of(world.grid, row, columns)) for row in rows)
    header = (*name_header(world), *(c.title for c in columns), f"Mean of {len(columns)}")
    if len(columns) == 1:
        header, body = header[:-1], tuple(line[:-1] for line in body)
    return Table(f"{world.key}-accuracy-{group}", title_of(world, f"Accuracy, {title}"), short(world), header, body,
                 legend_of(body, rules.LEGEND), (), frozenset(range(start, len(header))), rows,
                 {start + j: column for j, column in enumerate(columns)})


def caption(world: World) -> str:
    """Protocol in words and as hashes, rule."""
    return f"{short(world)} Protocol: {world.grid.suite.protocol or 'as recorded'}. Counted: {rules.FINAL}."


def short(world: World) -> str:
    """Unit and protocol hashes."""
    hashes = world.words("protocol_id")
    shown = ", ".join(hashes[:4]) + (f" and {len(hashes) - 4} more" if len(hashes) > 4 else "")
    marked = f" {_partial(world)}." if world.partial else ""
    return f"Top-1 accuracy in percent; suite {world.grid.suite.name}, protocol {shown or 'not recorded yet'}.{marked}"


def notes(world: World, rows: Sequence[Row]) -> list[str]:
    """Footnotes: what is our own reading, notes of rows, and why runs gave no number (grouped)."""
    said: dict[str, list[str]] = {}  # what holds for several rows is said once
    lines = []
    for row in rows:
        for text in filter(None, dict.fromkeys((*world.words("method.ours", row), row.note))):
            said.setdefault(text, []).append(row.method)
        why: dict[tuple[str, str], list[str]] = {}
        for column in world.columns:
            for found in world.grid.cell(row, column).notes:
                if found[0] != "missing":
                    why.setdefault(found, []).append(column.title)
        lines += [f"{row.method}, {state} on {', '.join(dict.fromkeys(where))}: {text or 'no reason was recorded'}"
                  for (state, text), where in why.items()]
    return [*(f"{', '.join(dict.fromkeys(methods))}: {text}" for text, methods in said.items()), *lines]
