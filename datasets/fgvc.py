"""Five fine-grained sets under VPT's split files (Jia et al., ECCV 2022, arXiv:2203.12119).

`<folder>/{train,val,test}.json` are one object each, `{"relative/path.jpg": class id}`. VPT ranks the ids of each
file by itself, which is right only if every class occurs in all three; here the rank is taken over their union and
files that would disagree are refused.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .card import Card, DataError, Item
from .lists import Problems, Tree, complain, find_folder, text_of
from .registry import register

LAYOUT = "VPT's split files {train,val,test}.json beside the images they name"
FILES = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON keeps the last of two equal keys in silence; a list of images must not."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the path {key!r} stands twice")
        found[key] = value
    return found


def read_json(file: Path) -> dict[str, int]:
    """Relative path -> class id, in file order; ids are whole numbers (or their text)."""
    try:
        listed = json.loads(text_of(file, LAYOUT), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not the expected JSON object: {error}") from None
    if not isinstance(listed, dict) or not listed:
        raise DataError(f"{file} must hold one JSON object of paths and class ids, and hold at least one")
    ids: dict[str, int] = {}
    for number, (path, value) in enumerate(listed.items(), 1):
        text = str(value)
        if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise DataError(f"{file}: entry {number}, {path!r}: the class id is {value!r}, not a whole number")
        ids[path] = int(text)
    return ids


def ranks(base: Path, classes: int) -> tuple[dict[str, dict[str, int]], dict[int, int]]:
    """The three files, and the label of each class id: its rank in their union."""
    files = {name: read_json(base / f"{name}.json") for name in ("train", "val", "test")}
    union = sorted(set().union(*(ids.values() for ids in files.values())))
    if len(union) > classes:
        raise DataError(f"{base}: the split files name {len(union)} classes; the data set has {classes}")
    for name, ids in files.items():
        absent = sorted(set(union) - set(ids.values()))
        if absent:
            raise DataError(
                f"{base / name}.json has no image of class id {absent[0]} ({len(absent)} absent), so that labels "
                "ranked per file and over all files would differ"
            )
    return files, {identifier: label for label, identifier in enumerate(union)}


def items(
    root: Path,
    split: str,
    folders: tuple[str, ...],
    image_roots: tuple[str, ...],
    classes: int,
    problems: Problems | None = None,
) -> list[Item]:
    """The items of one split, in file order; several image roots are tried, the first that holds the first image."""
    if split not in FILES:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(FILES)}")
    base = find_folder(root, folders, LAYOUT)
    tree = Tree(base)
    files, label = ranks(base, classes)
    found = []
    for name in FILES[split]:
        first = next(iter(files[name]))
        held = [prefix for prefix in image_roots if not tree.fault(prefix + first)]
        prefix = held[0] if held else image_roots[0]
        for number, (path, identifier) in enumerate(files[name].items(), 1):
            image = tree.file(prefix + path, f"{base / name}.json: entry {number}", problems)
            if image is not None:
                found.append(Item(image, label[identifier]))
    if not found:
        complain(problems, f"{base}: no image of the split {split!r} was found")
    return found


class Row(NamedTuple):
    name: str
    title: str
    classes: int
    sizes: tuple[int, int, int]  # train, val, test
    folders: tuple[str, ...]
    image_roots: tuple[str, ...]
    aliases: tuple[str, ...]
    source: str
    license: str
    cite: str
    note: str = ""


IMAGES = ("images/", "Images/", "")
ROWS = (
    Row("cub", "CUB-200-2011", 200, (5394, 600, 5794), ("CUB_200_2011", "cub"), IMAGES,
        ("CUB", "CUB_200_2011", "cub2011", "cub200"), "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "non-commercial research and education (recalled)", "wah2011cub"),
    Row("nabirds", "NABirds", 555, (21536, 2393, 24633), ("nabirds",), IMAGES, ("NABirds",),
        "https://dl.allaboutbirds.org/nabirds", "terms of use, non-commercial research (recalled)",
        "vanhorn2015nabirds"),
    Row("flowers_fgvc", "Oxford Flowers-102 (FGVC)", 102, (1020, 1020, 6149), ("OxfordFlower", "OxfordFlowers"),
        ("", "jpg/"), ("OxfordFlowers", "OxfordFlower", "oxford_flowers"),
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/", "none stated", "nilsback2008flowers",
        "trained on trnid, tuned on valid; papers that train on both have twice the images"),
    Row("stanford_dogs", "Stanford Dogs", 120, (10800, 1200, 8580), ("Stanford-dogs", "stanford_dogs"),
        ("Images/", "images/", ""), ("StanfordDogs", "dogs"), "http://vision.stanford.edu/aditya86/ImageNetDogs/",
        "none stated; images come from ImageNet", "khosla2011dogs",
        "every image is an ImageNet training image: 21k backbones have seen the test set"),
    Row("stanford_cars", "Stanford Cars", 196, (7329, 815, 8041), ("Stanford-cars", "stanford_cars"),
        ("", "stanford_cars/", "images/"), ("StanfordCars", "cars"),
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html", "none stated, research", "krause2013cars"),
)  # fmt: skip

for _row in ROWS:
    _train, _val, _test = _row.sizes
    register(
        Card(
            name=_row.name,
            title=_row.title,
            group="fgvc",
            classes=_row.classes,
            splits={"train": _train, "val": _val, "trainval": _train + _val, "test": _test},
            source=_row.source,
            license=_row.license,
            cite=_row.cite,
            folder=_row.folders[0],
            layout=LAYOUT,
            items=partial(items, folders=_row.folders, image_roots=_row.image_roots, classes=_row.classes),
            aliases=_row.aliases,
            by_hand="place the images and VPT's split files",
            note=_row.note,
            train_transform="crop_flip",
        )
    )
