"""Every colour that tables, pictures and pages are drawn in: on a light ground, on a dark one, and on paper."""

from __future__ import annotations

from pathlib import Path

# name -> (light, dark); a page's style and the pictures inside it use these as `var(--name)`
PAGE = {
    "ground": ("#ffffff", "#0d1117"),
    "raised": ("#f6f8fa", "#161b22"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9198a1"),
    "faint": ("#d0d7de", "#30363d"),
    "bar": ("#8c959f", "#6e7681"),
    "front": ("#b35900", "#f0a24b"),  # a Pareto point, its line and its name
    "point": ("#0550ae", "#58a6ff"),  # any other point
    "warn-ground": ("#fff3e0", "#3a2a12"),
    "warn-ink": ("#8a4500", "#ffc680"),
    "focus": ("#0969da", "#58a6ff"),
    "hover": ("#eef3f8", "#1c2430"),
    "on-mark": ("#ffffff", "#0d1117"),
}
# Pictures are drawn in the light colours; inside a page each is replaced by its variable. What is written on a mark is
# a shade off the ground's white, so that the two can be told apart there.
INK, FAINT, BAR, FRONT, POINT = (PAGE[name][0] for name in ("ink", "faint", "bar", "front", "point"))
ON_MARK = "#fefefe"
NAMES = {INK: "--ink", FAINT: "--faint", BAR: "--bar", FRONT: "--front", POINT: "--point", ON_MARK: "--on-mark"}
# eight hues that stay apart for most kinds of colour vision (Okabe and Ito 2008), then again with dashes
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#999933")


def page_style() -> str:
    """The style of a page: its colours as variables, then page.css."""
    light, dark = (" ".join(f"--{name}: {pair[side]};" for name, pair in PAGE.items()) for side in (0, 1))
    rest = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return (f":root {{ {light} }}\n"
            f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
            f':root:has(#theme [value="light"]:checked) {{ {light} }}\n'
            f':root:has(#theme [value="dark"]:checked) {{ {dark} }}\n{rest}')
