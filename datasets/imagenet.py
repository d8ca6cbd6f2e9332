"""ImageNet-1k (Russakovsky et al., IJCV 2015), read from `train/<wnid>/` and `val/<wnid>/`.

Label = rank of the wnid among the 1,000 (`imagenet_wnids.txt`), never of the folders that happen to be there. The
official validation set is our test split, as in most of the literature; tuning uses a hold-out of the training images:
in each class the images are ordered by SHA-256 of their name, and the first 50 (at most a fifth) are val.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from . import door, matlab
from .card import Card, DataError, Item
from .door import ours
from .lists import Problems, Tree, complain, find_folder, text_of
from .registry import register
from .vtab.arrays import whole
from .vtab.pools import reading

FOLDERS = ("imagenet", "imagenet_1k", "imagenet1k", "ILSVRC2012")
LAYOUT = "the folders train/<wnid>/*.JPEG and val/<wnid>/*.JPEG"
SUFFIXES = (".jpeg", ".jpg", ".png")
HOLDOUT = 50  # of each class; as many as the official validation set has
SPLITS = ("train", "val", "trainval", "test")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@cache
def wnids() -> tuple[str, ...]:
    """The 1,000 WordNet ids in the order of the labels."""
    return tuple(ours("imagenet_wnids.txt").split())


def hold_out(names: list[str]) -> tuple[list[str], list[str]]:
    """(train, val) of one class, each in the order given."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"imagenet1k|hold-out|{name}".encode()).digest())
    held = set(ordered[: min(HOLDOUT, len(names) // 5)])
    return [name for name in names if name not in held], [name for name in names if name in held]


def folder_images(base: Path, tree: Tree, relative: str, problems: Problems | None = None) -> list[str]:
    """Names of the images in one folder of the tree, sorted; junk such as `Thumbs.db` or `._x.jpg` is passed over."""
    try:
        with os.scandir(base / relative) as entries:
            named = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "."]
            names = sorted(entry.name for entry in named)
            links = [entry.name for entry in named if entry.is_symlink()]
    except OSError as error:
        complain(problems, f"{base / relative} cannot be listed: {error.strerror}")
        return []
    for name in links:
        tree.file(f"{relative}/{name}", str(base / relative), problems)
    return names


def class_folders(base: Path, part: str, problems: Problems | None = None) -> dict[str, int]:
    """Folder name -> label, for the folders of `part` that are ImageNet classes; others are complained of."""
    known = {wnid: label for label, wnid in enumerate(wnids())}
    door.settle(base / part)  # before the names of a folder elsewhere are listed
    try:
        with os.scandir(base / part) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        raise DataError(f"{base / part} is missing; expected there: {LAYOUT}") from None
    for name in names:
        if name not in known:
            complain(problems, f"{base / part / name}: the folder is none of the 1,000 ImageNet classes")
    return {name: known[name] for name in names if name in known}


def flat_val(base: Path, tree: Tree) -> list[Item]:
    """The official validation images as they are shipped, in one folder: the development kit's ids lead to wnids."""
    kits = [base / place for place in ("", "data", "ILSVRC2012_devkit_t12/data")]
    kit = next((kit for kit in kits if (kit / "meta.mat").is_file() and (kit / GROUND_TRUTH).is_file()), None)
    if kit is None:
        raise DataError(f"{base / 'val'} holds no wnid folders; a flat one needs meta.mat and {GROUND_TRUTH} beside it")
    rank = {wnid: label for label, wnid in enumerate(wnids())}
    with reading(kit / "meta.mat", "the development kit's synsets"):
        synsets = matlab.load(kit / "meta.mat", squeeze=True)["synsets"].reshape(-1)
        known = [(row["ILSVRC2012_ID"], str(row["WNID"])) for row in synsets if str(row["WNID"]) in rank]
        label = {str(whole(identifier, wnid)): rank[wnid] for identifier, wnid in known}
    names = folder_images(base, tree, "val")
    given = text_of(kit / GROUND_TRUTH, "one id a line").split()
    if len(given) != len(names):
        raise DataError(f"{kit / GROUND_TRUTH} lists {len(given)} labels for {len(names)} images in {base / 'val'}")
    for number, identifier in enumerate(given, 1):
        if identifier not in label:
            raise DataError(f"{kit / GROUND_TRUTH}:{number}: {identifier!r} is no id of meta.mat")
    return [Item(base / "val" / name, label[identifier]) for name, identifier in zip(names, given, strict=True)]


def items(root: Path, split: str, problems: Problems | None = None) -> list[Item]:
    """The items of one split, by class, then by name."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    base = find_folder(root, FOLDERS, LAYOUT)
    tree = Tree(base)
    part = "val" if split == "test" else "train"
    classes = class_folders(base, part, problems)
    if split == "test" and not classes:
        return flat_val(base, tree)
    found = []
    for wnid, label in classes.items():
        fault = "" if tree.inside(str(base / part / wnid)) else "is a link that leaves the folder of the data set"
        if fault:
            complain(problems, f"{base / part / wnid} {fault}")
            continue
        names = folder_images(base, tree, f"{part}/{wnid}", problems)
        if split in ("train", "val"):
            names = hold_out(names)[split == "val"]
        found += [Item(base / part / wnid / name, label) for name in names]
    if not found:
        complain(problems, f"{base / part} holds no images; expected there: {LAYOUT}")
    return found


register(
    Card(
        name="imagenet1k",
        title="ImageNet-1k",
        group="imagenet",
        classes=1000,
        splits={"train": 1231167, "val": 50000, "trainval": 1281167, "test": 50000},
        source="https://www.image-net.org/",
        license="terms of access, non-commercial research (recalled)",
        cite="russakovsky2015imagenet",
        folder=FOLDERS[0],
        layout=LAYOUT,
        items=items,
        aliases=("imagenet", "imagenet_1k", "ilsvrc2012"),
        by_hand="accept the terms of access, unpack, and move val images into wnid folders",
        note="our reading of the 25th data set: UGR's abstract speaks of 25 and names none",
        train_transform="crop_flip",
        facts={"val": "hold-out of train: the first 50 of each class by SHA-256 of the file name"},
    )
)
