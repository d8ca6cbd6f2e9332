"""A plain page of the static site: its head, its tables, its lists; one style file for all, no script, no network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath

from .colours import page_style
from .draw import escape

STYLE = "style.css"
POLICY = "default-src 'none'; style-src 'self' file:; base-uri 'none'; form-action 'none'"
MORE = """
.plain { max-width: 75rem; }
p, li, h1 { overflow-wrap: anywhere; }
.plain th, .plain td { white-space: normal; overflow-wrap: break-word; }
.plain thead th { padding: 7px 0.7rem; font-weight: 600; }
.plain tbody th { min-width: 9rem; }
.facts th { width: min(15rem, 40%); }
.facts td { overflow-wrap: anywhere; }
td > a { margin-right: 0.35rem; }
.plain td { min-width: 4.5rem; }
.plain td:has(> a) { min-width: 9rem; }
.plain:not(.facts) td:last-child > a { white-space: nowrap; }
nav a { white-space: nowrap; }
"""


@dataclass(frozen=True)
class Link:
    """Words that lead to a page of the site, named from its root; without a page they are words alone."""

    words: str
    page: str = ""


@dataclass(frozen=True)
class Several:
    """Links beside each other in one cell."""

    links: tuple[Link, ...]


Cell = str | Link | Several


def style() -> str:
    """The whole of the style file."""
    return page_style() + MORE


def slug(text: str) -> str:
    """A name for a file on any system; different texts have different ones."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")[:60]
    return plain if plain == text else f"{plain or 'x'}-{sha256(text.encode()).hexdigest()[:8]}"


def page(at: str, title: str, parts: Sequence[str], intro: str = "") -> str:
    """The page that will lie `at` a path from the site's root."""
    up = inline(at, Link("All suites, methods and data sets", "index.html"))
    home = "" if at == "index.html" else f'<nav class="soft">{up}</nav>'
    words = f'<p class="soft">{escape(intro)}</p>' if intro else ""
    body = "\n".join(part for part in parts if part)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="{relative(at, STYLE)}">
</head>
<body>
{home}
<h1>{escape(title)}</h1>
{words}
<main>
{body}
</main>
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """A heading with what stands below it; nothing where there is nothing below."""
    found = [part for part in parts if part]
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *found, "</section>"]) if found else ""


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def listed(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(at: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The first cell of a row is its heading; nothing where there is no row."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "\n".join('<tr><th scope="row">' + inline(at, row[0]) + "</th>"
                     + "".join(f'<td data-head="{escape(head)}">{inline(at, cell)}</td>'
                               for head, cell in zip(heads[1:], row[1:], strict=True)) + "</tr>" for row in rows)
    return (f'<div class="scroll plain stack"><table><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>'
            "</div>" if body else "")


def facts(at: str, pairs: Iterable[tuple[str, Cell]]) -> str:
    """Names with what they are."""
    body = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{inline(at, value)}</td></tr>'
                     for name, value in pairs if value != "")
    return f'<div class="scroll plain facts"><table><tbody>\n{body}\n</tbody></table></div>' if body else ""


def inline(at: str, cell: Cell) -> str:
    """A cell's HTML on the page `at`."""
    if isinstance(cell, Several):
        return " ".join(inline(at, link) for link in cell.links)
    if isinstance(cell, Link):
        words = escape(cell.words)
        return f'<a href="{escape(relative(at, cell.page))}">{words}</a>' if cell.page else words
    return escape(cell)


def relative(at: str, page: str) -> str:
    """From one page of the site to another."""
    return os.path.relpath(page, PurePosixPath(at).parent).replace(os.sep, "/")
