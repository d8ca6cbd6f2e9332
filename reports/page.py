"""One self-contained HTML page per suite: sortable and filterable tables, tooltips, pictures. No network, ever.

Everything that comes from records is escaped here, once, on its way into HTML; the script moves it as text. A content
policy with the script's hash keeps the browser from running or loading anything else.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from results.spoken import many, word
from results.suites import SuiteView

from . import chooser, draw, fields
from .colours import page_style
from .draw import escape
from .latex import ESCAPES
from .latex import SIGNS as LATEX
from .pictures import label_of
from .plots import Plot
from .table import Field, Table, cut
from .world import World, banner, key_of

HERE = Path(__file__).parent
_TAKE = " ".join(f'<button type="button" data-do="{what}">{words}</button>' for what, words in (
    ("markdown", "Copy markdown"), ("latex", "Copy LaTeX"), ("csv", "Download CSV")))
_NUMBER = ' class="num"'
PROSE = 30  # letters from which words in a table may be broken into lines
SCRIPTS = ("ranks.js", "drawn.js", "taken.js", "page.js")


@dataclass
class Section:
    """One world of a page."""

    world: World
    tables: list[Table]
    plots: list[Plot] = field(default_factory=list)
    learning: dict[str, list[Plot]] = field(default_factory=dict)  # quantity -> a picture for each data set
    left_out: str = ""  # what is not drawn, and why
    facts: dict[str, Any] = field(default_factory=dict)  # choice.facts, with what is told of rows and runs


def page(suite: SuiteView, records: str, present: int, sections: Sequence[Section], home: str = "",
         more: str = "") -> str:
    """The whole file; `home` is a page that leads to all suites, seen from this one; `more` is HTML for its end."""
    script = '"use strict";\n' + "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = page_style()
    policy = "; ".join(["default-src 'none'", f"script-src '{_digest(script)}'", "style-src 'unsafe-inline'",
                        "img-src data:", "base-uri 'none'", "form-action 'none'"])
    possible = sum(not e.refused for e in suite.entries)
    recorded = f"{present} of {many(possible, 'run')} {word(present, 'has', 'have')} a record"
    themes = "".join(f'<option value="{name}">{name}</option>' for name in ("auto", "light", "dark"))
    links = " · ".join(f'<a href="#{s.world.key}">{escape(_short(s.world))}</a>' for s in sections)
    links = f'<a href="{escape(home)}">All suites</a> · {links}' if home else links
    body = "\n".join(_section(s) for s in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Regatta; records {records}; matplotlib {draw.version()}">
<title>{escape(suite.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<div>
<h1>{escape(suite.title)}</h1>
<p>{escape(suite.note)}</p>
<p class="soft">Suite <code>{escape(suite.name)}</code>: {recorded}.
Protocol: {escape(suite.protocol or "as recorded")}. Records <code>{records}</code>.</p>
<nav class="soft" aria-label="Sections">{links}</nav>
</div>
<label>Theme <select id="theme" autocomplete="off">{themes}</select></label>
</header>
<main>
{body}
{more}</main>
<div id="tip" role="tooltip" hidden></div>
<dialog id="box" aria-labelledby="box-title"><h2 id="box-title" tabindex="-1" autofocus></h2><div></div>
<form method="dialog"><button>Close</button></form></dialog>
<p id="said" class="soft" role="status"></p>
<script id="signs" type="application/json">{_json(ESCAPES | LATEX)}</script>
<script>{script}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode()


def _short(world: World) -> str:
    return "Stand-in data" if world.standin else "Real data"


def _section(section: Section) -> str:
    world, key = section.world, section.world.key
    tabs, panels = [], []
    for i, table in enumerate(section.tables):
        name = f"{key}-panel{i}"
        tabs.append(f'<button role="tab" type="button" id="{name}-tab" aria-controls="{name}" '
                    f'aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}">'
                    f"{escape(_tab(table))}</button>")
        panels.append(_panel(section, table, name, i == 0))
    css = ' class="warn"' if world.standin or world.partial else ""
    return f"""<section class="world" id="{key}" aria-labelledby="{key}-title">
