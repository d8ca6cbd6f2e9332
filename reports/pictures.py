"""Accuracy against its price, Pareto rows marked: for files of their own and for the inside of a page.

A star says that a row buys accuracy that is shown, not that its point lies highest: of rows that are not told apart the
dearer ones have none, and a row that may be a constant answer has none either.

Points carry numbers and a list names them, as method names would cover each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from results.suites import Row

from . import draw, fields
from .colours import BAR, FRONT, INK, ON_MARK, POINT
from .world import World, key_of, several_backbones

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    label: str
    price: float
    accuracy: float  # percent
    low: float | None
    high: float | None
    best: bool = False  # on the Pareto line


@dataclass(frozen=True)
class Picture:
    key: str
    title: str
    x_label: str
    points: tuple[Point, ...]

    @property
    def front(self) -> tuple[str, ...]:
        return tuple(p.label for p in self.points if p.best)

    def tips(self) -> dict[str, str]:
        """Mark -> what a reader sees when pointing at it."""
        return {f"point{i + 1}": _tip(self, p) for i, p in enumerate(self.points)}


NAMED = 45  # points with a number and a name: the whole shelf
PRICES = (
    ("saved", "kept for the backward pass", "memory.saved_bytes_per_image"),
    ("params", "trained parameters, head included", "params.trained"),
    ("speed", "training time per {thing}", "throughput.train_images_per_s"),
)


STARRED = "surely better than every row that is as cheap or cheaper, and than a constant answer"


def stars(world: World, rows: Sequence[Row], points: Sequence[Point]) -> list[bool]:
    """Which rows are surely better than every other row that is as cheap or cheaper; all above a constant answer.

    Stale rows have no star and take none away. Where complete rows of a backbone differ in protocol there is none.
    """
    fit = [row not in world.stale for row in rows]

    def best(i: int) -> bool:
        rivals = [j for j, point in enumerate(points) if j != i and fit[j] and point.price <= points[i].price]
        return fit[i] and _above_chance(world, rows[i], points[i]) and all(
            _better(world, (rows[i], points[i]), (rows[j], points[j])) for j in rivals)

    return [not world.mixed and best(i) for i in range(len(points))]


def _above_chance(world: World, row: Row, point: Point) -> bool:
    """Whether the interval of the mean lies above the mean of constant answers; where one is not known, nothing does.
    """
    levels = [world.grid.cell(row, column).chance for column in world.columns]
    known = [level for level in levels if level is not None]
    return point.low is not None and len(known) == len(levels) and point.low > 100 * fmean(known)


def _better(world: World, one: tuple[Row, Point], other: tuple[Row, Point]) -> bool:
    """Whether the first is surely better: as the ranks tell, or by intervals apart where no ranking holds both."""
    (ranked, i), (held, j) = (world.ranked.get(key_of(row), (None, 0)) for row, _ in (one, other))
    if ranked is not None and ranked is held:
        return ranked.ranking.better(i, j)
    low, high = one[1].low, other[1].high
    return low is not None and high is not None and low > high


def pictures(world: World) -> list[Picture]:
    """One picture per price that is known of at least two complete rows; rows that adapt at test are in none.

    Pareto rows are marked (`stars`).
    """
    found = []
    for key, words, name in PRICES:
        found_rows = [(row, p) for row in world.plain if (p := _point(world, row, key, name)) is not None]
        rows, points = [row for row, _ in found_rows], [point for _, point in found_rows]
        if len(points) < 2:
            continue
        unit, size = fields.unit_of([p.price for p in points]) if key == "saved" else ("", 1)
        best = stars(world, rows, points)
        words = words.format(thing=world.thing)
        label = {"saved": f"{words}, {unit} per {world.thing}", "speed": f"{words}, ms", "params": words}[key]
        drawn = tuple(Point(p.label, p.price / size, p.accuracy, p.low, p.high, b)
                      for p, b in zip(points, best, strict=True))
        found.append(Picture(f"{world.key}-{key}", f"Accuracy against {words}", label, drawn))
    return found


def label_of(world: World, row: Row) -> str:
    """A row's name in pictures."""
    name = f"{row.method} · {row.backbone}" if several_backbones(world) else row.method
    return name + (" (stale)" if row in world.stale else "") + (" (adapts at test)" if row in world.adapting else "")


