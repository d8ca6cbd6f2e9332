"""Raw sets that come as image files with lists: Caltech-101, DTD, Flowers, Pets, SUN397, EuroSAT, RESISC45."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from .. import door, matlab
from ..card import DataError
from ..lists import Tree
from .arrays import in_range, whole
from .pools import Pools, Record, place, reading

JUNK = ("thumbs.db", "desktop.ini")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif")


def subfolders(base: Path) -> list[str]:
    """Names of the folders, in byte order, hidden ones passed over."""
    with os.scandir(base) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")


def images_in(tree: Tree, relative: str) -> list[str]:
    """Names of the image files in a folder of the tree, in byte order; junk is passed over, links out are refused."""
    where = str(tree.base / relative)
    with os.scandir(where) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() or entry.is_symlink())
    kept = [name for name in names if name[0] != "." and name.lower().endswith(SUFFIXES) and name.lower() not in JUNK]
    for name in kept:
        tree.file(f"{relative}/{name}", where)
    return kept


def caltech101_classes(folders: list[str]) -> dict[str, int]:
    """Folder -> label: rank of the lower-cased name in byte order, the clutter class included."""
    return {name: label for label, name in enumerate(sorted(folders, key=str.lower))}


def caltech101(root: Path) -> Pools:
    """All images by class; which ones VTAB trains on cannot be told from the raw data (see `cut`)."""
    base = place(root, "101_ObjectCategories", "caltech101/101_ObjectCategories", what="Caltech-101's class folders")
    tree, records = Tree(base), []
    for name, label in caltech101_classes(subfolders(base)).items():
        for file in images_in(tree, name):
            records.append(Record(f"{name}/{file}", in_range(label, 102, str(base)), base / name / file))
    return {"all": records}


DTD = (
    "banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "cracked", "crosshatched",
    "crystalline", "dotted", "fibrous", "flecked", "freckled", "frilly", "gauzy", "grid", "grooved", "honeycombed",
    "interlaced", "knitted", "lacelike", "lined", "marbled", "matted", "meshed", "paisley", "perforated", "pitted",
    "pleated", "polka-dotted", "porous", "potholed", "scaly", "smeared", "spiralled", "sprinkled", "stained",
    "stratified", "striped", "studded", "swirly", "veined", "waffled", "woven", "wrinkled", "zigzagged",
)  # fmt: skip


def dtd(root: Path) -> Pools:
    """Fold 1 of the ten; label = rank of the class name."""
    base = place(root, "dtd/images", "dtd/dtd/images", "images", what="DTD's images and labels").parent
    classes = {name: label for label, name in enumerate(DTD)}
    tree, pools = Tree(base), {}
    for pool, part in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        file, records = base / "labels" / f"{part}.txt", []
        with reading(file, "lines of class/file.jpg"):
            rows = door.rows(file)
        for number, row in enumerate(rows, 1):
            key = row.strip()
            if not key:
                continue
            name = key.partition("/")[0]
            if name not in classes:
                raise DataError(f"{file}:{number}: {name!r} is none of the 47 classes")
            image = tree.file(f"images/{key}", f"{file}:{number}")
            assert image is not None
            records.append(Record(key, classes[name], image))
        pools[pool] = records
    return pools


def flowers(root: Path) -> Pools:
    """`setid.mat` names the image numbers of each split, `imagelabels.mat` their classes; both count from 1."""
    import numpy as np

    base = place(root, "imagelabels.mat", "flowers-102/imagelabels.mat", "oxford_flowers102/imagelabels.mat",
                 what="jpg/, imagelabels.mat and setid.mat").parent  # fmt: skip
    tree, pools = Tree(base), {}
    with reading(base / "imagelabels.mat", "a MATLAB file with labels"):
        classes = np.asarray(matlab.load(base / "imagelabels.mat")["labels"]).reshape(-1).tolist()
    with reading(base / "setid.mat", "a MATLAB file with trnid, valid and tstid"):
        found = matlab.load(base / "setid.mat")
        numbers = {name: np.asarray(found[name]).reshape(-1).tolist() for name in ("trnid", "valid", "tstid")}
    for pool, name in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        records = []
        for value in numbers[name]:
            with reading(base / "setid.mat"):
                number = whole(value, name)
            if not 1 <= number <= len(classes):
                raise DataError(f"{base / 'setid.mat'}: {name} holds {number}; the images are 1 to {len(classes)}")
            key = f"image_{number:05d}.jpg"
            image = tree.file(f"jpg/{key}", f"{base / 'setid.mat'}: {name}")
            with reading(base / "imagelabels.mat"):
                label = in_range(whole(classes[number - 1], key) - 1, 102, key)
            assert image is not None
            records.append(Record(key, label, image))
        pools[pool] = records
    return pools


def pets(root: Path) -> Pools:
    """`annotations/{trainval,test}.txt`: stem, class from 1, species, breed."""
    base = place(root, "annotations", "oxford-iiit-pet/annotations", what="images/ and annotations/").parent
    tree, pools = Tree(base), {}
    for pool, part in (("train", "trainval"), ("test", "test")):
        file, records = base / "annotations" / f"{part}.txt", []
        with reading(file, "lines of 'stem class species breed'"):
            rows = door.rows(file)
        for number, row in enumerate(rows, 1):
            if not row.strip() or row.startswith("#"):
                continue
            words = row.split()
            if len(words) != 4 or not words[1].isdecimal() or not 1 <= int(words[1]) <= 37:
                raise DataError(f"{file}:{number}: expected 'stem class(1-37) species breed', found {row[:80]!r}")
            image = tree.file(f"images/{words[0]}.jpg", f"{file}:{number}")
            assert image is not None
            records.append(Record(f"{words[0]}.jpg", int(words[1]) - 1, image))
        pools[pool] = records
    return pools


@cache
def sun397_classes() -> tuple[str, ...]:
    """The 397 class paths, `/a/abbey` first, in the order of the labels."""
    names = door.ours("vtab/sun397_classes.txt").split()
    return tuple(f"/{name[0]}/{name}" for name in names)


def sun397(root: Path) -> Pools:
    """TensorFlow Datasets' frozen lists `sun397_tfds_{tr,va,te}.txt`; a class may have a second level of folders."""
    base = place(root, "SUN397", "sun397/SUN397", what="SUN397's letter folders")
    classes = {name: label for label, name in enumerate(sun397_classes())}
    tree, pools = Tree(base), {}
    for pool, part in (("train", "tr"), ("validation", "va"), ("test", "te")):
        name = f"sun397_tfds_{part}.txt"
        beside = "" if base.parent == root else "sun397/"
        file = place(root, f"{beside}{name}", f"{beside}SUN397/{name}", what="the split lists of TensorFlow Datasets")
        with reading(file, "lines of /a/abbey/sun_x.jpg"):
            rows = door.rows(file)
        records = []
        for number, row in enumerate(rows, 1):
            key = row.strip()
            if not key:
                continue
            scene = key.rpartition("/")[0]
            if scene not in classes:
                raise DataError(f"{file}:{number}: {scene!r} is none of the 397 classes")
            image = tree.file(key[1:], f"{file}:{number}")
            assert image is not None
            records.append(Record(key, classes[scene], image))
        pools[pool] = records
    return pools


