"""The raw forms of the five few-shot sets, and lists in NOAH's layout for them.

NOAH's own lists are taken where they lie (`annotations/` beside the raw data). Without them lists are drawn here by the
same shares as CoOp's (Zhou et al., IJCV 2022, whose splits NOAH uses): of Food and Flowers half of each class to train,
a fifth to val, the rest to test; of Cars and Pets a fifth of the official training images to val; Aircraft keeps its
official splits. Which images these are, and which are the shots, is by hash order: other images than in the papers,
which the folder's ORIGIN.txt and the record's hash of the lists tell.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .. import door
from ..card import Card, DataError
from ..fewshot import SEEDS, SHOTS, list_name
from ..folder import link_or_copy, publish
from ..lists import Tree, lines
from ..vtab import folders
from ..vtab.pools import Pools, place, reading
from . import fgvc

VAL_SHARE, TEST_SHARE = 0.2, 0.3


class Image(NamedTuple):
    """One raw image: the path that a list gives it, its label, and where it lies below the raw root."""

    path: str
    label: int
    source: Path


Official = dict[str, list[Image]]  # "all", or the official splits that CoOp keeps


def food101(root: Path) -> Official:
    """`meta/{train,test}.json` map each class to `class/id`; labels are the ranks of `classes.txt`."""
    base = place(root, "food-101/meta", "meta", what="Food-101's folders meta/ and images/").parent
    names = base / "meta" / "classes.txt"
    with reading(names, "a class a line"):
        label = {name: rank for rank, name in enumerate(sorted(door.text(names).split()))}
    tree, found = Tree(base / "images"), []
    for split in ("train", "test"):
        file = base / "meta" / f"{split}.json"
        with reading(file, "an object of class: [class/id]"):
            listed = json.loads(door.text(file))
            rows = [(name, str(path)) for name, paths in listed.items() for path in paths]
        for number, (name, path) in enumerate(rows, 1):
            if name not in label:
                raise DataError(f"{file}: {name!r} is no class of {names.name}")
            source = tree.file(f"{path}.jpg", f"{file}: entry {number}")
            assert source is not None
            found.append(Image(f"{path}.jpg", label[name], source))
    return {"all": found}


def aircraft(root: Path) -> Official:
    """`data/images_variant_*.txt`: id and name (with spaces, slashes); labels are rows of variants.txt."""
    home = place(root, "fgvc-aircraft-2013b/data/variants.txt", "data/variants.txt", "variants.txt",
                 what="FGVC-Aircraft's folder data/").parent  # fmt: skip
    with reading(home / "variants.txt", "a variant a line"):
        names = door.rows(home / "variants.txt")
    label = {name.strip(): rank for rank, name in enumerate(names) if name.strip()}
    tree, official = Tree(home / "images"), {}
    for split in ("train", "val", "test"):
        file, found = home / f"images_variant_{split}.txt", []
        with reading(file, "lines of 'id variant'"):
            rows = door.rows(file)
        for number, row in enumerate(rows, 1):
            identifier, _, name = row.strip().partition(" ")
            if not identifier:
                continue
            if name not in label:
                raise DataError(f"{file}:{number}: {name!r} is no variant of variants.txt")
            source = tree.file(f"{identifier}.jpg", f"{file}:{number}")
            assert source is not None
            found.append(Image(f"{identifier}.jpg", label[name], source))
        official[split] = found
    return official


def cars(root: Path) -> Official:
    """The development kit's splits; a list's path names the folder."""
    listed = fgvc.cars(root)
    first = listed["train"][0][0]
    places = (root, root / "Stanford-cars", root / "stanford_cars")
    base = next((found for found in places if (found / first).is_file()), root)
    tree, official = Tree(base), {}
    for split, rows in listed.items():
        found = []
        for path, identifier in rows:
            source = tree.file(path, f"the raw tables of Stanford Cars, {split}")
            assert source is not None
            found.append(Image(path, identifier - 1, source))
        official[split] = found
    return official


def _pools(read: Callable[[Path], Pools], root: Path) -> Official:
    found: Official = {}
    for pool, records in read(root).items():
        found[pool] = [Image(str(r.key), r.label, r.image) for r in records if isinstance(r.image, Path)]
    return found


def flowers102(root: Path) -> Official:
    """All 8,189 images: CoOp's split is unrelated to the official one."""
    return {"all": [image for images in _pools(folders.flowers, root).values() for image in images]}


def pets(root: Path) -> Official:
    return _pools(folders.pets, root)


READERS: dict[str, Callable[[Path], Official]] = {
    "food101": food101, "cars": cars, "flowers102": flowers102, "aircraft": aircraft, "pets": pets,
}  # fmt: skip


def _by_hash(images: list[Image], salt: str) -> dict[int, list[Image]]:
    """Class -> its images in hash order."""
    classes: dict[int, list[Image]] = defaultdict(list)
    for image in images:
        classes[image.label].append(image)
    return {label: sorted(found, key=lambda one: hashlib.sha256(f"fewshot|{salt}|{one.path}".encode()).digest())
            for label, found in sorted(classes.items())}


def split(official: Official) -> dict[str, list[Image]]:
    """train, val and test in CoOp's shares, class by class."""
    if "val" in official:
        return official
    whole = official.get("all", official.get("train", []))
    cut: dict[str, list[Image]] = {"train": [], "val": [], "test": list(official.get("test", []))}
    for found in _by_hash(whole, "split").values():
        tested = len(found) - round(len(found) * VAL_SHARE) - round(len(found) * (1 - VAL_SHARE - TEST_SHARE))
        held = round(len(found) * VAL_SHARE)
        start = tested if "all" in official else 0
        cut["test"] += found[:start]
        cut["val"] += found[start : start + held]
        cut["train"] += found[start + held :]
    return cut


def convert(card: Card, root: Path, out: Path) -> Path:
    """Images under images/, lists under annotations/: for every number of shots and every seed at once."""
    official = READERS[card.facts["set"]](root)
    given = root / "annotations"
    noah = given if (given / list_name("test", 0, 0)).is_file() else None
    with publish(out / card.folder) as folder:
        for images in official.values():
            for image in images:
                link_or_copy(image.source, folder / "images" / image.path)
        if noah is not None:
            (folder / "annotations").mkdir()
            for file in sorted(noah.glob("*_meta.list*")):  # Pets' own tables lie in a folder of this name too
                (folder / "annotations" / file.name).write_bytes(door.read(file, "list"))
            _check(folder)
        else:
            _draw(split(official), folder / "annotations")
        origin = "NOAH's lists" if noah is not None else "lists of our own, in CoOp's shares by hash order, not NOAH's"
        (folder / "ORIGIN.txt").write_text(f"converted from the raw form; {origin}\n")
    return out / card.folder


def _draw(cut: dict[str, list[Image]], folder: Path) -> None:
    folder.mkdir()
    for part in ("val", "test"):
        _write(folder / list_name(part, 0, 0), cut[part])
    for shots in SHOTS:
        for seed in SEEDS:
            classes = _by_hash(cut["train"], f"shots {shots} seed {seed}")
            chosen = [one for found in classes.values() for one in found[:shots]]
            _write(folder / list_name("train", shots, seed), chosen)


def _write(file: Path, images: list[Image]) -> None:
    file.write_text("".join(f"{image.path} {image.label}\n" for image in images), newline="\n")


def _check(folder: Path) -> None:
    """NOAH's lists must name images that the raw form has."""
    tree = Tree(folder / "images")
    for file in sorted((folder / "annotations").iterdir()):
        for where, path, _ in lines(file, "path label"):
            tree.file(path, where)

