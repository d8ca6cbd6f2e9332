"""Stand-ins in raw formats: what a person would have downloaded, in miniature. All together stay below 15 MB."""

from __future__ import annotations

import json
from pathlib import Path

from ... import registry
from ...card import DataError
from ...folder import MARK, locked, staged
from ..writer import standin_hash
from .fine import FINE_WRITERS
from .vtab import VTAB_WRITERS

WRITERS = VTAB_WRITERS | FINE_WRITERS  # data set or few-shot set -> folder, writer


def write_raw(name: str, root: Path, seed: int = 0) -> Path:
    """Write a raw stand-in under the root unless one lies there; returns its folder, the raw root of the readers.

    The sets under shift and DomainNet are read as they are distributed, so that theirs are those of `standins.write`.
    """
    card = registry.get(name)
    key = card.facts.get("set", card.name)  # the cards of a few-shot set share its raw form
    if key not in WRITERS:
        raise DataError(f"{card.name} has no raw stand-in; there are: {', '.join(WRITERS)}")
    folder, writer = WRITERS[key]
    target = Path(root) / folder
    with locked(target):
        if (target / MARK).is_file():
            return target
        if target.exists():
            raise DataError(f"{target} holds data that is no stand-in; it stays as it is, choose another root")
        with staged(target) as new:
            writer(new, seed)
            mark = {"name": folder, "raw": True, "hash": standin_hash(card.name, seed), "seed": seed}
            (new / MARK).write_text(json.dumps(mark) + "\n")
    return target
