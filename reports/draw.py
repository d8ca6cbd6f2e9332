"""matplotlib, made deterministic: equal input gives equal bytes, text stays text, colours have names.

A file of its own is drawn on white; inside a page the colours become CSS variables, so that light and dark are the
page's choice, and marks get a tooltip and a place in the order of the tab key.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from results.visible import visible

from .colours import BAR, FAINT, INK, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
ASIDE = "aside"  # begins the ids of what names points or lines beside the axes
SETTINGS: Any = {"svg.hashsalt": "regatta", "svg.fonttype": "none", "font.family": "sans-serif",
                 "font.sans-serif": ["DejaVu Sans"], "text.parse_math": False}  # a name with $ is a name


@contextmanager
def figure(width: float, height: float, inside: bool = False) -> Iterator[Figure]:
    """A figure in inches; `inside` a page it has no ground of its own."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), facecolor="none" if inside else "white")


def plain_axes(fig: Figure, box: tuple[float, float, float, float], grid: bool = True) -> Axes:
    """Axes with the house's lines: no box, faint grid, small ticks."""
    axes = fig.add_axes(box, facecolor="none")
    if grid:
        axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(BAR)
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return axes


def to_svg(fig: Figure, title: str) -> str:
    """The file's text without a date; matplotlib's version is the caller's to write down."""
    out = io.StringIO()
    fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return "\n".join(line.rstrip() for line in visible(out.getvalue()).split("\n")).rstrip("\n") + "\n"


def version() -> str:
    import matplotlib

    return str(matplotlib.__version__)


def escape(text: str) -> str:
    """Text on its way into HTML: nothing in it is a tag, and nothing in it is hidden."""
    return html.escape(visible(text))


def inline(svg: str, prefix: str, title: str, tips: Mapping[str, str], rows: Mapping[str, int]) -> str:
    """An SVG for the inside of a page: own ids, named colours, tooltips on the marks whose ids are in `tips`.

    A tooltip that begins with the label of a row (label -> its place) makes its mark one of that row.
    """
    body = svg[svg.index("<svg"):]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<title>.*?</title>", "", body, count=1, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}-", body)
    body = body.replace(f'id="{prefix}-{ASIDE}', f'class="{ASIDE}" id="{prefix}-{ASIDE}')
    for colour, name in NAMES.items():
        body = body.replace(colour, f"var({name})")
    for mark, text in tips.items():
        name, row = _named(text, rows)
        of = f' data-row="{row}"' if row is not None else ""
        body = body.replace(f'id="{prefix}-{mark}"', f'id="{prefix}-{mark}" class="mark" tabindex="0" role="img" '
                            f'aria-label="{escape(text)}" data-tip="{escape(text)}" '
                            f'data-name="{escape(name.lower())}"{of}', 1)
    # as large as the card allows, but no more than half as large again as drawn, nor smaller than can be read
    body = re.sub(r'width="([\d.]+)pt" height="([\d.]+)pt"', lambda m: f'style="max-width: {1.5 * float(m[1]):g}pt; '
                  f'min-width: {0.85 * float(m[1]):.0f}px{_below(body, float(m[1]), float(m[2]))}"', body, count=1)
    return body.replace("<svg ", f'<svg role="group" aria-label="{escape(title)}" ', 1)


def _below(body: str, width: float, height: float) -> str:
    """Where page.css puts the names beside the axes on a narrow screen: below them; empty where there are none."""
    lines = re.findall(rf'class="{ASIDE}"[^>]*>\s*<text [^>]*?x="([\d.]+)" y="([\d.]+)"', body)
    if not lines:
        return ""
    before = 24 if f"{ASIDE}-line" in body else 6  # points that hold a sample of a name's line
    left, tops = min(float(x) for x, _ in lines) - before, [float(y) for _, y in lines]
    room = max(tops) - min(tops) + 24  # a line above and one below
    return (f"; --wide: {100 * width / left:.1f}%; --below: {100 * room / left:.1f}%; --left: {8 - left:.1f}px; "
            f"--down: {height - min(tops) + 12:.1f}px")


def _named(tip: str, rows: Mapping[str, int]) -> tuple[str, int | None]:
    """(the words of a tooltip that a search looks at, the row that it begins with)."""
    words = re.split(r"\n| is better than ", tip, maxsplit=1)[0]
    found = [label for label in rows if words == label or words.startswith((f"{label} ", f"{label},"))]
    return words, rows[max(found, key=len)] if found else None
