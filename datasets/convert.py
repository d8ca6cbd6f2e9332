"""Raw data to the list layouts: VTAB-1k's export, VPT's split files, NOAH's lists."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

from . import registry
from .card import Card, DataError
from .folder import link_or_copy, publish
from .lists import Tree
from .raw import fewshot
from .raw.fgvc import READERS
from .vtab.cut import Codec, vtab1k

VAL_SHARE = 10  # percent of each class; VPT drew its tenth at random, so ours is another split of the same size


PREFIX = {"cub": "images/", "nabirds": "images/", "stanford_dogs": "Images/"}  # which VPT's keys leave out


def convert(name: str, root: Path, out: Path, codec: Codec = "jpeg75") -> Path:
    """The list layout of a data set from its raw form; returns the folder made. Nothing existing is overwritten."""
    card = registry.get(name)
    if card.group in ("natural", "specialized", "structured"):
        return vtab1k(card.name, root, out, codec)
    if card.name in READERS:
        return fgvc(card, Path(root), Path(out))
    if card.group == "fewshot":
        return fewshot.convert(card, Path(root), Path(out))
    raise DataError(f"{card.name} needs no conversion: it is read as it is distributed ({card.layout})")


def hold_out(items: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(train, val): a tenth of each class, at least one image, by SHA-256 of the path."""
    classes: dict[int, list[str]] = defaultdict(list)
    for path, identifier in items:
        classes[identifier].append(path)
    held: set[str] = set()
    for paths in classes.values():
        ordered = sorted(paths, key=lambda path: hashlib.sha256(f"fgvc|hold-out|{path}".encode()).digest())
        held |= set(ordered[: max(1, len(ordered) * VAL_SHARE // 100)])
    return [item for item in items if item[0] not in held], [item for item in items if item[0] in held]


def fgvc(card: Card, root: Path, out: Path) -> Path:
    """VPT's three files beside the images, which are linked hard or copied. Flowers keeps its official val split."""
    official = READERS[card.name](root)
    if "val" not in official:
        official["train"], official["val"] = hold_out(official["train"])
    first = official["train"][0][0]
    base = next((found for found in (root, *sorted(root.iterdir())) if (found / first).is_file()), None)
    if base is None:
        raise DataError(f"{root / first} is missing; expected there: the images that the tables name")
    tree = Tree(base)
    with publish(out / card.folder) as folder:
        for split, items in official.items():
            for path, _ in items:
                source = tree.file(path, f"the raw tables of {card.title}")
                assert source is not None
                link_or_copy(source, folder / path)
            listed = {path.removeprefix(PREFIX.get(card.name, "")): identifier for path, identifier in items}
            (folder / f"{split}.json").write_text(json.dumps(listed) + "\n")
        ours = "" if card.name == "flowers_fgvc" else "; val is our own tenth of train, by hash order, not VPT's"
        (folder / "ORIGIN.txt").write_text(f"converted from the raw tables{ours}\n")
    return out / card.folder
