"""What is known of methods under a budget: largest batches, time, accuracy, from forecasts and records and no others.

Memory is the exact ledger of a step that was never taken (`fit.ledger_line`), times what a step's temporaries take, and
a CUDA context (`planning.price`). Time and accuracy are of records: the user's own, then the committed ones. A record
counts for the same method and options on the same backbone, images and number of epochs; one that was made with another
source of the method is marked, and comes last. Papers' numbers stand apart, whatever their protocol. What none of these
says is None, and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from datasets import registry
from datasets.own import note
from methods.grammar import parse
from results.columns import Columns
from results.index import read
from results.printed import PrintedRow, PrintedTable
from results.schema import RunSpec
from results.spoken import word
from results.vocabulary import backbone_of

from ..planning.price import CONTEXT_BYTES, HEADROOM, LEVELS, price
from ..planning.resolve import Planned
from .fit import LIMIT, largest, ledger_bytes, ledger_line

Z = 1.96  # of a 95 % interval
TABLES = ("vtab1k", "vtab1k-part", "fgvc", "fgvc-part")  # whose columns are our data sets with all their images


@dataclass(frozen=True)
class Seen:
    """Mean accuracy over data sets with its 95 % interval, in [0, 1]; `batch`: the sizes that it was trained with."""

    mean: float
    low: float
    high: float
    seeds: int  # of the data set that has fewest
    batch: tuple[int, ...]
    source: str  # "own", "committed"
    older: bool  # made with another source of the method


@dataclass(frozen=True)
class Taken:
    """Seconds of one seed on all the data sets, with an 80 % interval where records tell one."""

    seconds: float
    low: float | None
    high: float | None
    device: str
    like: str  # how like the records were
    source: str


@dataclass(frozen=True)
class Source:
    """Records of one origin."""

    name: str
    columns: Columns


@dataclass(frozen=True)
class Printed:
    """Percent in a paper's table: the mean over the data sets asked for, and where."""

    percent: float
    where: str


def sources(runs: Path, reference: Path) -> list[Source]:
    """The user's own records, then each committed suite's; what cannot be read is no experience."""
    places = [("own", runs), *(("committed", p.parent) for p in sorted(reference.glob("*/suite.json")))]
    return [Source(name, found) for name, place in places
            if place.is_dir() and len(found := read(place, on_error=lambda error: None))]


def room(budget_bytes: float) -> float:
    """Bytes of a budget that a step's ledger may take."""
    return (budget_bytes - CONTEXT_BYTES) / HEADROOM


def needs(ledger_bytes: float) -> float:
    """Bytes of a card that a step with such a ledger needs."""
    return CONTEXT_BYTES + HEADROOM * ledger_bytes


def memory(spec: RunSpec, classes: int, budgets: Sequence[float]) -> tuple[float, tuple[int, ...]] | None:
    """(bytes of a card for a step at the spec's batch, the largest batch in each budget); 0 where no image fits.

    None where a step reads numbers and cannot be forecast.
    """
    line = ledger_line(spec, classes)
    if line is not None and line.straight:
        return needs(line.at(spec.batch_size)), tuple(min(LIMIT, line.images(room(b))) for b in budgets)
    at = ledger_bytes(spec, spec.batch_size, classes)
    if line is None or at is None:
        return None

    def fits(batch: int, budget: float) -> bool:
        found = ledger_bytes(spec, batch, classes)
        return found is not None and needs(found) <= budget

    return needs(at), tuple(largest(partial(fits, budget=b), line.images(room(b))) for b in budgets)


def accuracy(runs: Sequence[Planned], known: Sequence[Source], standin: bool) -> tuple[Seen | None, str]:
    """Of a method, from its runs on all data sets; None with a phrase that says what is missing."""
    lacking, other = [], set[int]()
    for older, source in ((older, source) for older in (False, True) for source in known):
        cells = [_cell(one, source.columns, standin, older, other) for one in runs]
        lacking.append([one.spec.dataset for one, cell in zip(runs, cells, strict=True) if cell is None])
        found = [cell for cell in cells if cell is not None]
        if len(found) == len(runs):
            mean = fmean(c[0] for c in found)
            error = Z * math.sqrt(sum(c[1] for c in found)) / len(found)
            return Seen(mean, max(0.0, mean - error), min(1.0, mean + error), min(c[2] for c in found),
                        tuple(sorted({b for c in found for b in c[3]})), source.name, older), ""
    least = min(lacking, key=len, default=[one.spec.dataset for one in runs])
    if len(least) < len(runs):
        return None, f"lacks {', '.join(least[:3])}{' ...' if len(least) > 3 else ''}"
    return None, f"known for {' and '.join(map(str, sorted(other)))} {word(max(other), 'epoch')}" if other else ""


