"""The raw forms of the fine-grained sets: their own tables, read into official splits of (path, class id).

Paths are relative to the folder in which VPT's split files would lie, so `convert` can write those files from them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import door, matlab
from ..card import DataError
from ..vtab.arrays import whole
from ..vtab.pools import place, reading

Official = dict[str, list[tuple[str, int]]]  # train, test and (Flowers only) val


def _table(file: Path, what: str) -> dict[str, str]:
    """First word of each line -> the rest: values may contain spaces."""
    found: dict[str, str] = {}
    with reading(file, what):
        rows = door.rows(file)
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        key, space, value = row.strip().partition(" ")
        if not space or key in found:
            raise DataError(f"{file}:{number}: expected '{what}', each id once, found {row[:80]!r}")
        found[key] = value
    return found


def _joined(base: Path) -> Official:
    """CUB and NABirds: three tables joined on the image's id."""
    images = _table(base / "images.txt", "id path")
    ids = _table(base / "image_class_labels.txt", "id class")
    trained = _table(base / "train_test_split.txt", "id 0|1")
    official: Official = {"train": [], "test": []}
    for key, path in images.items():
        if key not in ids or trained.get(key) not in ("0", "1") or not ids[key].isdecimal():
            raise DataError(f"{base}: image {key} has no class or no split in the tables beside images.txt")
        official["train" if trained[key] == "1" else "test"].append((f"images/{path}", int(ids[key])))
    return official


def cub(root: Path) -> Official:
    """Class ids 1 to 200; label = id - 1, which is its rank."""
    return _joined(place(root, "CUB_200_2011/images.txt", "images.txt", what="CUB's tables").parent)


def nabirds(root: Path) -> Official:
    """Ids have gaps: inner nodes of the tree share the numbering. The label is the rank among the leaves used."""
    return _joined(place(root, "nabirds/images.txt", "images.txt", what="NABirds' tables").parent)


def flowers(root: Path) -> Official:
    """The split of the VTAB task, under FGVC's rules."""
    from ..vtab.folders import flowers as pools

    names = {"train": "train", "validation": "val", "test": "test"}
    return {names[pool]: [(f"jpg/{record.key!s}", record.label + 1) for record in records]
            for pool, records in pools(root).items()}  # fmt: skip


def _cell(value: Any) -> str:
    """The text inside MATLAB's nested cells."""
    while not isinstance(value, str):
        value = value[0]
    return value


def dogs(root: Path) -> Official:
    """`{train,test}_list.mat`: cells of paths, and labels from 1."""
    base = place(root, "train_list.mat", "Stanford-dogs/train_list.mat", what="the lists and Images/").parent
    official: Official = {}
    for split in ("train", "test"):
        file = base / f"{split}_list.mat"
        with reading(file, "a MATLAB file of file_list and labels"):
            found = matlab.load(file)
            paths = [_cell(cell) for cell in found["file_list"].reshape(-1)]
            ids = found["labels"].reshape(-1).tolist()
            if len(paths) != len(ids):
                raise ValueError(f"{len(paths)} paths but {len(ids)} labels")
            official[split] = [(f"Images/{path}", whole(i, path)) for path, i in zip(paths, ids, strict=True)]
    return official


def cars(root: Path) -> Official:
    """`cars_annos.mat` with `car_ims/`, or the development kit with `cars_train/` and `cars_test/`."""
    old = place(root, "cars_annos.mat", "Stanford-cars/cars_annos.mat", "devkit/cars_train_annos.mat",
                "stanford_cars/devkit/cars_train_annos.mat", what="Stanford Cars' annotations")  # fmt: skip
    if old.name == "cars_annos.mat":
        with reading(old, "a MATLAB file of annotations"):
            rows = matlab.load(old, squeeze=True)["annotations"].reshape(-1)
            official: Official = {"train": [], "test": []}
            for row in rows:
                path = str(row["relative_im_path"])
                split = "test" if whole(row["test"], path) else "train"
                official[split].append((path, whole(row["class"], path)))
        return official
    base = old.parent.parent
    official = {}
    for split, file in (("train", old), ("test", base / "cars_test_annos_withlabels.mat")):
        with reading(file, "a MATLAB file of annotations"):
            rows = matlab.load(file, squeeze=True)["annotations"].reshape(-1)
            official[split] = [(f"cars_{split}/{row['fname']}", whole(row["class"], str(row["fname"]))) for row in rows]
    return official


READERS: dict[str, Callable[[Path], Official]] = {
    "cub": cub, "nabirds": nabirds, "flowers_fgvc": flowers, "stanford_dogs": dogs, "stanford_cars": cars,
}  # fmt: skip
