"""What a reader can choose on a page, as HTML: data sets, rows, seeds, a budget; and columns of a table to hide.

Every control holds its own state: `name` and `value` of those that are not as they were written go into the page's
address. page.js reads them; without it nothing is shown here that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results.pools import MEANS
from results.received import LEVELS

from .draw import escape
from .table import Table, cut
from .world import World, key_of

BUDGET = (("thousands", "Thousands of trained weights, at most"), ("kib", "KiB kept for backward per {thing}, at most"),
          ("ms", "Milliseconds of training per {thing}, at most"))
ALL = '<button type="button" data-do="all" aria-label="All or none of {0}">All or none</button>'
VERDICTS = ("own", *LEVELS)
# What page.js shows where it holds; docs/page.md says more.
SENTENCES = "".join(f'<p data-say="{what}" hidden>{escape(words)}</p>' for what, words in (
    ("choice", "Means, ranks and ties are of what is chosen, not of everything; pictures that this page does not draw "
     "anew are of everything."),
    ("seeds", "No intervals, ranks and ties for a choice of seeds: this page holds summaries over all seeds of a row, "
     "and they would need its answers. Choose every seed to have them."),
    ("ranks", "No ranks: fewer than two chosen rows of one pool are complete and share a protocol, or their answers "
     "are not stored.")))


def chooser(world: World, facts: Mapping[str, Any]) -> str:
    """The panel of one world; a fieldset stands where there is something to choose."""
    rows = facts["rows"]
    parts = [_sets(world), _rows(world), _pools(world),
             _among("Whose runs, by the worst verdict of a row", "verdict",
                    [v for v in VERDICTS if any(r["verdict"] == v for r in rows)]),
             _among("Seeds", "seed", map(str, facts["seeds"])), _budget(rows, world.thing)]
    return (f'<details class="choose"><summary>Choose data sets, rows, pools, seeds, a budget</summary>'
            f'<div class="fields">{"".join(parts)}</div>'
            f'<p><button type="button" data-do="reset">Choose everything</button> Means, ranks and ties are computed '
            f"anew for what is chosen; the page's address keeps the choice.</p></details>")


def columns(table: Table) -> str:
    """Which columns of a table are shown; the first, its names, stays."""
    boxes = "".join(_box("column", f"{table.key}:{label}", label) for label in table.header[1:])
    return f'<details class="columns"><summary>Columns</summary><div class="boxes">{boxes}</div></details>'


def _box(name: str, value: str, label: str, checked: bool = True) -> str:
    on = " checked" if checked else ""
    return f'<label><input type="checkbox" name="{name}" value="{escape(value)}"{on}> {escape(label)}</label>'


def _fields(title: str, inside: Iterable[str], css: str = "") -> str:
    return f'<fieldset{css}><legend>{escape(title)}</legend><div class="boxes">{"".join(inside)}</div></fieldset>'


def _sets(world: World) -> str:
    if len(world.columns) < 2:
        return ""
    found = []
    for _, title, own in world.groups():
        boxes = [_box("set", c.name, c.title) for c in own if c in world.columns]
        if boxes:
            found.append(_fields(title, [*([ALL.format(escape(title))] if len(boxes) > 1 else []), *boxes]))
    return "".join(found)


def _rows(world: World) -> str:
    several = len({r.backbone for r in world.rows}) > 1
    boxes = [_box("row", " on ".join(key_of(r)), cut(r.method) + (f" on {r.backbone}" if several else ""))
             for r in world.rows]
    found = '<button type="button" data-do="found">Only those that the filter finds</button>'
    return _fields("Rows", [ALL.format("rows"), found, *boxes], ' class="wide"') if len(boxes) > 1 else ""


def _pools(world: World) -> str:
    if len(world.pools) < 2:
        return ""
    boxes = [_box("pool", pool, f"{pool}: {MEANS[pool]}") for pool in world.pools]
    return _fields("Pools", [*boxes, _box("across", "yes", "rank rows of all pools together", world.across)])


def _among(title: str, name: str, values: Iterable[str]) -> str:
    boxes = [_box(name, value, value) for value in values]
    return _fields(title, boxes) if len(boxes) > 1 else ""


def _budget(rows: Sequence[Mapping[str, Any]], thing: str) -> str:
    known = {name for row in rows for name, value in row.items() if value is not None}
    inside = [f'<label>{label.format(thing=thing)} <input type="number" name="{name}" min="0" step="any" '
              'autocomplete="off"></label>' for name, label in BUDGET if name in known]
    inside += [_box("merge", "yes", "Merges: nothing stays at inference", False)] if "stays" in known else []
    return _fields("Budget", inside) if inside else ""
