"""Adapter × regulariser: what a part adds on average over adapters, and where it adds more or less than that.

The rows of a suite that form a full table (every adapter alone and with each part) are read as a two-way layout.
Main effect of a part: mean over adapters of (with - without). Interaction of a part and an adapter: its own difference
minus the main effect. Intervals are of test items (paired) and seeds, as those of the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.suites import Row

from . import fields, stats
from .pairs import PLAIN, Predictions, answers_of, split
from .spread import Array, Spread, spread_of
from .table import Field, Table
from .world import World, key_of, title_of


@dataclass(frozen=True)
class Effects:
    adapters: tuple[str, ...]
    parts: tuple[str, ...]
    mean: Array  # (adapters, 1 + parts), accuracy; the first column is the adapter alone
    difference: tuple[tuple[stats.Effect, ...], ...]  # (adapters, parts)
    main: tuple[stats.Effect, ...]  # per part
    interaction: tuple[tuple[stats.Effect, ...], ...]  # (adapters, parts)
    of_runs: bool = False  # one seed: no interval says how far another would lie


def full_table(methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """Adapters and parts of which every combination is there, and each adapter alone; at least two adapters."""
    have: dict[str, set[str]] = {}
    for method in methods:
        adapter, part = split(method)
        have.setdefault(adapter, set()).add(part)
    have = {a: parts for a, parts in have.items() if PLAIN in parts and len(parts) > 1}
    sets = [frozenset(parts) for parts in have.values()]
    best: tuple[list[str], list[str]] = ([], [])
    for own in sorted({a & b for a in sets for b in sets}, key=lambda s: (-len(s), sorted(s))):
        adapters = [a for a, parts in have.items() if own <= parts]
        if len(adapters) > 1 and len(own) > 1 and len(adapters) * len(own) > len(best[0]) * (len(best[1]) + 1):
            best = adapters, sorted(own - {PLAIN})
    return best


def effects(world: World, predictions: Predictions) -> Effects | None:
    """None when the complete rows of one backbone, protocol and pool hold no full table, or predictions are missing."""
    groups: dict[tuple[str, str, str], dict[str, int]] = {}
    for i, row in enumerate(world.rows):
        if row in world.adapting or row in world.stale:
            continue
        if world.grid.complete(row, world.columns):
            protocol = world.grid.protocol(row, world.columns)
            groups.setdefault((row.backbone, protocol, world.league(row)), {})[row.method] = i
    for members in groups.values():
        adapters, parts = full_table(list(members))
        if not adapters:
            continue
        rows = [world.rows[members[a if p == PLAIN else f"{a}+{p}"]] for a in adapters for p in (PLAIN, *parts)]
        found = _spread(world, predictions, rows)
        if found is not None:
            spread, places = found
            return two_way(tuple(adapters), tuple(parts), spread, places)
    return None


def _spread(world: World, predictions: Predictions, rows: Sequence[Row]) -> tuple[Spread, list[int]] | None:
    """What the ranks rest on, or the same of these rows where they have no rank; and where each row stands in it."""
    found = [world.ranked[key_of(row)] for row in rows if key_of(row) in world.ranked]
    if len(found) == len(rows) and all(ranked is found[0][0] for ranked, _ in found):
        return found[0][0].spread, [i for _, i in found]
    sets = answers_of(world.grid, predictions, rows, world.columns)
    return None if sets is None else (spread_of(sets, [s.weight for s in sets], len(rows)), list(range(len(rows))))


def two_way(adapters: tuple[str, ...], parts: tuple[str, ...], spread: Spread, places: Sequence[int]) -> Effects:
    """Effects of a full table; `places` of its cells among the spread's rows, adapter by adapter, alone first."""
    shape = (len(adapters), 1 + len(parts))
    cells = np.eye(len(spread.mean))[list(places)].reshape(*shape, -1)  # each cell as a contrast
    gap = cells[:, 1:] - cells[:, :1]
    main = gap.mean(0)
    rest = gap - main
    found = stats.effects(spread, np.concatenate([x.reshape(-1, x.shape[-1]) for x in (main, gap, rest)]))
    size = len(parts)
    table = [tuple(found[i:i + size]) for i in range(0, len(found), size)]
    return Effects(adapters, parts, cells @ spread.mean, tuple(table[1:1 + len(adapters)]), table[0],
                   tuple(table[1 + len(adapters):]), spread.luck.alone)


def table(world: World, found: Effects) -> Table:
    """One row per adapter: alone, then what each part adds and its interaction; the last row holds main effects."""
    header = ["Adapter", "Alone"]
    for part in found.parts:
        header += [f"+{part}", f"+{part}, beyond its mean"]
    body = []
    for i, adapter in enumerate(found.adapters):
        line = [Field(adapter, code=True), Field(fields.percent(found.mean[i, 0]), 100 * found.mean[i, 0])]
        for j in range(len(found.parts)):
            line += [fields.effect(found.difference[i][j]), fields.effect(found.interaction[i][j])]
        body.append(tuple(line))
    last = [Field("mean over adapters"), Field(fields.percent(found.mean[:, 0].mean()), 100 * found.mean[:, 0].mean())]
    for effect in found.main:
        last += [fields.effect(effect), Field("")]
    over = "test items alone, as one seed shows no spread" if found.of_runs else "test items (paired) and seeds"
    words = (f"points with 95 % intervals over {over}; not corrected for their number",
             "beyond its mean: how much more the part adds here than on average over the adapters")
    return Table(f"{world.key}-effects", title_of(world, "Adapter × added part"), f"Mean of {len(world.columns)}.",
                 tuple(header), (*body, tuple(last)), words, (), frozenset(range(1, len(header))))
