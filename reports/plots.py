"""Further pictures of a page: heat map, rank ranges, matrix of effects, curves over shots, steps and budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from results.spoken import many
from results.suites import Column

from . import draw, fields, stats
from .colours import BAR, HUES, INK, POINT
from .draw import DASHES
from .effects import Effects
from .pictures import label_of, short
from .squares import squares
from .world import World, key_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 60  # more rows than this make no readable picture; the tables hold them all


@dataclass(frozen=True)
class Plot:
    key: str
    title: str
    words: str
    svg: str
    tips: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    tip: str = ""
    low: tuple[float, ...] = ()  # of a band around it
    high: tuple[float, ...] = ()


def heat_map(world: World) -> Plot | None:
    """Difference to the reference row in points, where both have a number."""
    apart = {*world.foreign, *world.elsewhere}
    rows = [r for r in world.rows if world.reference(r) not in (None, r) and r not in apart][:ROWS]
    if not rows or len(world.columns) < 2 or len(world.columns) > ROWS:
        return None
    values = np.full((len(rows), len(world.columns)), np.nan)
    tips = {}
    for i, row in enumerate(rows):
        other = world.reference(row)
        for j, column in enumerate(world.columns):
            cell = world.grid.cell(row, column)
            base = world.grid.cell(other, column) if other else cell
            if cell.values and base.values:
                values[i, j] = 100 * (cell.mean - base.mean)
                tips[f"cell{i}x{j}"] = (f"{label_of(world, row)} on {column.title}\n{fields.accuracy(cell).text} %\n"
                                        f"{fields.points(cell.mean - base.mean)} points against "
                                        f"{world.grid.suite.reference}")
    if np.isnan(values).all():
        return None
    title = f"Difference to {world.grid.suite.reference}, points"
    svg = squares(values, [label_of(world, r) for r in rows], [c.title for c in world.columns], title, "cell")
    return Plot("heat", title, "Blue: better than the reference row, red: worse, empty: no number.", svg, tips)


def rank_ranges(world: World) -> Plot | None:
    """For each ranked row the range that holds its true rank, and the middle 95 % of ranks drawn anew."""
    ranked = [(row, *world.ranked[key_of(row)]) for row in world.plain if key_of(row) in world.ranked][:ROWS]
    if len(ranked) < 2:
        return None
    from matplotlib.ticker import MaxNLocator

    order = list(dict.fromkeys(id(group) for _, group, _ in ranked))  # one ranking below the other
    ranked.sort(key=lambda one: (order.index(id(one[1])), -one[1].ranking.mean[one[2]], one[0].method))
    tips = {}
    height = 1.1 + 0.27 * len(ranked)
    with draw.figure(5.2, height, inside=True) as fig:  # as narrow as names allow: it fits a phone's screen
        axes = draw.plain_axes(fig, (0.42, 0.6 / height, 0.54, 1 - 0.8 / height))
        for place, (row, group, i) in enumerate(ranked):
            low, high = group.ranking.ranks[i]
            near, far = group.ranking.likely[i]
            axes.plot([low, high], [place] * 2, color=BAR, linewidth=5, solid_capstyle="round", gid=f"rank{place}")
            axes.plot([near, far], [place] * 2, color=POINT, linewidth=2, marker="o", markersize=4)
            tips[f"rank{place}"] = (f"{label_of(world, row)}\npool: {world.pool(row)}\n"
                                    f"rank {low} to {high} with 95 % confidence\n"
                                    f"likely rank {near} to {far}\ntie group {group.ranking.letters[i]}\n"
                                    f"mean {100 * group.ranking.mean[i]:.1f} %")
        axes.set_yticks(range(len(ranked)), [short(label_of(world, r), 30) for r, _, _ in ranked])
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("rank (1 is best)")
        svg = draw.to_svg(fig, "Rank ranges")
    words = ("Wide grey: ranges that hold all true ranks at once with 95 % confidence (Holm). "
             "Narrow: middle 95 % of ranks when the means are drawn again with their errors.")
    return Plot("ranks", "Rank ranges", words, svg, tips)


def wins(world: World) -> Plot | None:
    """On how many data sets each row is better than each other row."""
    rows = [r for r in world.plain if any(world.grid.cell(r, c).values for c in world.columns)][:30]
    if len(rows) < 2 or len(world.columns) < 2:
        return None
    scores = np.array([[cell.mean if (cell := world.grid.cell(r, c)).values else np.nan for c in world.columns]
                       for r in rows])
    share = stats.win_matrix(scores)
    common = (~np.isnan(scores)).astype(int) @ (~np.isnan(scores)).astype(int).T
    np.fill_diagonal(share, np.nan)
    labels = [label_of(world, r) for r in rows]
    tips = {f"cell{i}x{j}": f"{labels[i]} is better than {labels[j]} on {share[i, j] * common[i, j]:g} of "
                            f"{many(int(common[i, j]), 'data set')} (ties count half)"
            for i in range(len(rows)) for j in range(len(rows)) if not np.isnan(share[i, j])}
    # shown as distance from a draw, so that blue wins and red loses
    svg = squares(100 * (share - 0.5), labels, labels, "Win matrix", "cell", 100 * share)
    words = "Percent of common data sets on which the row is better than the column, however small the difference."
    return Plot("wins", "Win matrix", words, svg, tips)


def matrix(world: World, found: Effects) -> Plot:
    """What each part adds to each adapter, in points."""
    values = np.array([[100 * e.value for e in line] for line in found.difference])
    tips = {f"cell{i}x{j}": f"{a} + {p}\nadds {fields.points(e.value)} [{fields.points(e.interval.low)}, "
                            f"{fields.points(e.interval.high)}] points\nbeyond the part's mean: "
                            f"{fields.points(found.interaction[i][j].value)}"
            for i, a in enumerate(found.adapters) for j, p in enumerate(found.parts)
            for e in (found.difference[i][j],)}
    title = "What a part adds to an adapter, points"
    svg = squares(values, list(found.adapters), [f"+{p}" for p in found.parts], title, "cell")
    return Plot("matrix", title, "Mean over data sets, with the part minus without.", svg, tips)


def shots(world: World) -> Plot | None:
    """Few-shot: mean over data sets against images per class, complete points only."""
    sizes = sorted({c.shots for c in world.columns if c.shots is not None})
    lines = []
    for row in world.rows[:ROWS]:
        points = []
        for size in sizes:
            columns = [c for c in world.columns if c.shots == size]
            if world.grid.complete(row, columns):
                points.append((float(size), 100 * sum(world.grid.cell(row, c).mean for c in columns) / len(columns)))
        if points:
            x, y = zip(*points, strict=True)
            lines.append(Line(label_of(world, row), x, y))
    if len(sizes) < 2 or not lines:
        return None
    return curves("shots", "Accuracy against images per class", "Mean over data sets.", lines, "images per class",
                  "top-1, %", log=True)


def learning(column: Column, lines: Sequence[Line], quantity: str) -> Plot:
    """A quantity of the runs of one data set, by epoch."""
    key = re.sub(r"[^a-z0-9]", "-", f"{quantity}-{column.name}".lower())
    return curves(f"learning-{key}", f"{quantity[0].upper()}{quantity[1:]} on {column.title}", "", lines, "epoch",
                  quantity)


def curves(key: str, title: str, words: str, lines: Sequence[Line], x: str, y: str, log: bool = False) -> Plot:
    """Lines of one label share a colour and dash; labels are named once, in a list beside the axes."""
    from matplotlib.lines import Line2D

    tips = {}
    labels = list(dict.fromkeys(line.label for line in lines))
    looks = {label: (HUES[i % len(HUES)], DASHES[i // len(HUES) % len(DASHES)]) for i, label in enumerate(labels)}
    with draw.figure(7.2, max(3.3, 0.22 * len(labels) + 0.9), inside=True) as fig:
        axes = draw.plain_axes(fig, (0.1, 0.15, 0.55, 0.8))
        for i, line in enumerate(lines):
            colour, dash = looks[line.label]
            axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.6, marker="o", markersize=3.5,
                      gid=f"line{i}")
            if line.low:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.12, linewidth=0)
            tips[f"line{i}"] = line.tip or f"{line.label}\n" + ", ".join(
                f"{a:g}: {b:.1f}" for a, b in zip(line.x, line.y, strict=True))
        for i, label in enumerate(labels):
            height = 0.92 - i * min(0.06, 0.85 / len(labels))
            colour, dash = looks[label]
            fig.add_artist(Line2D([0.67, 0.705], [height] * 2, color=colour, linestyle=dash, linewidth=1.6,
                                  gid=f"{draw.ASIDE}-line{i}"))
            fig.text(0.715, height, short(label, 34), fontsize=8, va="center", color=INK, gid=f"{draw.ASIDE}{i}")
        _scale(axes, lines, log)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        svg = draw.to_svg(fig, title)
    return Plot(key, title, words, svg, tips)


def _scale(axes: Axes, lines: Sequence[Line], log: bool) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    places = sorted({x for line in lines for x in line.x})
    if log:
        axes.set_xscale("log")
    if len(places) <= 12:
        axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
