"""What a reader can choose on a page, as HTML: data sets, rows, seeds, a budget; and columns of a table to hide.

Every control holds its own state: `name` and `value` of those that are not as they were written go into the page's
address. page.js reads them; without it nothing is shown here that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .draw import escape
from .table import Table, cut
from .world import World, key_of

BUDGET = (("weights", "Trained weights, at most", "500k, 2M"), ("bytes", "Kept for backward per image, at most",
          "2M, 1.5G bytes"), ("ms", "Training time per image, at most", "ms"))


def chooser(world: World, facts: Mapping[str, Any]) -> str:
    """The panel of one world; a fieldset stands where there is something to choose.

    Pools of entrants get a fieldset beside these once records know them.
    """
    parts = [_sets(world), _rows(world), _seeds(facts["seeds"]), _budget(facts["rows"])]
    return (f'<details class="choose"><summary>Choose data sets, rows, seeds, a budget</summary>'
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
    for group, title, own in world.groups():
        boxes = [_box("set", c.name, c.title) for c in own if c in world.columns]
        if boxes:
            whole = f'<label class="whole"><input type="checkbox" checked data-group="{escape(group)}"> ' \
                    f"{escape(title)}: all</label>"
            found.append(_fields(title, [*([whole] if len(boxes) > 1 else []), *boxes]))
    return "".join(found)


def _rows(world: World) -> str:
    several = len({r.backbone for r in world.rows}) > 1
    boxes = [_box("row", " on ".join(key_of(r)), cut(r.method) + (f" on {r.backbone}" if several else ""))
             for r in world.rows]
    tools = '<span class="whole"><button type="button" data-do="all">All</button> ' \
            '<button type="button" data-do="none">None</button> ' \
            '<button type="button" data-do="found">Only those that the filter finds</button></span>'
    return _fields("Rows", [tools, *boxes], ' class="wide"') if len(boxes) > 1 else ""


def _seeds(seeds: Sequence[int]) -> str:
    return _fields("Seeds", [_box("seed", str(s), str(s)) for s in seeds]) if len(seeds) > 1 else ""


def _budget(rows: Sequence[Sequence[Any]]) -> str:
    known = [any(r[4 + i] is not None for r in rows) for i in range(4)]
    inside = [f'<label>{label} <input type="text" name="{name}" inputmode="decimal" placeholder="{example}" size="12">'
              "</label>" for (name, label, example), held in zip(BUDGET, known, strict=False) if held]
    inside += [_box("merge", "yes", "Merges: nothing stays at inference", False)] if known[3] else []
    return _fields("Budget", inside) if inside else ""
