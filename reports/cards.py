"""What the parts of a method are, in lines: as a suite's own file tells it, else as docs/methods.md does.

Both follow from the methods' files; suites that were written before they told it lean on the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from results.store import ROOT
from results.suites import SuiteView

DOCS = ROOT.parent / "docs" / "methods.md"


def cards_for(suite: SuiteView) -> Mapping[str, Sequence[str]]:
    """Part -> its lines."""
    return suite.about or cards_of(DOCS)


def parts_of(method: str) -> list[str]:
    """`lora(rank=4)+pace` -> `lora`, `pace`; a plus within brackets joins nothing."""
    return [part.partition("(")[0] for part in re.split(r"\+(?![^()]*\))", method)]


@cache
def cards_of(docs: Path) -> dict[str, list[str]]:
    """Part -> the lines of its card in docs/methods.md; nothing where that is absent."""
    found: dict[str, list[str]] = {}
    if not docs.is_file():
        return found
    for chapter in re.split(r"^##+ ", docs.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, rest = chapter.partition("\n")
        lines = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).strip() for line in rest.splitlines()
                 if line.strip() and not line.startswith("#")]
        found[name.strip()] = [told for line in lines if (told := _option(line) if line[0] == "|" else
                                                          line.replace("`", ""))]
    return found


def _option(line: str) -> str:
    """A line of the table of options as a sentence; nothing for its head and its rule."""
    cells = [cell.strip().strip("`").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    if len(cells) != 4 or cells[0] == "option" or set(cells[0]) <= set("-:"):
        return ""
    name, default, allowed, meaning = cells
    return f"Option {name} = {default} ({allowed})" + (f": {meaning}" if meaning else "")
