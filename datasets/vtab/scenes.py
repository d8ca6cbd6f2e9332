"""Raw sets whose labels are computed from annotations: CLEVR, KITTI, Diabetic Retinopathy."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import door
from ..card import DataError
from ..lists import Tree
from . import labels
from .arrays import in_range
from .pools import Pools, Record, place, reading

if TYPE_CHECKING:
    from PIL.Image import Image

KITTI_SEED = 123
KITTI_PERCENT = 10


def clevr(root: Path, task: str) -> Pools:
    """Scenes are matched to images by file name; the official validation split is the test pool."""
    base = place(root, "CLEVR_v1.0", "clevr/CLEVR_v1.0", what="CLEVR's images/ and scenes/")
    tree, pools = Tree(base), {}
    for pool, split in (("train", "train"), ("validation", "val")):
        file, records = base / "scenes" / f"CLEVR_{split}_scenes.json", []
        with reading(file, "JSON with a list of scenes"):
            scenes = list(json.loads(door.text(file, "annotations"))["scenes"])
        for number, scene in enumerate(scenes):
            with reading(file, f"scene {number} with image_filename and objects"):
                name = str(scene["image_filename"])
                depths = [_finite(o["pixel_coords"][2], name) for o in scene["objects"]]
                label = labels.clevr_count(len(depths)) if task == "count" else labels.clevr_distance(depths)
            image = tree.file(f"images/{split}/{name}", f"{file}: scene {number}")
            assert image is not None
            records.append(Record(name, label, image))
        pools[pool] = records
    return pools


def _finite(value: object, where: str) -> float:
    """A number; nan and inf, which text and JSON can write, are none."""
    if not math.isfinite(found := float(value)):  # type: ignore[arg-type]
        raise ValueError(f"{where} holds {found}, which is no distance")
    return found


def kitti_objects(text: str) -> list[tuple[str, float]]:
    """(kind, z) of each line of a label file; DontCare regions have no place and are dropped."""
    found = []
    for number, row in enumerate(text.split("\n"), 1):
        words = row.split()
        if not words:
            continue
        if len(words) < 15:
            raise ValueError(f"line {number} has {len(words)} columns, not 15")
        if words[0] != "DontCare":
            found.append((words[0], _finite(words[13], f"line {number}")))
    return found


def kitti_drives(base: Path) -> dict[str, list[int]]:
    """Drive -> image numbers, from the development kit's mapping."""
    order, lines = base / "mapping" / "train_rand.txt", base / "mapping" / "train_mapping.txt"
    with reading(lines, "lines of 'date drive frame'"):
        drives = [row.split()[1] for row in door.rows(lines) if row.strip()]
    found: dict[str, list[int]] = defaultdict(list)
    with reading(order, "a comma list of line numbers from 1"):
        for image, number in enumerate(door.text(order).split(",")):
            if not 1 <= int(number) <= len(drives):
                raise ValueError(f"entry {image} is {number}; the mapping has {len(drives)} lines")
            found[drives[int(number) - 1]].append(image)
    return dict(found)


