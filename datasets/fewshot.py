"""Five few-shot sets under NOAH's lists (Zhang et al., arXiv:2206.04673), as PACE and others use them.

`<folder>/annotations/{train_meta.list.num_shot_<k>.seed_<s>,val_meta.list,test_meta.list}` hold `path label`, split at
the last space. A card is one set, one number of shots, one seed of the lists; its `trainval` is its `train`, because
the shots are all that the final run may learn from. Shots of different sizes are not nested. The 1-shot lists of Pets
hold each line twice; here an image counts once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import door, encoded
from .card import Card, DataError, Item
from .lists import Problems, Tree, complain, find_folder, read_list
from .registry import register

LAYOUT = "NOAH's lists annotations/{train_meta.list.num_shot_*.seed_*,val_meta.list,test_meta.list} and images/"
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (0, 1, 2)
SPLITS = ("train", "val", "trainval", "test")


def list_name(split: str, shots: int, seed: int) -> str:
    """The file that lists a split."""
    if split in ("train", "trainval"):
        return f"train_meta.list.num_shot_{shots}.seed_{seed}"
    return f"{split}_meta.list"


def items(
    root: Path,
    split: str,
    folders: tuple[str, ...],
    classes: int,
    shots: int,
    seed: int,
    problems: Problems | None = None,
) -> list[Item]:
    """The items of one split, in the order of its list; images lie in images/ (PACE) or beside it (NOAH's cars)."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    base = find_folder(root, folders, LAYOUT)
    tree, file = Tree(base), base / "annotations" / list_name(split, shots, seed)
    if (base / encoded.FILE).is_file() and not (base / "images").is_dir():
        found = encoded.read_list(file, base / encoded.FILE, classes, LAYOUT, problems)
    else:
        found = read_list(file, tree, classes, LAYOUT, problems, first_prefix(file, tree, ("images/", "")))
    unique = list(dict.fromkeys(found))
    absent = classes - len({item.label for item in unique})
    if absent and split != "val" and not (base / ".standin.json").exists():
        complain(problems, f"{file} has no image of {absent} of the {classes} classes")
    return unique


def first_prefix(file: Path, tree: Tree, prefixes: tuple[str, ...]) -> str:
    """Where the images of a list lie: the first place that holds its first image."""
    try:
        path = door.first_line(file).rpartition(" ")[0]
    except (OSError, UnicodeDecodeError, DataError):
        return prefixes[0]  # the reader tells what is wrong with the list
    held = [prefix for prefix in prefixes if not tree.fault(prefix + path)]
    return held[0] if held else prefixes[0]


class Row(NamedTuple):
    name: str
    title: str
    classes: int
    val: int
    test: int
    folders: tuple[str, ...]
    source: str
    license: str
    cite: str
    note: str = ""


ROWS = (
    Row("food101", "Food-101", 101, 20_200, 30_300, ("food101", "food-101"),
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/", "scientific fair use (recalled)",
        "bossard2014food", "CoOp's split mixes the noisy training images into test"),
    Row("cars", "Stanford Cars", 196, 1635, 8041, ("stanford-cars", "standford-cars"),
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html", "none stated, research", "krause2013cars"),
    Row("flowers102", "Oxford Flowers-102", 102, 1633, 2463, ("oxford-flowers102",),
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/", "none stated", "nilsback2008flowers",
        "CoOp's split, unrelated to the official one"),
    Row("aircraft", "FGVC-Aircraft", 100, 3333, 3333, ("fgvc-aircraft",),
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/", "non-commercial research (recalled)",
        "maji2013aircraft", "a strip with the copyright notice lies at the bottom of every image and stays"),
    Row("pets", "Oxford-IIIT Pet", 37, 736, 3669, ("oxford-pets",),
        "https://www.robots.ox.ac.uk/~vgg/data/pets/", "CC BY-SA 4.0 (recalled)", "parkhi2012pets"),
)  # fmt: skip

for _row in ROWS:
    for _shots in SHOTS:
        for _seed in SEEDS:
            register(
                Card(
                    name=f"{_row.name}_{_shots}shot_s{_seed}",
                    title=f"{_row.title}, {_shots}-shot, lists {_seed}",
                    group="fewshot",
                    classes=_row.classes,
                    splits={"train": _row.classes * _shots, "val": _row.val, "trainval": _row.classes * _shots,
                            "test": _row.test},
                    source=_row.source,
                    license=_row.license,
                    cite=_row.cite,
                    folder=_row.folders[0],
                    layout=LAYOUT,
                    items=partial(items, folders=_row.folders, classes=_row.classes, shots=_shots, seed=_seed),
                    by_hand="place the images and NOAH's lists",
                    note=_row.note,
                    train_transform="crop_flip",
                    facts={"set": _row.name, "shots": str(_shots), "seed": str(_seed)},
                )
            )  # fmt: skip