def _cell(one: Planned, columns: Columns, standin: bool, older: bool, other: set[int]) -> (
        tuple[float, float, int, set[int]] | None):
    """(mean, variance of the mean, seeds, batches) of the records of a method on one data set; None without one.

    The variance is that of so many test images, and that of the seeds where there are two; `other` learns of records
    that were trained for another number of epochs.
    """
    text, number, spec = columns.get_text, columns.get_number, one.spec
    metric = f"metrics.test.{registry.get(spec.dataset).metric}"
    source = parse(one.text).source_hash
    values, counts, batches = [], [], set[int]()
    for row in range(len(columns)):
        if (text("status", row), text("phase", row), text("method.text", row), text("spec.model", row),
                text("spec.dataset", row)) != ("ok", "final", one.text, spec.model, spec.dataset):
            continue
        images = text("spec.data", row).partition(":")[0]
        broken = images == "partial" and note.MARK not in spec.dataset  # a folder's name says which images were used
        if (text("method.source_hash", row) != source and not older) or broken or (
                images == "standin" and not standin) or (images not in ("standin", "shipped") and standin) or \
                number("spec.image_size", row) != spec.image_size or text("spec.weights", row) == "random":
            continue
        value, count = number(metric, row), number("metrics.test.n", row)
        if value is None or not count:
            continue
        if number("spec.epochs", row) != spec.epochs:
            other.add(int(number("spec.epochs", row) or 0))
            continue
        values.append(value)
        counts.append(count)
        batches.add(int(number("spec.batch_size", row) or 0))
    if not values:
        return None
    mean = fmean(values)
    spread = stdev(values) ** 2 / len(values) if len(values) > 1 else 0.0
    return mean, mean * (1 - mean) / fmean(counts) + spread, len(values), batches


def taken(runs: Sequence[Planned], known: Sequence[Source]) -> Taken | None:
    """Time of one seed of a method on all data sets, from the records most like it, one's own before others.

    None where nothing like one of its runs is recorded.
    """
    found = []
    for source in known:
        told = price(runs, source.columns)
        if told.seconds is not None and not told.unknown:
            found.append(Taken(told.seconds, told.low, told.high, told.device, max(told.levels, key=LEVELS.index),
                               source.name))
    return min(found, key=lambda t: LEVELS.index(t.like), default=None)


def printed(tables: Sequence[PrintedTable], methods: Sequence[str], backbone: str, datasets: Sequence[str],
            meant: Callable[[PrintedRow], Sequence[str]]) -> dict[str, list[Printed]]:
    """Method -> what papers print on this backbone of one that is called so, where they print all these data sets.

    `meant` says which parts a row's name means. Options are not compared: papers' tables rarely say them.
    """
    called: dict[str, list[str]] = {}
    for text in methods:
        called.setdefault(parse(text).name, []).append(text)
    found: dict[str, list[Printed]] = {}
    for table in tables:
        if table.benchmark not in TABLES or table.backbone != backbone_of(backbone) or \
                not set(datasets) <= set(table.percents()):
            continue
        for row in table.rows:
            texts = called.get("+".join(meant(row)), ())
            if texts and not row.suspect and all(name in row.values for name in datasets):
                percent = fmean(row.values[name] for name in datasets)
                told = Printed(percent, f"{table.paper.partition(':')[0]}, {table.name}")
                for text in texts:
                    found.setdefault(text, []).append(told)
    return found


def undominated(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Of (gain, price) by name: those that no other beats in one and equals in the other, cheapest first."""
    def beaten(name: str) -> Iterator[bool]:
        gain, cost = points[name]
        return (g >= gain and c <= cost and (g, c) != (gain, cost) for n, (g, c) in points.items() if n != name)

    return sorted((n for n in points if not any(beaten(n))), key=lambda n: points[n][1])
