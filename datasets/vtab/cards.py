"""The 19 cards of VTAB-1k: one row each, one reader for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..card import Card, Group, Item
from ..registry import register
from . import export


class Row(NamedTuple):
    name: str
    title: str
    group: Group
    classes: int
    test: int
    folders: tuple[str, ...]  # the export's own name first, then the drift among its users
    aliases: tuple[str, ...]
    source: str
    license: str
    cite: str
    note: str = ""


SKEW = "73.5 % of the images are level 0, so a constant answer scores about 73.6 %; read class_mean beside top-1"
ROWS = (
    Row("caltech101", "Caltech-101", "natural", 102, 6084, ("caltech101",), ("caltech",),
        "https://data.caltech.edu/records/mzrjq-6wc02", "CC BY 4.0 (recalled)", "feifei2004caltech",
        "102 classes: the clutter class BACKGROUND_Google is one of them"),
    Row("cifar100", "CIFAR-100", "natural", 100, 10000, ("cifar", "cifar100"), ("cifar",),
        "https://www.cs.toronto.edu/~kriz/cifar.html", "none stated", "krizhevsky2009cifar"),
    Row("dtd", "Describable Textures", "natural", 47, 1880, ("dtd",), (),
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/", "research use (recalled)", "cimpoi2014dtd"),
    Row("oxford_flowers102", "Oxford Flowers-102", "natural", 102, 6149, ("oxford_flowers102", "flowers102"),
        ("flowers102", "flowers"), "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/", "none stated",
        "nilsback2008flowers"),
    Row("oxford_iiit_pet", "Oxford-IIIT Pet", "natural", 37, 3669, ("oxford_iiit_pet", "pets", "oxford_pet"),
        ("oxford_pet", "pets"), "https://www.robots.ox.ac.uk/~vgg/data/pets/", "CC BY-SA 4.0 (recalled)",
        "parkhi2012pets"),
    Row("svhn", "Street View House Numbers", "natural", 10, 26032, ("svhn",), ("svhn_cropped",),
        "http://ufldl.stanford.edu/housenumbers/", "non-commercial use only", "netzer2011svhn"),
    Row("sun397", "SUN397", "natural", 397, 21750, ("sun397",), (),
        "https://vision.princeton.edu/projects/2010/SUN/", "none stated, research use", "xiao2010sun",
        "the 1,000 training images hold 325 of the 397 classes"),
    Row("patch_camelyon", "PatchCamelyon", "specialized", 2, 32768, ("patch_camelyon", "pcam"),
        ("pcam", "camelyon"), "https://github.com/basveeling/pcam", "CC0 1.0 (recalled)", "veeling2018pcam"),
    Row("eurosat", "EuroSAT", "specialized", 10, 5400, ("eurosat",), (),
        "https://github.com/phelber/EuroSAT", "MIT (recalled)", "helber2019eurosat"),
    Row("resisc45", "NWPU-RESISC45", "specialized", 45, 6300, ("resisc45",), ("resisc",),
        "http://www.escience.cn/people/JunweiHan/NWPU-RESISC45.html", "not stated by the authors; mirrors disagree",
        "cheng2017resisc"),
    Row("diabetic_retinopathy", "Diabetic Retinopathy", "specialized", 5, 42670,
        ("diabetic_retinopathy", "retinopathy"), ("retinopathy",),
        "https://www.kaggle.com/c/diabetic-retinopathy-detection/data", "competition rules (recalled)",
        "kaggle2015retinopathy", SKEW),
    Row("clevr_count", "CLEVR count", "structured", 8, 15000, ("clevr_count",), ("count_all",),
        "https://cs.stanford.edu/people/jcjohns/clevr/", "CC BY 4.0 (recalled)", "johnson2017clevr"),
    Row("clevr_dist", "CLEVR distance", "structured", 6, 15000, ("clevr_dist",), ("closest_object_distance",),
        "https://cs.stanford.edu/people/jcjohns/clevr/", "CC BY 4.0 (recalled)", "johnson2017clevr"),
    Row("dmlab", "DMLab frames", "structured", 6, 22735, ("dmlab",), (),
        "https://github.com/google-research/task_adaptation", "no separate licence", "zhai2019vtab"),
    Row("kitti", "KITTI distance", "structured", 4, 711, ("kitti",), ("closest_vehicle_distance",),
        "http://www.cvlibs.net/datasets/kitti/eval_object.php", "CC BY-NC-SA 3.0 (recalled)", "geiger2012kitti"),
    Row("dsprites_loc", "dSprites location", "structured", 16, 73728, ("dsprites_loc",), ("dsprites_location",),
        "https://github.com/google-deepmind/dsprites-dataset", "Apache-2.0 (recalled)", "matthey2017dsprites"),
    Row("dsprites_ori", "dSprites orientation", "structured", 16, 73728, ("dsprites_ori",),
        ("dsprites_orientation",), "https://github.com/google-deepmind/dsprites-dataset", "Apache-2.0 (recalled)",
        "matthey2017dsprites"),
    Row("smallnorb_azi", "small NORB azimuth", "structured", 18, 12150, ("smallnorb_azi",), ("smallnorb_azimuth",),
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/", "research only (recalled)", "lecun2004norb"),
    Row("smallnorb_ele", "small NORB elevation", "structured", 9, 12150, ("smallnorb_ele",),
        ("smallnorb_elevation",), "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/", "research only (recalled)",
        "lecun2004norb"),
)  # fmt: skip


# What must be known of a set as it is published to judge a copy of it: see datasets/promises.py.
FACTS = {
    "sun397": {"train_classes": "325"},
    "cifar100": {"repeats": "a tenth of the test images are training images or nearly (Barz and Denzler, "
                            "arXiv:1902.00423)"},
    "dsprites_loc": {"repeats": "a square looks the same after a quarter turn, an ellipse after half of one"},
    "dsprites_ori": {"repeats": "a square looks the same after a quarter turn, an ellipse after half of one"},
}


def _lister(row: Row) -> Callable[[Path, str], Sequence[Item]]:
    return partial(export.items, folders=row.folders, classes=row.classes)


for _row in ROWS:
    register(
        Card(
            name=_row.name,
            title=_row.title,
            group=_row.group,
            classes=_row.classes,
            splits={"train": 800, "val": 200, "trainval": 1000, "test": _row.test},
            source=_row.source,
            license=_row.license,
            cite=_row.cite,
            folder=_row.folders[0],
            layout=export.LAYOUT,
            items=_lister(_row),
            aliases=_row.aliases,
            by_hand="place the export, or cut it from the raw data with `python -m bench data vtab1k`",
            note=_row.note,
            facts=FACTS.get(_row.name, {}),
        )
    )
