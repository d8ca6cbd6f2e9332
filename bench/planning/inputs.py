"""What runs read: whether the data and a fitting backbone are there, and what names the images. No torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from datasets import registry
from datasets.card import Card, DataError
from datasets.identity import look
from datasets.packages import package_of

from .. import checkout

LISTED, PARTIAL = "lists:", "partial:"  # real data as promised; with other counts, classes or images: RunSpec.partial


@cache
def _tell(text: str) -> None:
    """Once in a program."""
    print(f"regatta: {text}", file=sys.stderr)


def present(cards: list[Card], also_test: Mapping[str, tuple[str, ...]], root: Path) -> list[Card]:
    """The sets of a suite without those whose packages are not here, which are told; all of them where none would stay.

    A set goes with its further test sets: without them its run would be another one.
    """
    absent: dict[str, list[str]] = {}
    kept = []
    for card in cards:
        needed = [package_of(c) for c in (card, *map(registry.get, also_test.get(card.name, ())))]
        missing = [p for p in needed if p and p.installed() is None and not (root / p.folder).is_dir()]
        kept += [] if missing else [card]
        for package in missing:
            absent.setdefault(package.command, []).append(card.name)
    if kept:
        for command, names in absent.items():
            _tell(f"{', '.join(dict.fromkeys(names))} left out, not installed; `{command}` brings "
                  f"{'it' if len(names) == 1 else 'them'}")
    return kept or cards


def data_problems(cards: list[Card], root: Path, given: str) -> list[str]:
    """What is missing of the real data, one message for all data sets."""
    needed = [c for c in cards if c.group != "real" and package_of(c) is None and c.home is None]
    if not needed:
        return []
    if not given:
        return [f"real data is needed for {', '.join(c.name for c in needed[:5])}"
                f"{' ...' if len(needed) > 5 else ''}: say where it lies with --root FOLDER, or take "
                "generated miniatures with --data standin (for make DATA=FOLDER, DATA=standin)"]
    try:
        if root.is_dir():
            return []
    except OSError as error:  # a name too long, a folder that may not be looked into
        return [f"the data folder {given!r} cannot be read: {error.strerror}"]
    return [f"the data folder {given!r} does not exist; it should hold "
            + "; ".join(f"{c.folder}/ ({c.layout})" for c in needed[:3])
            + (f"; and {len(needed) - 3} more" if len(needed) > 3 else "")]


def data_id(card: Card, root: Path, standins: bool, partial: bool, problems: list[str]) -> str:
    """What names the images: the generator's hash for stand-ins, the hash of lists and files for real data."""
    from datasets.standins import standin_hash

    try:
        if card.group == "real" and not card.folder:
            return f"shipped:{card.name}"
        if standins:
            return f"standin:{standin_hash(card.name)}"
        found = look(card, card.place(root), checkout.CACHE.parent / "lists")
    except DataError as error:
        problems.append(str(error))
        return ""
    if found.broken and not partial:
        problems.append(f"{card.name} is not what its card promises: {'; '.join(found.broken)}; --partial runs what is "
                        "there and marks it wherever it is shown")
    return (PARTIAL if found.broken else LISTED) + found.hash
