"""What is wrong with a data set as it lies on disk: every problem at once, each with its path and what was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import NamedTuple

from . import door, registry
from .card import Card, DataError, Item
from .door import sha256_of
from .folder import MANIFEST, MARK, compare_manifest
from .images import name_of, open_rgb
from .vtab.export import interleave

Lister = Callable[..., Sequence[Item]]  # a card's lister, some of which also take `problems`


class Problem(NamedTuple):
    """One finding; the text names the file and says what was expected."""

    dataset: str
    text: str

    def __str__(self) -> str:
        return f"{self.dataset}: {self.text}"


def folder_of(card: Card, root: Path) -> Path | None:
    """Where the set lies: the card's folder, or the one a reader found under another name in use."""
    if not card.folder:
        return None
    if (root / card.folder).is_dir():
        return root / card.folder
    others = getattr(card.items, "keywords", {}).get("folders", ())
    return next((root / name for name in others if (root / name).is_dir()), root / card.folder)


def _sizes(card: Card, standin: bool) -> dict[str, int]:
    """Images per split: the card's promise, or the stand-in's."""
    if not standin:
        return dict(card.splits)
    from .standins import SHARED_GROUPS
    from .standins.task import SIZES

    if card.group in SHARED_GROUPS:  # theirs differ from card to card; the mark and the manifest vouch for them
        return {}
    return SIZES | {"trainval": SIZES["train"] + SIZES["val"]}


def _list_all(card: Card, root: Path, found: list[str]) -> dict[str, Sequence[Item]]:
    """Every split that can be listed; what cannot is told."""
    lister: Lister = card.items
    all_at_once = _notes_problems(lister)
    listed: dict[str, Sequence[Item]] = {}
    for split in card.splits:
        told: list[str] = []
        try:
            listed[split] = lister(root, split, problems=told) if all_at_once else lister(root, split)
        except DataError as error:
            told.append(str(error))
        found += [text for text in told if text not in found]
    return listed


def _notes_problems(lister: Lister) -> bool:
    """Whether a lister can go on after a fault; `(root, split)` is all that a card promises of it."""
    return "problems" in signature(lister).parameters


def _check_relations(card: Card, listed: dict[str, Sequence[Item]], found: list[str]) -> None:
    """What the splits must be to one another."""
    for split, items in listed.items():
        twice = [item for item, times in Counter(item.image for item in items).items() if times > 1]
        if twice:
            found.append(f"{split}: {len(twice)} images stand twice or more, first {name_of(twice[0])}")
    test = {item.image for item in listed.get("test", ())}
    shared = [item.image for item in listed.get("trainval", ()) if item.image in test]
    if shared:
        found.append(f"{name_of(shared[0])} is in trainval and in test, as are {len(shared) - 1} more")
    if card.group in ("natural", "specialized", "structured") and {"train", "val", "trainval"} <= set(listed):
        expected = interleave([i.label for i in listed["train"]], [i.label for i in listed["val"]])
        actual = [item.label for item in listed["trainval"]]
        if expected != actual:
            at = next((i for i, pair in enumerate(zip(expected, actual, strict=False)) if pair[0] != pair[1]), None)
            where = "its length" if at is None else f"line {at + 1}"
            found.append(f"train800val200.txt is not train800 and val200 in blocks of 16: {where} differs")


def check(
    name: str, root: Path, images: bool = True, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """All problems of a data set under the data root; an empty list means that every promise holds.

    With `images`, every picture is decoded, unless a manifest has already vouched for its bytes.
    """
    card, root = registry.get(name), Path(root)
    found: list[str] = []
    base = folder_of(card, root)
    standin = base is not None and (base / MARK).is_file()
    listed = _list_all(card, root, found)
    for split, size in _sizes(card, standin).items():
        if split in listed and len(listed[split]) != size:
            found.append(f"{split} has {len(listed[split])} images; expected {size}")
    _check_relations(card, listed, found)
    classes = {item.label for items in listed.values() for item in items}
    if (
        listed
        and not standin
        and card.group in ("fgvc", "imagenet", "fewshot", "real", "other")
        and len(classes) != card.classes
    ):
        found.append(f"{len(classes)} classes have images; expected {card.classes}")
    compared: list[str] = []
    if base is not None:
        door.admit(base)
        if standin:
            from .standins import is_fresh

            if not is_fresh(card.name, root):
                found.append(
                    f"{base} is a stand-in that is not whole, or of an older generator; expected the present one"
                )
        compared = compare_manifest(base)
        found += compared
        for url, sha256, size in card.files:
            file = base / url.rpartition("/")[2]
            if file.is_file() and (file.stat().st_size != size or sha256_of(file) != sha256):
                found.append(f"{file} has other content; expected {size} bytes, sha256 {sha256}")
    vouched = base is not None and (base / MANIFEST).is_file() and not compared
    if images and not vouched:
        found += _decode({item.image: None for items in listed.values() for item in items}, progress)
    return [Problem(card.name, text) for text in found]


def _decode(pictures: dict[object, None], progress: Callable[[int, int], None] | None) -> list[str]:
    """The pictures that cannot be read."""
    found = []
    for done, image in enumerate(pictures, 1):
        try:
            open_rgb(image)  # type: ignore[arg-type]
        except DataError as error:
            found.append(str(error))
        if progress:
            progress(done, len(pictures))
    return found
