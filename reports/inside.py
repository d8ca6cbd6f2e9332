"""What runs say of themselves: learning curves, probes along the way, and what parts report after training.

Probes (`probe.pace.fp_dist` in a record's history) are measured on validation images, so records of final runs rarely
have them: those of the configuration that was chosen while tuning stand in. Reports (`report.wise.alpha_0.50` in the
diagnostics) are numbers that a part knows when training is over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from results import packs
from results.suites import Column, Row

from . import fields, plots, rules
from .pictures import label_of
from .table import Field, Table, legend_of
from .tuning import Tuned
from .world import World, key_of, name_header, names, title_of

LOSS = "train.loss"
REPORT = "diagnostics.report."
History = Sequence[Mapping[str, Any]]


@cache
def _history(path: Path) -> History:
    """Few suites are small enough for learning curves, and each file is then read once."""
    found: History = json.loads(packs.read(path))["history"]
    return found


def _runs(world: World, row: Row, column: Column, tuned: Tuned) -> Iterator[tuple[str, int]]:
    """(what it is, record) of every final run of a cell, then of the trial that was chosen for it on val."""
    cell = world.grid.cell(row, column)
    for seed, run in zip(cell.seeds, cell.runs, strict=True):
        yield f"seed {seed}", run
    choice = tuned.selection.of(*key_of(row), column.run_dataset or column.name) if tuned.selection else None
    study = next((s for s in tuned.trials.studies if choice and s.key == choice.key), None) if tuned.trials else None
    if choice is None or study is None:
        return
    by_run, records = world.by_run, world.grid.records
    for name in next((t.runs for t in study.trials if t.number == choice.winner), ()):
        run_ = by_run.get(name)
        if run_ is not None and records.get_text("spec.dataset", run_) == (column.run_dataset or column.name):
            yield "chosen while tuning", run_


def losses(world: World, run: int, most: int) -> list[tuple[float, float]]:
    """(epoch, training loss) of one run, at most about so many of them, with three digits."""
    records = world.grid.records
    history = _history(records.root / records.get_text("path", run))
    points = [(float(h["epoch"]), float(f"{h[LOSS]:.3g}")) for h in history
              if h.get("epoch") is not None and h.get(LOSS) is not None]
    return points[::max(1, len(points) // most)]


def curves(world: World, tuned: Tuned) -> dict[str, list[plots.Plot]]:
    """Quantity -> a picture for each data set: the training loss first, then probes by name."""
    lines: dict[str, dict[str, list[plots.Line]]] = {LOSS: {}}
    titles = {c.name: c for c in world.columns if c.split == "test"}
    for column in titles.values():
        for row in world.rows[:plots.ROWS]:
            for what, run in _runs(world, row, column, tuned):
                for quantity, line in _lines(world, row, what, run):
                    if quantity != LOSS or what.startswith("seed"):
                        lines.setdefault(quantity, {}).setdefault(column.name, []).append(line)
    return {q: [plots.learning(titles[name], own, name_of(q)) for name, own in sets.items()]
            for q, sets in sorted(lines.items(), key=lambda one: (one[0] != LOSS, one[0])) if sets}


def _lines(world: World, row: Row, what: str, run: int) -> Iterator[tuple[str, plots.Line]]:
    records = world.grid.records
    history = _history(records.root / records.get_text("path", run))
    label = label_of(world, row)
    for quantity in dict.fromkeys(k for h in history for k in h if k == LOSS or k.startswith("probe.")):
        points = [(float(h["epoch"]), float(h[quantity])) for h in history
                  if h.get("epoch") is not None and h.get(quantity) is not None]
        if points:
            x, y = zip(*points, strict=True)
            tip = f"{label}, {what}\nrun {records.get_text('run_id', run)}\n{name_of(quantity)} {y[0]:.3g} after " \
                  f"epoch {x[0]:g}, {y[-1]:.3g} after epoch {x[-1]:g}"
            yield quantity, plots.Line(label, x, y, tip)


def name_of(quantity: str) -> str:
    """`train.loss` -> `training loss`, `probe.pace.fp_dist` -> `pace.fp_dist`."""
    return "training loss" if quantity == LOSS else quantity.removeprefix("probe.")


# What parts report.

def reported(world: World) -> tuple[Table | None, list[plots.Plot]]:
    """A line for each number that a part reported, and a picture for each curve (`wise.alpha_0.00` to `_1.00`)."""
    found = sorted(name.removeprefix(REPORT) for name in world.grid.records.number if name.startswith(REPORT))
    plain = [name for name in found if _point(name) is None]
    bases: dict[str, dict[float, str]] = {}
    for name in found:
        point = _point(name)
        if point is not None:
            bases.setdefault(point[0], {})[point[1]] = name
    body, lines = [], {base: list[plots.Line]() for base in bases}
    for row in world.rows:
        for name in plain:
            values = world.values(row, REPORT + name)
            if values:
                body.append((*names(world, row), Field(name), fields.spread(values), Field(f"{len(values)}",
                                                                                         len(values))))
        for base, points in bases.items():
            held = {x: values for x, name in sorted(points.items()) if (values := world.values(row, REPORT + name))}
            if held:
                body.append((*names(world, row), Field(base), _told({x: fmean(v) for x, v in held.items()}),
                             Field(f"{max(map(len, held.values()))}", max(map(len, held.values())))))
                lines[base].append(plots.Line(label_of(world, row), tuple(held), tuple(map(fmean, held.values()))))
    if not body:
        return None, []
    start = len(name_header(world)) + 1
    table = Table(f"{world.key}-reported", title_of(world, "What parts report after training"),
                  "Median (least–most) over data sets and seeds; curves: mean over them.",
                  (*name_header(world), "Quantity", "Value", "Runs"), tuple(body),
                  ("a curve is told by its first, its best and its last point", *legend_of(body, rules.LEGEND)), (),
                  frozenset({start, start + 1}))
    drawn = [plots.curves(f"reported-{re.sub(r'[^a-z0-9]', '-', base)}", f"{base} as reported after training",
                          "Mean over data sets and seeds.", own, base, "value") for base, own in lines.items() if own]
    return table, drawn


def _point(name: str) -> tuple[str, float] | None:
    """`wise.alpha_0.50` -> ("wise.alpha", 0.5); None for a name that ends in no number."""
    match = re.fullmatch(r"(.+)_(\d+(?:\.\d+)?)", name)
    return (match[1], float(match[2])) if match else None


def _told(curve: Mapping[float, float]) -> Field:
    first, last = min(curve), max(curve)
    best = max(curve, key=lambda x: (curve[x], -x))
    text = f"{fields.significant(curve[first])} at {first:g}; best {fields.significant(curve[best])} at {best:g}; " \
           f"{fields.significant(curve[last])} at {last:g}"
    return Field(text, curve[best])
