"""A grid of coloured squares as SVG, written square by square: a thousand of them in a hundredth of a second.

It goes inside a page like the pictures that matplotlib draws: sizes in points, colours that `draw.inline` renames,
an id on every square for its tooltip.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .colours import INK
from .pictures import short

SIDE, TALL = 30.0, 21.6  # points: widest and usual height of a square
NUMBERS = 30  # more columns leave no room for numbers
DARK = 0.55  # share of the strongest colour beyond which numbers are white
LETTER = 4.6  # points: mean width of a letter of 8 points
TEXT = 'font-family="DejaVu Sans, sans-serif"'


def squares(values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], title: str, mark: str,
            shown: NDArray[np.float64] | None = None) -> str:
    """SVG of `values` coloured around zero; the numbers are `shown` or the values themselves; empty: no number."""
    names, heads = [short(r, 30) for r in rows], [short(c, 20) for c in columns]
    left = 12 + LETTER * max(map(len, names))
    above = 12 + 0.82 * LETTER * max(map(len, heads))  # headings stand at 55 degrees
    side = min(SIDE, max(6.0, 600 / len(columns)))
    width = left + side * len(columns) + 12 + 0.57 * LETTER * len(heads[-1])
    height = above + TALL * len(rows) + 6
    top = max(1.0, float(np.nanmax(np.abs(values))))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}pt" height="{height:.1f}pt" '
             f'viewBox="0 0 {width:.1f} {height:.1f}" version="1.1">', f" <title>{html.escape(title)}</title>"]
    for i, name in enumerate(names):
        parts.append(_words(left - 6, above + TALL * (i + 0.5), name, 8, INK, "end"))
    for j, head in enumerate(heads):
        x = left + side * (j + 0.5)
        parts.append(_words(x, above - 5, head, 8, INK, "start", f' transform="rotate(-55 {x:.1f} {above - 5:.1f})"'))
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        x, y = left + side * j, above + TALL * i
        parts.append(f' <g id="{mark}{i}x{j}"><rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{side - 1:.1f}" '
                     f'height="{TALL - 1:.1f}" fill="{shade(float(value) / top)}"/>')
        if len(columns) <= NUMBERS:
            number = round(float((values if shown is None else shown)[i, j]))  # an int has no -0
            colour = "white" if abs(value) > DARK * top else "#24292f"
            parts.append(_words(x + side / 2, y + TALL / 2, f"{number}".replace("-", "−"), 7, colour, "middle"))
        parts.append(" </g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def shade(share: float) -> str:
    """Red over white to blue, by strength; two ends that stay apart for most kinds of colour vision."""
    end = (33, 102, 172) if share > 0 else (178, 24, 43)
    weight = min(1.0, abs(share)) ** 0.8
    return "#" + "".join(f"{round(247 + (e - 247) * weight):02x}" for e in end)


def _words(x: float, y: float, text: str, size: int, colour: str, anchor: str, more: str = "") -> str:
    return f' <text x="{x:.1f}" y="{y:.1f}" {TEXT} font-size="{size}" fill="{colour}" text-anchor="{anchor}" ' \
           f'dominant-baseline="central"{more}>{html.escape(text)}</text>'