def _point(world: World, row: Row, key: str, name: str) -> Point | None:
    if not world.grid.complete(row, world.columns):
        return None
    prices = world.values(row, name)
    if not prices:
        return None
    price = 1000 / median(prices) if key == "speed" else median(prices)
    mean = fields.mean_of(world.grid, row, world.columns)
    assert mean.value is not None  # complete rows have a mean
    return Point(label_of(world, row), price, mean.value, mean.low, mean.high)


def _tip(picture: Picture, point: Point) -> str:
    interval = f" [{point.low:.1f}, {point.high:.1f}]" if point.low is not None and point.high is not None else ""
    star = f"\non the Pareto line: {STARRED}" if point.best else ""
    return f"{point.label}\n{point.accuracy:.1f} %{interval}\n{picture.x_label}: " \
           f"{fields.significant(point.price)}{star}"


def svg(picture: Picture, world: World, records: str) -> str:
    """A file of its own, with the hash of its records and the version that drew it."""
    text = f"<!-- records {records}; matplotlib {draw.version()} -->\n"
    return drawn(picture, world, inside=False).replace("<svg ", text + "<svg ", 1)


def drawn(picture: Picture, world: World, inside: bool) -> str:
    # beyond a readable list only the Pareto rows are named; the others are found by pointing, or in the tables
    named = [(i, p) for i, p in enumerate(picture.points) if p.best or len(picture.points) <= NAMED]
    rows = len(named)
    with draw.figure(6.9 if inside else 8.2, max(3.6 if inside else 3.9, 0.26 * rows + 1.2), inside) as fig:
        axes = draw.plain_axes(fig, (0.1, 0.15, 0.51, 0.81 if inside else 0.71))
        _points(axes, picture)
        count = len(world.columns)
        unit = "top-1" if all(c.metric == "top1" for c in world.columns) else "score"
        axes.set_ylabel(f"{unit}, mean of {count}, %" if count > 1 else f"{unit} on {world.columns[0].title}, %")
        if not inside:
            fig.text(0.09, 0.945, picture.title, fontsize=11, color=INK, fontweight="bold")
            kind = ("STAND-IN DATA: says nothing about the real data sets" if world.standin
                    else "PARTIAL DATA: not what the cards promise of " + ", ".join(world.partial)[:60] if world.partial
                    else "real data: " + ", ".join(c.title for c in world.columns)[:80])
            fig.text(0.09, 0.895, kind, fontsize=8.5, color=FRONT if world.standin or world.partial else INK)
        top, step = (0.93 if inside else 0.84), min(0.06, 0.78 / max(rows, 1))
        for line, (i, point) in enumerate(named):
            star = "  ★ Pareto" if point.best else ""
            fig.text(0.635, top - line * step, f"{i + 1:>2}  {short(point.label)}{star}", fontsize=8.5, va="center",
                     color=FRONT if point.best else INK, gid=f"{draw.ASIDE}{i}" if inside else None)
        return draw.to_svg(fig, picture.title)


def _points(axes: Axes, picture: Picture) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    prices = [p.price for p in picture.points]
    narrow = max(prices) < 30 * min(prices)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    front = sorted((p for p in picture.points if p.best), key=lambda p: p.price)
    axes.step([p.price for p in front], [p.accuracy for p in front], where="post", color=FRONT, linewidth=1.1,
              linestyle="--", zorder=1)
    many = len(picture.points) > NAMED
    for i, point in enumerate(picture.points):
        if many and not point.best:
            axes.plot([point.price], [point.accuracy], marker="o", markersize=4, linestyle="none", color=POINT,
                      alpha=0.5, zorder=2, gid=f"point{i + 1}")
            continue
        if point.low is not None and point.high is not None:
            axes.plot([point.price] * 2, [point.low, point.high], color=BAR, linewidth=1.6, zorder=2)
        axes.plot([point.price], [point.accuracy], marker="o", markersize=12, zorder=3, linestyle="none",
                  color=FRONT if point.best else POINT, gid=f"point{i + 1}")
        axes.annotate(str(i + 1), (point.price, point.accuracy), color=ON_MARK, fontsize=7.5, ha="center",
                      va="center_baseline", zorder=4)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(picture.x_label)


def short(label: str, size: int = 38) -> str:
    """A label of at most `size` letters: what tells methods apart stands at their ends, so the middle goes."""
    if len(label) <= size:
        return label
    tail = (size - 1) * 3 // 5
    return f"{label[:size - 1 - tail]}…{label[-tail:]}"


def _tick(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:,g}" if value < 1e4 else f"{value / 1e3:g}k"
