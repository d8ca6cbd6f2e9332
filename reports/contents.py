"""The first page of a folder of pages: every suite with what it holds, on one table. No script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.suites import SuiteView

from .colours import page_style
from .draw import escape

NAME = "index.html"
HEADS = ("Suite", "Data", "Methods", "Data sets", "Runs", "Records")


def contents(suites: Sequence[SuiteView], by_run: Mapping[str, int], hashes: Mapping[str, str],
          unreadable: Sequence[str] = ()) -> str:
    """HTML; `hashes` holds the records' hash of every suite that has a page, `unreadable` names records."""
    style = page_style()
    rows = "\n".join(_row(suite, by_run, hashes.get(suite.name, "")) for suite in suites)
    heads = "".join(f'<th scope="col"{_number(i)}>{name}</th>' for i, name in enumerate(HEADS))
    missing = "".join(f"<li>{escape(text)}</li>" for text in unreadable)
    told = f"<h2>Records that could not be read</h2>\n<ul>{missing}</ul>\n" if missing else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Regatta: suites</title>
<style>
{style}
.front th, .front td {{ padding: 7px 0.7rem; white-space: normal; }}
.front thead th {{ padding: 7px 0.7rem; font-weight: 600; }}</style>
</head>
<body>
<h1>Suites</h1>
<p class="soft">Each page has sortable tables, intervals and pictures; the same as one text: LEADERBOARD.md.</p>
<div class="scroll front stack"><table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div>
{told}</body>
</html>
"""


def _row(suite: SuiteView, by_run: Mapping[str, int], records: str) -> str:
    possible = [e for e in suite.entries if not e.refused]
    present = sum(e.run_id in by_run for e in possible)
    kinds = [word for word, standin in (("stand-in", True), ("real", False))
             if any(c.standin is standin for c in suite.columns)]
    name = f'<a href="{escape(suite.name)}.html">{escape(suite.title)}</a>'
    title = name if records else f"{escape(suite.title)} (not built: a record could not be read)"
    cells = (" and ".join(kinds), len({r.method for r in suite.rows}), len(suite.columns),
             f"{present} of {len(possible)}", records)
    return f'<tr><th scope="row">{title}</th>' + "".join(
        f'<td{_number(i)} data-head="{HEADS[i]}">{escape(str(cell))}</td>' for i, cell in enumerate(cells, 1)) + "</tr>"


def _number(place: int) -> str:
    return ' class="num"' if 1 < place < 5 else ""
