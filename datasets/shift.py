"""ImageNet under distribution shift: V2, Sketch, A, R, C (test only), and NOAH's 16-shot training list.

Labels are always ranks among the 1,000 classes. A and R hold 200 classes each: scoring over all 1,000 outputs and over
the 200 are different benchmarks, so the masks have names here and a table must say which it used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from .card import Card, DataError, Item
from .door import ours
from .fewshot import first_prefix, list_name
from .imagenet import FOLDERS, SPLITS, class_folders, folder_images
from .lists import Problems, Tree, complain, find_folder, read_list
from .registry import register

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA_CORRUPTIONS = ("gaussian_blur", "saturate", "spatter", "speckle_noise")  # never part of mCE
SEVERITIES = (1, 2, 3, 4, 5)
ALEXNET_ERROR = dict(zip(CORRUPTIONS, (
    0.886428, 0.894468, 0.92264, 0.81988, 0.826268, 0.785948, 0.79836, 0.866816, 0.826572, 0.819324, 0.564592, 0.853204,
    0.646056, 0.71784, 0.6065,
), strict=True))  # averaged over the severities (Hendrycks and Dietterich, ICLR 2019)  # fmt: skip


def mean_corruption_error(errors: Mapping[str, Mapping[int, float]]) -> float:
    """mCE over the 15 corruptions: each one's error, averaged over severities, relative to AlexNet's."""
    absent = [f"{name} {level}" for name in CORRUPTIONS for level in SEVERITIES if level not in errors.get(name, {})]
    if absent:
        raise DataError(
            f"mCE needs all 15 corruptions at all 5 severities; {len(absent)} are absent, first {absent[0]}"
        )
    ratios = [sum(errors[name][level] for level in SEVERITIES) / 5 / ALEXNET_ERROR[name] for name in CORRUPTIONS]
    return sum(ratios) / len(ratios)


@cache
def masks() -> dict[str, tuple[int, ...]]:
    """The 200 labels of ImageNet-A and of ImageNet-R."""
    rows = ours("imagenet_masks.txt").split("\n")
    return {name: tuple(map(int, labels.split())) for name, _, labels in (row.partition(": ") for row in rows if row)}


def _only_test(split: str) -> None:
    if split != "test":
        raise DataError(f"no split is called {split!r}; this set is for testing only")


def by_wnid(
    root: Path, split: str, folders: tuple[str, ...], inner: tuple[str, ...], problems: Problems | None = None
) -> list[Item]:
    """Class folders named by wnid; `inner` are the places under the folder where they may lie."""
    _only_test(split)
    base = find_folder(root, folders, "folders named by wnid")
    tree = Tree(base)
    held = [part for part in inner if (base / part).is_dir()]
    if not held:
        raise DataError(f"{base / inner[0]} is missing; expected there: folders named by wnid")
    part, found = held[0], []
    for wnid, label in class_folders(base, part, problems).items():
        relative = f"{part}/{wnid}" if part else wnid
        if not tree.inside(str(base / relative)):
            complain(problems, f"{base / relative} is a link that leaves the folder of the data set")
            continue
        found += [Item(base / relative / name, label) for name in folder_images(base, tree, relative, problems)]
    if not found:
        complain(problems, f"{base / part} holds no images")
    return found


V2_FOLDERS = ("imagenetv2-matched-frequency-format-val", "imagenetv2", "imagenet-2")


def by_number(root: Path, split: str, problems: Problems | None = None) -> list[Item]:
    """ImageNet-V2's folders are the labels, 0 to 999; sorted as numbers, never as text."""
    _only_test(split)
    base = find_folder(root, V2_FOLDERS, "folders 0 to 999")
    nested = base / V2_FOLDERS[0]
    base = nested if nested.is_dir() else base
    tree, found = Tree(base), []
    with os.scandir(base) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    for name in names:
        if not (name.isascii() and name.isdecimal() and int(name) < 1000):
            complain(problems, f"{base / name}: the folder is no label from 0 to 999")
    for name in sorted((name for name in names if name.isascii() and name.isdecimal() and int(name) < 1000), key=int):
        if not tree.inside(str(base / name)):
            complain(problems, f"{base / name} is a link that leaves the folder of the data set")
            continue
        found += [Item(base / name / file, int(name)) for file in folder_images(base, tree, name, problems)]
    if not found:
        complain(problems, f"{base} holds no images")
    return found