def kitti_pools(drives: dict[str, list[int]]) -> dict[str, list[int]]:
    """A tenth of the drives to test, as many of the rest to validation, by numpy's legacy generator."""
    import numpy as np

    if len(drives) < 3:
        raise ValueError(f"{len(drives)} drives cannot be cut into train, validation and test")
    state = np.random.RandomState(KITTI_SEED)
    count = max(1, KITTI_PERCENT * len(drives) // 100)
    test = set(state.choice(sorted(drives), count, replace=False).tolist())
    validation = set(state.choice(sorted(set(drives) - test), count, replace=False).tolist())
    pools: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for drive, images in drives.items():
        pools["test" if drive in test else "validation" if drive in validation else "train"] += images
    return pools


def kitti(root: Path) -> Pools:
    """Left images, label files, and the mapping of images to drives."""
    base = place(root, "training", "kitti/training", what="KITTI's training/ and mapping/").parent
    tree, pools = Tree(base), {}
    drives = kitti_drives(base)
    with reading(base / "mapping" / "train_mapping.txt"):
        cut = kitti_pools(drives)
    for pool, numbers in cut.items():
        records = []
        for number in sorted(numbers):
            file = base / "training" / "label_2" / f"{number:06d}.txt"
            with reading(file, "15 columns an object"):
                label = labels.kitti_distance(kitti_objects(door.text(file)))
            image = tree.file(f"training/image_2/{number:06d}.png", str(file))
            assert image is not None
            records.append(Record(f"{number:06d}.png", label, image))
        pools[pool] = records
    return pools


RADIUS = 300  # pixels, of the scaled eye
KEPT = 0.9  # of the radius; the rim is masked grey
QUALITY = 72


@dataclass(frozen=True)
class Fundus:
    """A photograph of the retina, treated as the configuration btgraham-300 does (Graham, Kaggle 2015)."""

    file: Path

    @property
    def name(self) -> str:
        return self.file.as_posix()

    def open(self) -> Image:
        """Scale the eye to a radius of 300, take away the local mean, mask the rim, crop, compress.

        Pillow and scipy in place of OpenCV: equal up to the interpolation's rounding, not to the byte.
        """
        import io

        import numpy as np
        from PIL import Image
        from scipy.ndimage import gaussian_filter

        from ..images import open_rgb, to_array

        raw = open_rgb(self.file)
        row = to_array(raw)[raw.height // 2].sum(1).astype(float)
        radius = (row > row.mean() / 10).sum() / 2 or raw.height / 2
        scale = RADIUS / radius
        size = (max(1, round(raw.width * scale)), max(1, round(raw.height * scale)))
        if size[0] * size[1] > 40_000_000:
            raise DataError(
                f"{self.name} shows no eye: scaled to a radius of {RADIUS} it would be {size[0]} x {size[1]}"
            )
        eye = to_array(raw.resize(size, Image.Resampling.BILINEAR)).astype(np.float32)
        mean = gaussian_filter(eye, (RADIUS / 30, RADIUS / 30, 0), mode="mirror")
        eye = np.clip(4 * eye - 4 * mean + 128, 0, 255)
        y, x = np.ogrid[: eye.shape[0], : eye.shape[1]]
        away = (x - eye.shape[1] // 2) ** 2 + (y - eye.shape[0] // 2) ** 2
        eye[away > (RADIUS * KEPT) ** 2] = 128
        reach = round(RADIUS * KEPT)
        top, left = max(0, eye.shape[0] // 2 - reach), max(0, eye.shape[1] // 2 - reach)
        eye = eye[top : top + 2 * reach, left : left + 2 * reach]
        buffer = io.BytesIO()
        Image.fromarray(eye.round().astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        return Image.open(io.BytesIO(buffer.getvalue()))


def retinopathy(root: Path) -> Pools:
    """`trainLabels.csv` and `retinopathy_solution.csv`; Usage Public is validation, Private is test."""
    base = place(
        root, "trainLabels.csv", "diabetic_retinopathy/trainLabels.csv", what="train/, test/, two csv files"
    ).parent
    tree = Tree(base)
    pools: Pools = {"train": [], "validation": [], "test": []}
    for file, folder in ((base / "trainLabels.csv", "train"), (base / "retinopathy_solution.csv", "test")):
        with reading(file, "a csv of image and level"):
            rows = list(csv.DictReader(door.text(file).splitlines()))
        for number, row in enumerate(rows, 2):
            with reading(file, f"line {number}: image, level" + (", Usage" if folder == "test" else "")):
                key, label = str(row["image"]), in_range(int(row["level"]), 5, f"line {number}")
                pool = {"Public": "validation", "Private": "test"}[row["Usage"]] if folder == "test" else "train"
            image = tree.file(f"{folder}/{key}.jpeg", f"{file}:{number}")
            assert image is not None
            pools[pool].append(Record(key, label, Fundus(image)))
    return pools
