"""The summary of a suite and every cell by groups of data sets, as accuracies; in the suite's row order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.pools import MEANS, POOLS
from results.spoken import many
from results.suites import Column, Row

from . import fields, provenance, rules, stats
from .cells import RowKey
from .pairs import PLAIN, split
from .table import Field, Table, legend_of
from .world import ASIDE, World, elsewhere, foreign, key_of, name_header, names, partial_of, title_of

VTAB = ("natural", "specialized", "structured")


def summary(world: World) -> Table:
    """Means by group, both VTAB means, coverage, ranks, and the comparison with the reference row."""
    grid, groups = world.grid, [g for g in world.groups() if g[0] != ASIDE or not world.aside]
    vtab = [columns for name, _, columns in groups if name in VTAB]
    tasks = [c for columns in vtab for c in columns]
    many = len(world.columns) > 1
    budget, apart, pooled = any(r.budget for r in world.rows), of_parts(world), pools(world, world.plain)
    means: list[tuple[str, Sequence[Sequence[Column]]]] = [(f"Mean of {len(world.columns)}", [world.columns])]
    means += [(f"VTAB, {len(tasks)} tasks", [tasks])] if len(vtab) == len(VTAB) and len(tasks) < len(world.columns) \
        else []
    means += [("VTAB, 3 groups", vtab)] if len(vtab) == len(VTAB) else []
    # the mean of the only group stands there already, and so may that of all VTAB tasks
    means += [(f"{t} ({len(c)})", [c]) for _, t, c in groups] if len(groups) > 1 else []
    first = len(name_header(world))
    header = [*name_header(world), "Rank", "Tie", *([name for name, _ in means] if many else [world.columns[0].title]),
              *(["Below the best"] if many else [])]
    last = len(header)
    header += ["Done", "At chance", f"Against {grid.suite.reference}", *(["Against its own adapter"] if apart else []),
               *(["Pool"] if pooled else []), *(["Tuning"] if budget else []), *provenance.heads(world)]
    body, rows, low = [], in_rank_order(world), below(world)
    for row in rows:
        cells = [grid.cell(row, c) for c in world.columns]
        line = [*names(world, row), *ranks(world, row)]
        line += [fields.mean_of(grid, row, [c for part in parts for c in part], parts) for _, parts in means] if many \
            else [fields.accuracy(cells[0], whole=True)]
        line += [low.get(key_of(row), Field("–"))] if many else []
        done = sum(c.complete for c in cells)
        ours = [c for c in cells if c.state == "ok"]
        idle = sum("chance" in c.signs for c in ours)
        known = sum(c.chance is not None for c in ours)
        told = f"{idle} of {known}" + (" known" if known < len(ours) else "")
        line += [Field(f"{done}/{len(cells)}", done), Field(told if known else "–", idle)]
        body.append((*line, versus(world, row), *([apart.get(key_of(row), Field(""))] if apart else []),
                     *([Field(world.pool(row))] if pooled else []),
                     *([Field(row.budget or "none")] if budget else []), *provenance.fields(world, row)))
    numeric = frozenset((*range(first + 2, last + 2), *([last + 3] if apart else [])))
    roles = {first: "rank", first + 1: "tie", **dict.fromkeys(range(first + 2, last), "mean"),
             **({last - 1: "below"} if many else {}), last: "whole", last + 1: "whole", last + 2: "whole",
             **({last + 3: "whole"} if apart else {})}
    return Table(f"{world.key}-accuracy", title_of(world, "Accuracy"), caption(world), tuple(header), tuple(body),
                 (*summary_legend(world, body, bool(apart)), *pooled),
                 (*notes(world, world.plain), *foreign(world), *elsewhere(world), *world.problems),
                 numeric, rows,
                 {} if many else {first + 2: world.columns[0]}, roles,
                 {first + 2 + i: parts for i, (_, parts) in enumerate(means)} if many
                 else {first + 2: [world.columns]})


def in_rank_order(world: World) -> tuple[Row, ...]:
    """Ranked rows by their mean, the best first, each ranking for itself; then the others in the suite's order."""
    found = {key_of(row): world.ranked[key_of(row)] for row in world.plain if key_of(row) in world.ranked}
    groups = list(dict.fromkeys(id(ranked) for ranked, _ in found.values()))

    def place(row: Row) -> tuple[int, float]:
        ranked, i = found.get(key_of(row), (None, 0))
        return (len(groups), 0.0) if ranked is None else (groups.index(id(ranked)), -float(ranked.ranking.mean[i]))

    return tuple(sorted(world.plain, key=place))


