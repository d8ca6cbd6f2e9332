"""The columns of one kind, stand-in or real, with the rows of a suite: what all tables, pictures and pages share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from results.pools import ADAPTS, ENSEMBLED, POOLS, Pool, told
from results.spoken import thing, word
from results.suites import Column, Row

from . import rules
from .cells import Grid, RowKey
from .pairs import Against, Predictions, Ranked, against, rank
from .table import Field

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
    across: bool = False  # whether rows of different pools are ranked together: as was told

    @property
    def key(self) -> str:
        return "standin" if self.standin else "real"

    @cached_property
    def partial(self) -> tuple[str, ...]:
        """Data sets with runs on data that are not what their cards promise; of folders, how many images they lack."""
        return tuple(c.title + (f" ({count} left out)" if (count := self.left_out(c)) else "")
                     for c in (*self.columns, *self.aside)
                     if any("broken" in self.grid.cell(row, c).signs for row in self.rows))

    def left_out(self, column: Column) -> str:
        """Images of a user's folder that its runs were allowed to lack; empty where they lack none."""
        counts = self.grid.records.number.get("dataset.left_out", ())
        found = sorted({int(n) for row in self.rows for run in self.grid.cell(row, column).runs
                        for n in counts[run:run + 1] if n == n})
        return "" if not found else "1 image" if found == [1] else f"{' or '.join(map(str, found))} images"

    @cached_property
    def runs(self) -> dict[RowKey, list[int]]:
        """Records behind each row's cells."""
        return {key_of(row): self.grid.runs(row, self.columns) for row in self.rows}

    @cached_property
    def thing(self) -> str:
        """What one item of its data sets is: `image`, `text`, `pair`, or `item` where they differ."""
        records = self.grid.records
        found = {thing(records.get_number("spec.image_size", run), records.get_text("spec.tokenizer", run))
                 for runs in self.runs.values() for run in runs}
        return found.pop() if len(found) == 1 else "item" if found else "image"

    @cached_property
    def by_run(self) -> dict[str, int]:
        """run_id -> record."""
        return {run_id: run for run, run_id in enumerate(self.grid.records.text.get("run_id", []))}

    @cached_property
    def adapting(self) -> tuple[Row, ...]:
        """Rows whose weights move on unlabelled test images: never beside rows that leave test alone."""
        return tuple(row for row in self.rows if self.pool(row) == ADAPTS)

    @cached_property
    def plain(self) -> tuple[Row, ...]:
        """The others."""
        return tuple(row for row in self.rows if row not in self.adapting)

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Pools of the rows."""
        return tuple(pool for pool in POOLS if pool in self._pools.values())

    @cached_property
    def _pools(self) -> dict[RowKey, Pool]:
        return {key_of(row): ADAPTS if self.words("method.adapts_at_test", row) else
                ENSEMBLED if self.words("spec.combined", row) else
                row.pool or told(row.budget, row.note) for row in self.rows}

    def pool(self, row: Row) -> Pool:
        """A row's pool; that weights moved on test images, or that several runs were put together, is what its records
        say, whatever the suite does."""
        return self._pools[key_of(row)]

    def league(self, row: Row) -> str:
        """What rows that are ranked together have in common: their pool, or nothing where all are ranked together."""
        return "" if self.across else self.pool(row)

    @cached_property
    def stale(self) -> tuple[Row, ...]:
        """Rows with runs whose method has other source files now: shown with their sign, neither ranked nor compared
        until they are run again."""
        return tuple(row for row in self.rows if any("stale" in self.grid.cell(row, column).signs
                                                     for column in (*self.columns, *self.aside)))

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
    def elsewhere(self) -> tuple[Row, ...]:
        """Rows of another pool than their reference row's: not compared with it, unless pools are ranked together."""
        return tuple(row for row in self.rows if (other := self.reference(row)) is not None
                     and self.league(row) != self.league(other))

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