<h2 id="{key}-title"><span{css}>{escape(banner(world))}</span></h2>
<div class="tools">
<label>Filter tables and pictures
<input type="search" name="words" placeholder="method or backbone" autocomplete="off" spellcheck="false"></label>
<label><input type="checkbox" name="complete" value="yes"> complete rows only</label>
<label><input type="checkbox" name="apart" value="yes"> data sets as points below the best</label>
<span class="count soft" role="status"></span>
</div>
{chooser.chooser(world, section.facts)}
<div class="said" role="status">{chooser.SENTENCES}</div>
<input type="text" name="tab" value="0" hidden>
<div role="tablist" aria-label="Tables">
{"".join(tabs)}
</div>
{"".join(panels)}
{_live(section)}
{_pictures(section)}
<script type="application/json">{_json(section.facts)}</script>
</section>"""


def _json(facts: Mapping[str, Any]) -> str:
    """No sign in it ends the element that holds it."""
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _live(section: Section) -> str:
    """Places of what the script draws for a choice; it fills in what is missing."""
    key, heads = section.world.key, ("Data set", "", "", "Difference, points", "p (Holm)", "The first is")
    cells = "".join(f'<th scope="col"{_NUMBER if 0 < i < 5 else ""}><span>{h}</span></th>' for i, h in enumerate(heads))
    return f"""<div class="plots live">
<figure class="full" data-live="pair" hidden><h3>Two rows, data set by data set</h3><div class="picture"></div>
<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody></tbody></table></div>
<figcaption class="soft" data-file="{key}-pair">Percent; intervals of 95 % over test items and seeds, not corrected for
their number; p by Holm's rule over these data sets; (runs): of these runs, over test items alone. {_TAKE}
{_save(f"{key}-pair")}</figcaption></figure>
<figure class="full" data-live="ties" hidden><h3>Critical differences</h3><div class="picture"></div>
<figcaption class="soft">Dots are means; rows that share a bar are not told apart (paired, Holm, 5 %), as in the column
Tie. {_save(f"{key}-ties")}</figcaption></figure></div>"""


def _save(name: str) -> str:
    return f'<button type="button" data-do="svg" data-file="{escape(name)}">Download SVG</button>'


def _tab(table: Table) -> str:
    """`Accuracy, Natural (STAND-IN DATA, ...)` -> `Accuracy, Natural`."""
    return table.title.split(" (")[0]


def _panel(section: Section, table: Table, name: str, first: bool) -> str:
    world = section.world
    heads = "".join(_head(label, i in table.numeric, any(line[i].value is not None for line in table.body),
                          _role(world, table, i)) for i, label in enumerate(table.header))
    rows, place = [], {key_of(row): i for i, row in enumerate(world.rows)}
    number = name.rpartition("panel")[2]
    for i, line in enumerate(table.body):
        attributes, head = f' data-order="{i}"', _text(line[0])
        if table.rows:
            row = table.rows[i]
            attributes += f' data-row="{place[key_of(row)]}"'
            pair = f'<input type="checkbox" name="pair" value="{escape(" on ".join(key_of(row)))}" ' \
                   f'aria-label="Compare {escape(row.method)} with another row">' if first else ""
            head = f'{pair}<button type="button" class="name" data-do="about">{head}</button>'
            attributes += f' data-name="{escape(f"{row.method} {row.backbone}".lower())}"'
        else:  # the words that it begins with: a method, its backbone, a paper
            words = [f.text for j, f in enumerate(line) if j not in table.numeric][:3]
            attributes += f' data-name="{escape(" ".join(words).lower())}"'
        hints = {j: fields.hint(world.grid, table.rows[i], column) for j, column in table.sets.items()}
        cells = "".join(_cell(f, j in table.numeric, i == 0 and j == 1, hints.get(j, f.hint))
                        for j, f in enumerate(line) if j)
        rows.append(f'<tr{attributes}><th scope="row">{head}</th>{cells}</tr>')
    hidden = "" if first else " hidden"
    return f"""<div role="tabpanel" id="{name}" aria-labelledby="{name}-tab" data-first="{int(first)}"{hidden}>