def sixteen_shots(root: Path, split: str, seed: int, problems: Problems | None = None) -> list[Item]:
    """NOAH's lists on ImageNet: 16 images a class, 2,959 training images to tune on, the official val as test."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    layout = "ImageNet with NOAH's lists in annotations/"
    base = find_folder(root, FOLDERS, layout)
    tree, file = Tree(base), base / "annotations" / list_name(split, 16, seed)
    places = ("val/", "images/val/", "images/") if split == "test" else ("train/", "images/train/", "images/")
    return read_list(file, tree, 1000, layout, problems, first_prefix(file, tree, (*places, "")))


MIT = "MIT, of the repository (recalled)"
ROWS = (
    ("imagenetv2", "ImageNet-V2 (matched frequency)", by_number, V2_FOLDERS[0], 10_000, "https://imagenetv2.org/", MIT,
     "recht2019imagenetv2", "one of three variants; the other two score much higher"),
    ("imagenet_sketch", "ImageNet-Sketch",
     partial(by_wnid, folders=("imagenet-sketch", "imagenet-s", "sketch"), inner=("sketch", "images", "")),
     "imagenet-sketch", 50_889, "https://github.com/HaohanWang/ImageNet-Sketch", MIT, "wang2019sketch", ""),
    ("imagenet_a", "ImageNet-A",
     partial(by_wnid, folders=("imagenet-a", "imagenet-adversarial"), inner=("imagenet-a", "")),
     "imagenet-a", 7_500, "https://github.com/hendrycks/natural-adv-examples", MIT, "hendrycks2021natural",
     "200 classes: say whether all 1,000 outputs were scored or the mask imagenet_a"),
    ("imagenet_r", "ImageNet-R",
     partial(by_wnid, folders=("imagenet-r", "imagenet-rendition"), inner=("imagenet-r", "")),
     "imagenet-r", 30_000, "https://github.com/hendrycks/imagenet-r", MIT, "hendrycks2021many",
     "200 classes: say whether all 1,000 outputs were scored or the mask imagenet_r"),
)  # fmt: skip

for _name, _title, _items, _folder, _size, _source, _license, _cite, _note in ROWS:
    register(
        Card(name=_name, title=_title, group="shift", classes=1000, splits={"test": _size}, source=_source,
             license=_license, cite=_cite, folder=_folder, layout="class folders of images", items=_items, note=_note,
             by_hand="unpack the archive", facts={"train": "imagenet1k"} | ({"mask": _name} if "200" in _note else {}))
    )  # fmt: skip

C_FOLDERS = ("imagenet-c", "imagenet_c")

for _corruption in (*CORRUPTIONS, *EXTRA_CORRUPTIONS):
    for _level in SEVERITIES:
        register(
            Card(
                name=f"imagenet_c_{_corruption}_{_level}", title=f"ImageNet-C {_corruption} {_level}", group="shift",
                classes=1000, splits={"test": 50_000}, source="https://zenodo.org/record/2235448",
                license="CC BY 4.0 (recalled)", cite="hendrycks2019corruptions", folder="imagenet-c",
                layout="<corruption>/<1-5>/<wnid>/*.JPEG",
                items=partial(by_wnid, folders=C_FOLDERS, inner=(f"{_corruption}/{_level}",)),
                by_hand="unpack all five archives into one folder",
                note="already cropped to 224; " + ("part of mCE" if _corruption in CORRUPTIONS else "not part of mCE"),
                facts={"train": "imagenet1k", "corruption": _corruption, "severity": str(_level)},
            )
        )  # fmt: skip



def all_corruptions(root: Path, split: str, problems: Problems | None = None) -> list[Item]:
    """ImageNet-C's 15 corruptions at 5 severities, one after the other; the four extra ones are not among them."""
    _only_test(split)
    found: list[Item] = []
    for name in CORRUPTIONS:
        for level in SEVERITIES:
            found += by_wnid(root, split, C_FOLDERS, (f"{name}/{level}",), problems)
    return found


register(
    Card(
        name="imagenet_c", title="ImageNet-C (mean of 75)", group="shift", classes=1000, splits={"test": 3_750_000},
        source="https://zenodo.org/record/2235448", license="CC BY 4.0 (recalled)", cite="hendrycks2019corruptions",
        folder="imagenet-c", layout="<corruption>/<1-5>/<wnid>/*.JPEG", items=all_corruptions,
        by_hand="unpack all five archives into one folder",
        note="already cropped to 224; top-1 over 15 corruptions at 5 severities, which is not mCE",
        facts={"train": "imagenet1k"},
    )
)  # fmt: skip

for _seed in (0, 1, 2):
    register(
        Card(
            name=f"imagenet1k_16shot_s{_seed}", title=f"ImageNet-1k, 16-shot, lists {_seed}", group="shift",
            classes=1000, splits={"train": 16_000, "val": 2_959, "trainval": 16_000, "test": 50_000},
            source="https://www.image-net.org/", license="terms of access, non-commercial research (recalled)",
            cite="russakovsky2015imagenet", folder=FOLDERS[0], layout="ImageNet with NOAH's lists in annotations/",
            items=partial(sixteen_shots, seed=_seed), train_transform="crop_flip",
            by_hand="accept the terms of access, unpack, and place NOAH's lists",
            facts={"shots": "16", "seed": str(_seed)},
        )
    )  # fmt: skip
