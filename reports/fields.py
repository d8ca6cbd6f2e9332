"""How numbers become text: shares as percent, bytes in one unit per column, ranges over data sets. Only here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from results.spoken import many, thing
from results.suites import Column, Row

from . import rules, stats
from .cells import Cell, Grid, spread_of
from .table import Field

UNITS = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed, with a true minus."""
    text = f"{100 * difference:+.1f}"
    return text.replace("-", "−") if text.strip("+-0.") else "0.0"


def bracket(interval: stats.Interval) -> str:
    return f"[{percent(interval.low)}, {percent(interval.high)}]"


def accuracy(cell: Cell, whole: bool = False) -> Field:
    """`54.0 ± 0.6 (3)` for several seeds (`whole`: with the interval), `54.0 [47.1, 60.8]` for one, else its state.

    Beside a mean of six recalls stands their sum, as the field has it: `54.0 [47.1, 60.8], RSUM 324.0`.
    """
    if cell.state != "ok":
        return Field(rules.MARKS[cell.state], mark=cell.state)
    short = len(cell.values) < cell.wanted
    count = f"({len(cell.values)} of {cell.wanted})" if short else f"({len(cell.values)})"
    text = percent(cell.mean)
    if cell.std is not None:
        text += f" ± {percent(cell.std)} {count}" + (f" {bracket(cell.interval)}" if whole and cell.interval else "")
    else:
        text += f" {bracket(cell.interval)}" if cell.interval else ""
        text += f" {count}" if short else ""
    text += f", RSUM {600 * cell.mean:.1f}" if cell.metric == "rmean" else ""
    signs = "".join(rules.SIGNS[s] for s in cell.signs)
    low, high = cell.interval if cell.interval else (None, None)
    return Field(text + (f" {signs}" if signs else ""), 100 * cell.mean, _hundred(low), _hundred(high),
                 _hundred(cell.std), len(cell.values), " ".join(cell.signs + (("partial",) if short else ())))


def hint(grid: Grid, row: Row, column: Column) -> str:
    """Everything that is known of a cell, for the page's tooltip."""
    cell = grid.cell(row, column)
    lines = [f"{row.method} on {column.title}", accuracy(cell).text + (" %" if cell.values else "")]
    if cell.interval is not None:
        lines.append(f"95 % interval {bracket(cell.interval)}")
    if cell.std is not None:
        lines.append(f"std {percent(cell.std)} over {many(len(cell.values), 'seed')}")
    lines += [f"seed {seed}: {percent(value)}, run {grid.records.get_text('run_id', run)}"
              for seed, value, run in zip(cell.seeds, cell.values, cell.runs, strict=True)]
    lines += [f"n = {many(cell.items, f'test {_thing(grid, cell)}')}"] if cell.items is not None else []
    lines += [f"a constant answer scores {percent(cell.chance)}"] if cell.chance is not None else []
    lines += [f"tuning: {row.budget}"] if row.budget else []
    lines += [f"backbone {row.backbone}"] + ([_why(cell)] if cell.notes else [])
    return "\n".join(lines)


def _thing(grid: Grid, cell: Cell) -> str:
    records, run = grid.records, cell.runs[0]
    return thing(records.get_number("spec.image_size", run), records.get_text("spec.tokenizer", run))


def _why(cell: Cell) -> str:
    return "; ".join(f"{state}: {why}" if why else state for state, why in cell.notes)


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def mean_of(grid: Grid, row: Row, columns: Sequence[Column], parts: Sequence[Sequence[Column]] | None = None) -> Field:
    """Mean over complete cells, or coverage `17/19`. With `parts`, the mean of the parts' means."""
    cells = {c.name: grid.cell(row, c) for c in columns}
    done = sum(cell.complete for cell in cells.values())
    if done < len(columns):
        return Field(f"{done}/{len(columns)}", mark="incomplete")
    groups = [list(columns)] if parts is None else [list(p) for p in parts]
    weight = {c.name: 1 / len(groups) / len(group) for group in groups for c in group}
    mean = sum(w * cells[name].mean for name, w in weight.items())
    interval = grid.interval(row, weight)
    shown = f" {bracket(interval)}" if interval is not None else ""
    seeds = {cell.seeds for cell in cells.values()}
    signs = [s for s in rules.SIGNS if s != "chance" and any(s in c.signs for c in cells.values())]
    marks = "".join(rules.SIGNS[s] for s in signs)
    tail = f" {marks}" if marks else ""
    low, high = (100 * interval.low, 100 * interval.high) if interval is not None else (None, None)
    if len(seeds) == 1 and len(next(iter(seeds))) > 1:
        per_seed = [sum(w * cells[name].values[s] for name, w in weight.items()) for s in range(len(next(iter(seeds))))]
        spread = spread_of(per_seed)
        return Field(f"{percent(mean)} ± {percent(spread)} ({len(per_seed)}){shown}{tail}", 100 * mean, low, high,
                     100 * spread, len(per_seed), " ".join(signs))
    return Field(percent(mean) + shown + tail, 100 * mean, low, high, None, None if len(seeds) != 1 else 1,
                 " ".join(signs))


def effect(found: stats.Effect) -> Field:
    """`+1.2 [−0.3, +2.7]`, in points."""
    low, high = found.interval
    return Field(f"{points(found.value)} [{points(low)}, {points(high)}]", 100 * found.value, 100 * low, 100 * high)


def unit_of(values: Sequence[float]) -> tuple[str, int]:
    """The unit that shows the largest value with one to four digits."""
    top = max(values, default=0.0)
    return next(((name, size) for name, size in reversed(UNITS) if top >= size), UNITS[0])


def spread(values: Sequence[float], scale: float = 1.0, whole: bool = False) -> Field:
    """One number when all agree within 0.05 %, else the median and its range over data sets; a dash for unknown."""
    if not values:
        return Field("–", mark="unknown")
    low, middle, high = min(values) / scale, median(values) / scale, max(values) / scale
    show = _count if whole else significant
    text = show(middle) if show(low) == show(high) else f"{show(middle)} ({show(low)}–{show(high)})"
    return Field(text, middle, low if low != high else None, high if low != high else None)


def _count(value: float) -> str:
    return f"{round(value):,}"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def ratio(value: float) -> Field:
    return Field(f"{significant(value)}×", value)