EUROSAT = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial",
           "Pasture", "PermanentCrop", "Residential", "River", "SeaLake")  # fmt: skip
RESISC = (
    "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral", "church",
    "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert", "forest", "freeway",
    "golf_course", "ground_track_field", "harbor", "industrial_area", "intersection", "island", "lake", "meadow",
    "medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot", "railway",
    "railway_station", "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg",
    "sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace", "thermal_power_station", "wetland",
)  # fmt: skip


def _by_class(root: Path, classes: tuple[str, ...], places: tuple[str, ...], what: str) -> Pools:
    """Class folders without any split; the key is class, underscore, file name."""
    base = place(root, *places, what=what)
    foreign = sorted(set(subfolders(base)) - set(classes))
    if foreign:
        raise DataError(f"{base / foreign[0]} is none of the {len(classes)} classes ({len(foreign)} such folders)")
    tree, records = Tree(base), []
    for name in subfolders(base):
        for file in images_in(tree, name):
            records.append(Record(f"{name}_{file}", classes.index(name), base / name / file))
    return {"train": records}


def eurosat(root: Path) -> Pools:
    return _by_class(root, EUROSAT, ("2750", "eurosat/2750", "EuroSAT/2750"), "EuroSAT's folders 2750/<Class>")


def resisc45(root: Path) -> Pools:
    return _by_class(root, RESISC, ("NWPU-RESISC45", "resisc45/NWPU-RESISC45"), "the folders NWPU-RESISC45/<class>")
