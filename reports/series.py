"""What a part adds to an adapter against the length of training and the number of training images.

Suites whose names differ by a number at their end alone (`x`, `x-5`, `x-60`) are one series: the same rows, trained
for other numbers of epochs. From them come one table and one picture. Every number is a paired difference, method with
the part minus without it, its interval of test items and seeds; not corrected for their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median

import numpy as np

from results.columns import Columns
from results.pools import told
from results.spoken import many
from results.suites import Column, Row, SuiteView

from . import draw, fields, stats
from .cells import Grid, grid
from .colours import HUES, INK
from .draw import DASHES
from .kept import records_hash
from .latex import latex
from .pairs import PLAIN, Predictions, answers_of, split
from .pictures import short
from .spread import spread_of
from .table import Field, Table, markdown, md, to_csv

WIDE = 3  # panels beside each other
WORDS = ("every difference: points with a 95 % interval over test items (paired) and seeds, not corrected for their "
         "number", "alone: top-1 of the adapter without a part, %",
         "mean of data sets: over those with that many training images, at that many epochs")


@dataclass(frozen=True)
class Point:
    """One place of the series: what each part adds to one adapter there."""

    adapter: str
    title: str  # of the data set, or "mean of 2 data sets"
    images: int  # trained on
    epochs: int
    alone: float  # accuracy of the adapter without a part
    adds: Mapping[str, stats.Effect]  # part -> its difference
    mean: bool = False  # over several data sets
    of_runs: bool = False  # one seed: the interval says nothing of another


def stems(suites: Sequence[SuiteView]) -> dict[str, list[SuiteView]]:
    """Name of a series -> its suites, two or more of them."""
    found: dict[str, list[SuiteView]] = {}
    for suite in suites:
        found.setdefault(re.sub(r"-\d+$", "", suite.name), []).append(suite)
    return {stem: own for stem, own in found.items() if len(own) > 1}


def points(suite: SuiteView, records: Columns) -> list[Point]:
    """The places of one suite, real data alone; those of equally many images and epochs also in the mean."""
    predictions = Predictions(records)
    cells = grid(suite, records, records.by_run(), predictions.luck)
    columns = [c for c in cells.suite.columns if not c.standin]
    found = []
    for rows in _families(cells.suite.rows):
        at: dict[tuple[int, int], list[Column]] = {}
        for column in columns:
            if all(cells.complete(row, [column]) for row in rows):
                at.setdefault(_place(cells, rows[0], column), []).append(column)
        for place, same in at.items():
            groups = [[column] for column in same] + ([same] if len(same) > 1 else [])
            found += [p for group in groups for p in [_point(cells, predictions, rows, group, place)] if p]
    return found


def _families(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """An adapter alone, then the same with each of its parts, on one backbone and in one pool of entrants."""
    for plain in rows:
        adapter, part = split(plain.method)
        others = [r for r in rows if r.backbone == plain.backbone and r != plain and split(r.method)[0] == adapter
                  and _pool(r) == _pool(plain)]
        if part == PLAIN and others:
            yield [plain, *others]


def _pool(row: Row) -> str:
    return row.pool or told(row.budget, row.note)


def _place(cells: Grid, row: Row, column: Column) -> tuple[int, int]:
    """(training images, epochs) of the runs of a cell."""
    runs = cells.cell(row, column).runs
    images, epochs = (median(cells.records.get_number(name, run) or 0 for run in runs)
                      for name in ("dataset.train", "spec.epochs"))
    return round(images), round(epochs)


def _point(cells: Grid, predictions: Predictions, rows: Sequence[Row], columns: Sequence[Column],
           place: tuple[int, int]) -> Point | None:
    if any(cells.alike(row, rows[0], columns) is False for row in rows):
        return None  # other protocols are not compared
    sets = answers_of(cells, predictions, rows, columns)
    if sets is None:
        return None
    spread = spread_of(sets, [s.weight for s in sets], len(rows))
    found = stats.effects(spread, np.eye(len(rows))[1:] - np.eye(len(rows))[0])
    adapter = rows[0].method
    title = columns[0].title if len(columns) == 1 else f"mean of {len(columns)} data sets"
    return Point(adapter, title, *place, float(spread.mean[0]),
                 {split(row.method)[1]: effect for row, effect in zip(rows[1:], found, strict=True)},
                 len(columns) > 1, spread.luck.alone)


def table(places: Sequence[Point], adapter: str) -> Table:
    """A line for each place, few images and few epochs first, a column for each part."""
    own = sorted((p for p in places if p.adapter == adapter), key=lambda p: (p.images, p.mean, p.title, p.epochs))
    parts = list(dict.fromkeys(part for p in own for part in p.adds))
    body = [(Field(p.title), Field(str(p.images), p.images), Field(str(p.epochs), p.epochs),
             Field(fields.percent(p.alone), 100 * p.alone),
             *(fields.effect(p.adds[part]) if part in p.adds else Field("–", mark="missing") for part in parts))
            for p in own]
    words = WORDS + (("one seed at some places: their intervals are over test items alone",)
                     if any(p.of_runs for p in own) else ())
    key = re.sub(r"[^a-z0-9]+", "-", adapter.lower()).strip("-")
    return Table(f"series-{key}", f"What a part adds to {adapter} (real data)",
                 "Against the number of training images and of epochs.",
                 ("Data set", "Images", "Epochs", f"{adapter} alone", *(f"+{part}" for part in parts)), tuple(body),
                 words, (), frozenset(range(1, 4 + len(parts))))


def picture(places: Sequence[Point], adapter: str, records: str) -> str:
    """A panel for each part: points added against epochs, a line for each data set and number of images."""
    from matplotlib.ticker import NullLocator

    own = sorted((p for p in places if p.adapter == adapter and not p.mean), key=lambda p: (p.images, p.title))
    parts = list(dict.fromkeys(part for p in own for part in p.adds))
    lines = list(dict.fromkeys((p.title, p.images) for p in own))
    epochs = sorted({p.epochs for p in own})
    ends = [100 * end for p in own for e in p.adds.values() for end in e.interval]
    low, high = min(0.0, *ends), max(0.0, *ends)
    across, down = min(WIDE, len(parts)), -(-len(parts) // WIDE)
    tall = 0.9 + 2.7 * down + 0.2 * len(lines)
    with draw.figure(8.2, tall) as fig:
        fig.text(0.08, 1 - 0.25 / tall, f"What a part adds to {adapter}, real data", fontsize=11, color=INK,
                 fontweight="bold")
        for i, part in enumerate(parts):
            left, top = 0.08 + (i % WIDE) * 0.92 / across, 1 - (0.75 + 2.7 * (i // WIDE)) / tall
            axes = draw.plain_axes(fig, (left, top - 2.0 / tall, 0.92 / across - 0.07, 2.0 / tall))
            axes.axhline(0, color=INK, linewidth=0.8)
            for j, line in enumerate(lines):
                at = sorted((p for p in own if (p.title, p.images) == line and part in p.adds), key=lambda p: p.epochs)
                x = [p.epochs * (1 + 0.05 * (j - (len(lines) - 1) / 2)) for p in at]  # bars beside each other
                effects = [p.adds[part] for p in at]
                colour = HUES[j % len(HUES)]
                axes.plot(x, [100 * e.value for e in effects], color=colour, marker="o", markersize=3.5, linewidth=1.4,
                          linestyle=DASHES[j // len(HUES) % len(DASHES)])
                axes.vlines(x, [100 * e.interval.low for e in effects], [100 * e.interval.high for e in effects],
                            color=colour, linewidth=1.1, alpha=0.6)
            axes.set_xscale("log")
            axes.set_xticks(epochs, [str(e) for e in epochs])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            axes.set_title(short(f"+{part}", 40), fontsize=9, color=INK)
            axes.set_xlabel("epochs", fontsize=8.5)
            if i % WIDE == 0:
                axes.set_ylabel("points added", fontsize=8.5)
        for j, (title, images) in enumerate(lines):
            height = (0.12 + 0.2 * (len(lines) - 1 - j)) / tall
            fig.text(0.08, height, "━", fontsize=9, color=HUES[j % len(HUES)], va="center")
            fig.text(0.11, height, f"{title}: {many(images, 'training image')}", fontsize=8.5, color=INK,
                     va="center")
        svg = draw.to_svg(fig, f"What a part adds to {adapter}")
    return svg.replace("<svg ", f"<!-- records {records}; matplotlib {draw.version()} -->\n<svg ", 1)


def build(stem: str, given: Sequence[tuple[SuiteView, Columns]], intro: str, folder: str) -> dict[str, str]:
    """Relative name -> text of a series: `<stem>-series.md`, and tables and pictures below `folder`; {} if empty."""
    places = [point for suite, records in given for point in points(suite, records)]
    adapters = list(dict.fromkeys(p.adapter for p in places))
    if not adapters:
        return {}
    hashes = [records_hash(suite, records, records.by_run()) for suite, records in given]
    mark = sha256("".join(hashes).encode()).hexdigest()[:16]
    named = ", ".join(f"`{suite.name}`" for suite, _ in given)
    parts = [f"# {md(stem)}: gains against training length and images", intro,
             f"From the suites {named}. {md(given[0][0].note)}"]
    files: dict[str, str] = {}
    for adapter in adapters:
        shown = table(places, adapter)
        base = f"{stem}-{shown.key}"
        files[f"{folder}/{base}.csv"] = to_csv(shown, mark)
        files[f"{folder}/{base}.tex"] = latex(shown, mark, stem)
        files[f"{folder}/{base}.svg"] = picture(places, adapter, mark)
        parts += [f"![{md(shown.title)}]({folder}/{base}.svg)", markdown(shown).rstrip(),
                  f"Files: [{base}]({folder}/{base}.csv) ([LaTeX]({folder}/{base}.tex))."]
    return {f"{stem}-series.md": "\n\n".join(p for p in parts if p) + "\n", **files}