def worlds(grid: Grid, predictions: Predictions, across: bool = False) -> list[World]:
    """Stand-in and real columns of a suite, each with its comparisons and ranks: of each pool, or across all of them.
    """
    found = []
    for standin, every in grid.worlds():
        columns = tuple(c for c in every if c.group != ASIDE) or every
        rows = tuple(grid.rows(columns))
        world = World(grid, standin, columns, rows, {}, {}, (), tuple(c for c in every if c not in columns), across)
        apart = {*world.foreign, *world.elsewhere, *world.stale}
        if scored := [c.title for c in columns if not c.answered]:
            have = word(len(scored), "has a score that is", "have scores that are")
            found.append(replace(world, problems=(f"no ranks and no comparisons: {', '.join(scored)} {have} no mean "
                                                  "over items",)))
            continue
        for other in dict.fromkeys(filter(None, map(world.reference, rows))):
            same = [r for r in rows if r != other and r.backbone == other.backbone and r not in apart]
            if other not in world.stale:
                world.against.update(against(grid, predictions, same, other, columns))
        for league in dict.fromkeys(map(world.league, rows)):
            peers = [r for r in rows if world.league(r) == league and r not in world.stale]
            for ranked in rank(grid, predictions, peers, columns):
                world.ranked.update({key: (ranked, i) for i, key in enumerate(ranked.rows)})
        problems = list(predictions.problems)
        if not world.ranked and sum(grid.complete(row, columns) and row not in world.stale for row in rows) > 1:
            problems.append("no ranks: complete rows differ in protocol or in pool, or predictions are not stored for "
                            "all runs")
        found.append(replace(world, problems=tuple(problems)))
        predictions.problems.clear()
    return found


def banner(world: World) -> str:
    if world.standin:
        return ("STAND-IN DATA (generated miniatures in the real formats): says nothing about the real data sets")
    named = ", ".join(c.title for c in world.columns)
    return f"Real data: {named}" + (f" ({partial_of(world)})" if world.partial else "")


def partial_of(world: World) -> str:
    """Which data sets are not what their cards promise."""
    return f"PARTIAL DATA of {', '.join(world.partial)}, not all that there is"


def title_of(world: World, what: str) -> str:
    """Every title says what the data are, as a table is read and copied alone."""
    kind = ("STAND-IN DATA, generated miniatures that say nothing about the real data sets" if world.standin
            else "real data" + (f"; {partial_of(world)}" if world.partial else ""))
    return f"{what} ({kind})"


def names(world: World, row: Row) -> list[Field]:
    """The row's heading: method, label of test-time adaptation, backbone when there is more than one."""
    return world.headings[key_of(row)]


def _of_partial(world: World, row: Row) -> bool:
    return any("broken" in world.grid.cell(row, column).signs for column in world.columns)


def _heading(world: World, row: Row) -> list[Field]:
    label, ours = world.words("method.adapts_at_test", row), world.words("method.ours", row)
    stale = row in world.stale
    tail = (f" {rules.OURS}" if ours else "") + (f" {rules.SIGNS['stale']}" if stale else "")
    tail += (" (partial data)" if _of_partial(world, row) else "")
    tail += f" (adapts at test: {', '.join(label)})" if label else ""
    marks = " ".join(mark for mark, holds in (("ours", ours), ("stale", stale), ("adapts", label)) if holds)
    method = Field(row.method, code=True, tail=tail, hint=row.note, mark=marks)
    return [method, Field(row.backbone, code=True)] if several_backbones(world) else [method]


def name_header(world: World) -> list[str]:
    return ["Method", "Backbone"] if several_backbones(world) else ["Method"]


def several_backbones(world: World) -> bool:
    return len({r.backbone for r in world.rows}) > 1


def foreign(world: World) -> list[str]:
    """Why some rows have a dash where the others are compared with the reference row."""
    rows = list(dict.fromkeys(row.method for row in world.foreign))
    return [f"{', '.join(rows)}: not compared with {world.grid.suite.reference}, whose runs have another protocol"
            ] if rows else []


def elsewhere(world: World) -> list[str]:
    """Why rows of other pools than the reference row's have a dash there."""
    rows = list(dict.fromkeys(row.method for row in world.plain if row in world.elsewhere))
    return [f"{', '.join(rows)}: not compared with {world.grid.suite.reference}, whose row is of another pool; "
            "build --rank-across-pools compares them"] if rows else []
