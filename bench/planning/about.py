"""What the parts of a suite's methods are, in lines: what a table's readers see when they open a method's name.

A suite's file carries them, since reports know no method, and parts may come from folders outside the checkout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from methods.catalog import Option, PartInfo
from methods.grammar import MethodError, parse


def about(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Part -> its lines, of every part of these methods, by name: what it is, its paper, its price, its options.

    A row that was made with a part which is no longer here stays in its table; of that part nothing is known.
    """
    parts = {part.name: part for text in texts for part in _parts(text)}
    return {name: lines_of(parts[name]) for name in sorted(parts)}


def _parts(text: str) -> Iterator[PartInfo]:
    try:
        yield from (part.info for part in parse(text).parts)
    except MethodError:
        return


def lines_of(part: PartInfo) -> tuple[str, ...]:
    """One part in plain sentences; an option is a line with its default, what it may be, and what it means."""
    facts = part.facts
    found = [part.doc, f"Paper: {facts['paper']}." if facts.get("paper") else "No paper: ours."]
    found += [f"Ours, not the paper's: {facts['ours']}."] if facts.get("ours") else []
    found += [f"Trained weights without the head: {facts['formula']} (d width, L blocks)."] if facts.get("formula") \
        else []
    if part.kind == "adapter":
        found.append("Merges into the backbone." if facts.get("mergeable") else "Stays beside the backbone.")
    return (*found, *map(_option, part.options))


def _option(option: Option) -> str:
    allowed = ", ".join(map(repr, option.choices)) or f"{option.type} {option.range}".strip()
    return f"Option {option.name} = {option.default!r} ({allowed})" + (f": {option.doc}" if option.doc else "")