def below(world: World) -> dict[RowKey, Field]:
    """How far a ranked row lies below the best row of its ranking, data set by data set: the mean of these gaps in
    points, and the largest."""
    found = {}
    for ranked in {id(r): r for r, _ in world.ranked.values()}.values():
        scores = np.array([[world.grid.cells[key, c.name].mean for c in world.columns] for key in ranked.rows])
        gaps = 100 * (scores.max(0) - scores)
        for key, own in zip(ranked.rows, gaps, strict=True):
            found[key] = Field(f"{fields.percent(own.mean() / 100)} (at most {fields.percent(own.max() / 100)})",
                               float(own.mean()), None, float(own.max()))
    return found


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


def summary_legend(world: World, body: Sequence[Sequence[Field]], apart: bool) -> tuple[str, ...]:
    lines = ["value [95 % interval over the test items] for one seed; mean ± standard deviation (seeds) [95 % interval "
             "of the mean over test items and seeds] for several, rows of one backbone sharing what they know of the "
             "spread over seeds", "k/m instead of a mean: only k of m cells are complete"]
    if world.ranked:
        lines += rank_legend(world)
        lines += ["Below the best: how far the row lies below the best ranked row of each data set, in points: the "
                  "mean over data sets (and the largest)"] if len(world.columns) > 1 else []
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
    return (*lines, *legend_of(body, rules.LEGEND | provenance.LEGEND))


def pools(world: World, rows: Sequence[Row]) -> list[str]:
    """What the pools of some rows are, and who is ranked with whom; nothing where all rows are plain."""
    there = [pool for pool in POOLS if any(world.pool(row) == pool for row in rows)]
    if there in ([], ["plain"]):
        return []
    means = "; ".join(f"{pool}, {MEANS[pool]}" for pool in there)
    if len(there) == 1:
        return [f"Pool: {means}"]
    return [f"Pool: {means}", "Rank, Tie and Below the best are over rows of all pools, as `--rank-across-pools` told"
            if world.across else "Rank, Tie and Below the best are among the rows of one pool; "
            "`python -m reports build --rank-across-pools` ranks them together"]


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
    words = f"better on {found.better}, worse on {found.worse}, undecided on {found.undecided} of " \
            f"{many(compared, 'data set')}; mean difference {difference} points"
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
                 {start + j: column for j, column in enumerate(columns)},
                 {start + len(columns): "mean"} if len(columns) > 1 else {}, {start + len(columns): [columns]})


def caption(world: World) -> str:
    """Protocol in words and as hashes, rule."""
    return f"{short(world)} Protocol: {world.grid.suite.protocol or 'as recorded'}. Counted: {rules.FINAL}."


def short(world: World) -> str:
    """Unit and protocol hashes."""
    hashes = world.words("protocol_id")
    shown = ", ".join(hashes[:4]) + (f" and {len(hashes) - 4} more" if len(hashes) > 4 else "")
    marked = f" {partial_of(world)}." if world.partial else ""
    unit = "Top-1 accuracy" if all(c.metric == "top1" for c in (*world.columns, *world.aside)) else (
        "The score that a column's head names, else top-1 accuracy,")
    return f"{unit} in percent; suite {world.grid.suite.name}, protocol {shown or 'not recorded yet'}.{marked}"


def notes(world: World, rows: Sequence[Row]) -> list[str]:
    """Footnotes: what is our own reading, notes of rows, why runs gave no number (grouped), what folders lack."""
    said: dict[str, list[str]] = {}  # what holds for several rows is said once
    lines = [f"{column.title}: {count} of the folder could not be read, left out by --partial"
             for column in (*world.columns, *world.aside) if (count := world.left_out(column))]
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
