"""The community's VTAB-1k export (Zhang et al., NOAH, arXiv:2206.04673; reused by SSF, PETL-ViT, V-PETL and PACE).

`<folder>/{train800,val200,train800val200,test}.txt` hold `images/<split>/000000.jpg 66`; `train800val200` stores the
1,000 images a second time, in blocks of 16 taken in turn from `train800` and `val200`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from .. import encoded
from ..card import DataError, Item
from ..lists import Problems, Tree, find_folder, read_list

LISTS = {"train": "train800", "val": "val200", "trainval": "train800val200", "test": "test"}
LAYOUT = "the VTAB-1k export: {train800,val200,train800val200,test}.txt and images/<split>/000000.jpg"
BLOCK = 16

T = TypeVar("T")


def interleave(train: Sequence[T], val: Sequence[T]) -> list[T]:
    """Blocks of 16 in turn from both until each is used up: the order of `train800val200`."""
    mixed: list[T] = []
    for start in range(0, max(len(train), len(val)), BLOCK):
        mixed += train[start : start + BLOCK]
        mixed += val[start : start + BLOCK]
    return mixed


def items(
    root: Path, split: str, folders: tuple[str, ...], classes: int, problems: Problems | None = None
) -> list[Item]:
    """The items of one split, in the order of its list."""
    if split not in LISTS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(LISTS)}")
    base = find_folder(root, folders, LAYOUT)
    packed = base / encoded.FILE
    if packed.is_file() and not (base / "images").is_dir():
        return encoded.read_list(base / f"{LISTS[split]}.txt", packed, classes, LAYOUT, problems, drop="images/")
    return read_list(base / f"{LISTS[split]}.txt", Tree(base), classes, LAYOUT, problems)


Encoded = Iterable[tuple[bytes, int]]  # the bytes of each image file, and its label


def write(folder: Path, splits: Mapping[str, Encoded], suffix: str = "jpg") -> None:
    """Lay out train, val and test; `train800val200` repeats the first two under new numbers."""
    train, val = list(splits["train"]), list(splits["val"])
    for split, pictures in (
        ("train", train),
        ("val", val),
        ("trainval", interleave(train, val)),
        ("test", splits["test"]),
    ):
        name = LISTS[split]
        (folder / "images" / name).mkdir(parents=True)
        rows = []
        for i, (data, label) in enumerate(pictures):
            path = f"images/{name}/{i:06d}.{suffix}"
            (folder / path).write_bytes(data)
            rows.append(f"{path} {label}\n")
        (folder / f"{name}.txt").write_text("".join(rows), newline="\n")