<p class="caption">{escape(table.title)}. {escape(table.caption)}</p>
<div class="tools" data-file="{escape(table.key)}">{chooser.columns(table)} {_TAKE}
<input type="text" name="sort{number}" hidden></div>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></div>
{_list(table.legend)}{_list(table.notes)}</div>
"""


def _role(world: World, table: Table, place: int) -> str:
    """What the script recomputes in a column, and of which data sets (by their places in the world)."""
    order = {c: d for d, c in enumerate(world.columns)}
    role = table.roles.get(place, "")
    parts = [[order.get(c, -1) for c in part] for part in table.means.get(place, ())]
    if any(-1 in part for part in parts):
        return ' data-role="aside"'
    of = f' data-parts="{escape(json.dumps(parts))}"' if parts and role == "mean" else ""
    one = f' data-set="{order[table.sets[place]]}"' if role != "mean" and table.sets.get(place) in order else ""
    return (f' data-role="{role}"' if role else "") + of + one


def _head(label: str, numeric: bool, valued: bool, role: str) -> str:
    # of numbers, the largest first, but for ranks; words with a number behind them sort by it
    first = "down" if (numeric or valued) and label not in ("Rank", "Below the best") else "up"
    kind = "number" if numeric or valued else "text"
    css = ' class="num"' if numeric else ""
    return f'<th scope="col"{css} aria-sort="none" data-first="{first}" data-kind="{kind}"{role}>' \
           f'<button type="button">{escape(label)}</button></th>'


def _cell(cell: Field, numeric: bool, entry: bool, hint: str) -> str:
    classes = ["num"] if numeric else []
    if "†" in cell.text:
        classes.append("mark-bad")
    elif cell.mark in ("missing", "refused", "unknown", "incomplete"):
        classes.append("mark-missing")
    if cell.value is None and not numeric and len(cell.text) > PROSE:
        classes.append("prose")
    css = f' class="{" ".join(classes)}"' if classes else ""
    value = f' data-value="{cell.value:.10g}"' if cell.value is not None else ""
    tip = f' data-tip="{escape(hint)}"' if hint else ""
    return f'<td{css}{value}{tip} tabindex="{0 if entry else -1}">{_text(cell)}</td>'


def _text(cell: Field) -> str:
    if not cell.code:
        return escape(cell.text) + escape(cell.tail)
    shown = cut(cell.text)
    whole = f' data-tip="{escape(cell.text)}"' if shown != cell.text else ""
    return f"<code{whole}>{escape(shown)}</code>{escape(cell.tail)}"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="legend">{items}</ul>\n' if items else ""


def _pictures(section: Section) -> str:
    key = section.world.key
    rows = {label_of(section.world, row): i for i, row in enumerate(section.world.rows)}
    figures = [_figure(plot, f"{key}-{plot.key}", rows) for plot in section.plots]
    figures += [_chosen(key, quantity, drawn, rows) for quantity, drawn in section.learning.items()]
    note = f'<p class="soft">{escape(section.left_out)}</p>' if section.left_out else ""
    return f'<div class="plots">{"".join(figures)}</div>{note}' if figures or note else ""


def _chosen(key: str, quantity: str, drawn: Sequence[Plot], rows: Mapping[str, int]) -> str:
    """Pictures of which one is shown at a time."""
    options = "".join(f'<option value="{i}">{escape(p.title.partition(" on ")[2])}</option>'
                      for i, p in enumerate(drawn))
    shown = "".join(f'<div class="picture" data-picture="{i}"{"" if i == 0 else " hidden"}>'
                    f'{draw.inline(p.svg, f"{key}-{p.key}", p.title, p.tips, rows)}</div>' for i, p in enumerate(drawn))
    probe = quantity.startswith("probe.")
    title = f"Along training: {quantity.removeprefix('probe.')}" if probe else "Learning curves"
    words = ("Measured on a batch of validation data, by runs that had one." if probe
             else "Training loss of every run of one data set.")
    pick = f'<label>Data set <select data-pictures autocomplete="off">{options}</select></label>'
    return f'<figure><h3>{escape(title)}</h3>{pick}{shown}<figcaption class="soft">{words} ' \
           f'{_save(f"{key}-{quantity}")}</figcaption></figure>'


def _figure(plot: Plot, prefix: str, rows: Mapping[str, int]) -> str:
    css = ' class="full"' if plot.key == "heat" else ""
    words = f'<figcaption class="soft">{escape(plot.words)} {_save(plot.key)}</figcaption>'
    return f'<figure{css}><h3>{escape(plot.title)}</h3><div class="picture">' \
           f'{draw.inline(plot.svg, prefix, plot.title, plot.tips, rows)}</div>{words}</figure>'
