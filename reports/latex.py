"""A table as LaTeX that a paper takes as it is: \\input{...} with booktabs and graphicx.

It has a label, is never wider than its line, and sets the best number of a column of accuracies bold and the second
underlined. `\\newcommand{\\regattafloat}{sidewaystable}` before it turns it on its side (package rotating);
`\\newcommand{\\regattafloat}{table*}` sets it over two columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from results.visible import visible

from .table import Field, Table, cut

SIGNS = {"±": r"$\pm$", "–": "--", "†": r"$\dagger$", "§": r"\S{}", "¶": r"\P{}", "°": r"$^\circ$", "×": r"$\times$",
         "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "★": r"$\star$", "◊": r"$\diamond$", "→": r"$\to$", "µ": r"$\mu$",
         "‡": r"$\ddagger$", "·": r"$\cdot$", "…": r"\dots{}", "≈": r"$\approx$", "∞": r"$\infty$"}
ESCAPES = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
           "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
           ">": r"\textgreater{}", "[": "{[}", "]": "{]}"}  # a bracket behind \\ would be a length
COUNTS = ("Rank", "Tie", "Done", "At chance")  # columns of an accuracy table that hold no accuracy
HIGHER = re.compile(r"(standin|real)-(accuracy|adapting)")  # tables in which the largest number is the best


def latex(table: Table, records: str, suite: str = "", apart: Collection[int] = ()) -> str:
    """A float with caption and label `tab:<suite>-<table>`; lines in `apart` are never best (another protocol)."""
    marks = _marks(table, apart)
    align = "".join("r" if i in table.numeric else "l" for i in range(len(table.header)))
    lines = [" & ".join(map(tex, table.header)) + r" \\", r"\midrule"]
    lines += [" & ".join(_cell(f, marks.get((i, j), "")) for j, f in enumerate(row)) + r" \\"
              for i, row in enumerate(table.body)]
    words = "; ".join(table.legend)
    told = " Best in bold, second underlined." if marks else ""
    caption = f"{table.title}. {table.caption}" + (f" {words}." if words else "") + told
    name = re.sub(r"[^A-Za-z0-9-]+", "-", f"{suite}-{table.key}".strip("-"))
    return "\n".join([
        f"% {' '.join(visible(table.title).split())}; records {records}".translate({ord(c): None for c in SIGNS}),
        r"\providecommand{\regattafloat}{table}", r"\begin{\regattafloat}", r"\centering",
        rf"\caption{{{tex(caption)}}}", rf"\label{{tab:{name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", rf"\begin{{tabular}}{{{align}}}",
        r"\toprule", *lines, r"\bottomrule", r"\end{tabular}}", r"\end{\regattafloat}", ""])


def _cell(field: Field, mark: str) -> str:
    text = tex(cut(field.text) + field.tail)
    return rf"\{mark}{{{text}}}" if mark else text


def _marks(table: Table, apart: Collection[int]) -> dict[tuple[int, int], str]:
    """(line, column) -> "textbf" or "underline", by the numbers as they are printed: equal ones share a place."""
    found: dict[tuple[int, int], str] = {}
    if not HIGHER.match(table.key):
        return found
    for j in table.numeric:
        head = table.header[j]
        if head in COUNTS or head.startswith(("Against", "Gain")):
            continue
        printed = {i: round(f.value, 1) for i, row in enumerate(table.body) if i not in apart
                   for f in (row[j],) if f.value is not None and not f.mark.startswith("partial")}
        places: Sequence[float] = sorted(set(printed.values()), reverse=True)[:2]
        if len(printed) > 1:
            found |= {(i, j): ("textbf", "underline")[places.index(v)] for i, v in printed.items() if v in places}
    return found


def tex(text: str) -> str:
    """Words as LaTeX in plain ASCII; a sign that has no command is left out."""
    shown = "".join(ESCAPES.get(c, c) for c in visible(text))
    for sign, command in SIGNS.items():
        shown = shown.replace(sign, command)
    return "".join(c if c.isascii() else "?" for c in shown)
