"""What a page holds so that it can rank any choice of data sets and rows anew: summaries of every data set's answers.

A ranking needs no answers, only moments of them. With x(d, k) the share of row k's seeds that answer an item of data
set d right, it needs the mean of x, its variance over items and that of every difference of two of them that can meet
in one comparison: rows of one backbone on the same items. Differences are kept as such, for taken from covariances
the small ones would lose their digits. `reports/ranks.js` puts them together as `spread.spread_of` does.

Seeds cannot be chosen so: the moments are of a row's mean over all of its seeds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from results.suites import Column, Row
from results.visible import visible

from . import means, provenance, rules, stats
from .cells import Cell
from .pairs import RANKED, Predictions
from .pictures import label_of
from .spread import Array
from .world import World, key_of

MOST = 400_000  # differences: two megabytes of a page
PRICES = ("params.trained", "memory.saved_bytes_per_image", "throughput.train_images_per_s")


def facts(world: World, predictions: Predictions) -> dict[str, Any]:
    """What page.js reads of a world: names, cells and moments, all of them JSON's own kinds.

    sets: `run` and `family` tell which sets one run tests, and which share their items; rows: `_row`; cells: per row
    and set `_cell` or null; blocks: `_block`; most: rows that one ranking may hold; across: whether
    rows of several pools are ranked together at first.
    """
    columns = world.columns
    protocols: list[dict[str, int]] = [{} for _ in columns]
    blocks = _Blocks(world, predictions)
    cells = [[_cell(world.grid.cell(row, column), column,
                    protocols[d].setdefault(world.grid.protocol(row, [column]), len(protocols[d])),
                    *(blocks.of(k, d) if column.answered else (-1, 1)))
              for d, column in enumerate(columns)] for k, row in enumerate(world.rows)]
    return {
        "sets": [{"name": c.name, "title": visible(c.title), "run": c.run_dataset or c.name,
                  "family": c.family or c.name} for c in columns],
        "rows": [_row(world, row) for row in world.rows], "across": world.across,
        "cells": cells, "blocks": blocks.written(), "most": RANKED,
        "seeds": sorted({seed for row in world.rows for c in columns for seed in world.grid.cell(row, c).seeds}),
    }


def _row(world: World, row: Row) -> dict[str, Any]:
    """row: as its box is called; ranked: not stale; pool: it is ranked among its own; verdict: the worst of its
    runs, "own" where none was received; then medians over its runs, as the pictures have them, None for what is not
    known: thousands of trained weights, KiB and ms per image, weights that stay when merged."""
    weights, kept, speed = (median(values) if (values := world.values(row, name)) else None for name in PRICES)
    merged = world.values(row, "params.extra_inference_merged")
    every = len(merged) == len(world.runs[row.method, row.backbone])
    return {"row": visible(" on ".join(key_of(row))), "backbone": visible(row.backbone),
            "label": visible(label_of(world, row)), "ranked": row not in world.stale, "pool": world.pool(row),
            "verdict": (provenance.of(world, row) or ["own"])[-1],
            "thousands": None if weights is None else weights / 1000, "kib": None if kept is None else kept / 1024,
            "ms": 1000 / speed if speed else None, "stays": max(merged) if merged and every else None}


def _cell(cell: Cell, column: Column, protocol: int, block: int, span: int) -> dict[str, Any] | None:
    """`chance`: the part of its spread over seeds that is chance of the items; `error`: of its mean over new items;
    `smooth`: its mean away from 0 and 1; `block`: -1 where its answers are not known; `span`: how many
    blocks from there on hold them, a class each of a mean over classes."""
    if not cell.values:
        return None
    known = cell.items is not None and (cell.error is None or column.answered)
    return {"values": cell.values, "seeds": cell.seeds, "mean": cell.mean, "chance": cell.luck,
            "whole": cell.complete, "protocol": protocol, "block": block, "span": span,
            "signs": "".join(rules.SIGNS[s] for s in cell.signs if s != "chance"),
            "error": cell.error if cell.error is not None or not known
            else means.item_error(cell.values, cell.items or 0, cell.luck),
            "smooth": stats.smoothed(cell.mean, cell.items or 0) if known else None}


class _Blocks:
    """Cells whose answers can be compared: of one backbone, on the same items (of one class, in a mean over classes).
    """

    def __init__(self, world: World, predictions: Predictions) -> None:
        self.world, self.predictions = world, predictions
        self.members: dict[tuple[str, str], list[tuple[int, int]]] = {}  # (items, backbone) -> (row, set)
        self.place: dict[tuple[int, int], tuple[int, int]] = {}  # (row, set) -> first block, how many
        self.shares: dict[tuple[str, int, int], Array] = {}  # (items, row, set) -> (n,) share of seeds that are right
        for d, column in enumerate(world.columns):
            for k, row in enumerate(world.rows):
                found = self._answers(row, column)
                if found and all(len(share) > 1 for _, share in found):  # one item has no variance
                    for items, share in found:
                        self.members.setdefault((items, row.backbone), []).append((k, d))
                        self.shares[items, k, d] = share
                    self.place[k, d] = list(self.members).index((found[0][0], row.backbone)), len(found)
        if sum(len(own) ** 2 for own in self.members.values()) > 2 * MOST:
            self.members, self.place = {}, {}

    def of(self, row: int, column: int) -> tuple[int, int]:
        return self.place.get((row, column), (-1, 1))

    def _answers(self, row: Row, column: Column) -> list[tuple[str, Array]]:
        """[(items, (n,) share of the row's seeds that answer right)], one or one for each class; [] if unknown."""
        before = dict(self.predictions.problems)
        found = self.predictions.parts(self.world.grid.cell(row, column).runs, column)
        self.predictions.problems = before  # told where tables are made
        return [(items, _share(correct)) for items, correct, _ in found or ()]

    def written(self) -> list[list[Any]]:
        return [self._block(items, own) for (items, _), own in self.members.items()]

    def _block(self, items: str, own: Sequence[tuple[int, int]]) -> list[Any]:
        """[n, [row, set] of each, means, their variances, variances of differences (below the diagonal)]."""
        each = np.stack([self.shares[items, k, d] for k, d in own], axis=1)
        n = len(each)
        centred = each - each.mean(0)
        moved = centred.T @ centred / max(n - 1, 1) / n
        one = np.diag(moved)
        apart = one[:, None] + one[None, :] - 2 * moved
        apart[apart < 1e-12 * (one[:, None] + one[None, :])] = 0.0  # of equal answers, nothing
        return [n, list(own), [float(v) for v in each.mean(0)], _packed(one),
                _packed(apart[np.tril_indices(len(own), -1)])]


def _share(correct: np.ndarray) -> Array:
    """As `spread` takes it: equal answers give equal numbers."""
    mix = np.full(correct.shape[1], 1 / correct.shape[1], np.float32)
    return np.asarray((correct.astype(np.float32) @ mix[:, None])[:, 0], dtype=np.float64)


def _packed(values: Array) -> str:
    """Numbers as base64 of 32-bit floats, the least significant byte first."""
    return b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
