"""Flickr30K (Young et al., TACL 2014) and COCO captions (Lin et al., ECCV 2014) in Karpathy's splits (CVPR 2015).

One JSON file lists the pictures of each with their captions; five captions of a picture are used, as everywhere in the
field, and stand in a row. COCO trains on `train` and `restval` together. An item is a picture with one caption; its
label is the number of the picture in its split, so that pairs of one label belong together.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from . import door
from .card import SPLITS, Card, DataError, Item, Pair, Text
from .lists import Problems, Tree, complain, find_folder
from .registry import register

CAPTIONS = 5  # of a picture; some of COCO's have six or seven


class Source(NamedTuple):
    """One of the two: its file, where its pictures may lie, what is trained on, its pictures in each split."""

    title: str
    file: str
    images: tuple[str, ...]  # folders below the set's own
    train: tuple[str, ...]  # values of the field `split`
    pictures: dict[str, int]
    license: str
    cite: str
    source: str
    folds: int = 1  # of the test pictures, see Card


SOURCES = {
    "flickr30k": Source("Flickr30K", "dataset_flickr30k.json", ("flickr30k-images", "images", "flickr30k_images"),
                        ("train",), {"train": 29_000, "val": 1_014, "test": 1_000},
                        "pictures: Flickr's terms, for research and no commercial use (recalled)", "young2014image",
                        "https://shannon.cs.illinois.edu/DenotationGraph/"),
    "coco": Source("COCO captions", "dataset_coco.json", ("", "images"), ("train", "restval"),
                   {"train": 113_287, "val": 5_000, "test": 5_000},
                   "captions CC BY 4.0, pictures Flickr's terms (recalled)", "lin2014microsoft",
                   "https://cocodataset.org/", folds=5),
}


class Picture(NamedTuple):
    """A picture as the file lists it: its path below the folder of pictures, its split, its captions."""

    path: str
    split: str
    captions: tuple[str, ...]


def layout(source: Source) -> str:
    """What lies in a set's folder."""
    folder = "train2014/ and val2014/" if source.file == "dataset_coco.json" else f"{source.images[0]}/"
    return f"{source.file} (Karpathy's) and {folder}"


@lru_cache(maxsize=2)
def _listed(file: Path, size: int, changed: int) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """(pictures, faults) of the file. Raises DataError where it is no such list at all."""
    try:
        told = json.loads(door.read(file, "annotations"))
        rows = told["images"]
        assert isinstance(rows, list)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
        raise DataError(f"{file} is no list of Karpathy's: expected a JSON object whose 'images' are a list") from None
    pictures, faults = [], []
    for number, row in enumerate(rows):
        try:
            pictures.append(_picture(row))
        except ValueError as error:
            faults.append(f"{file}: images[{number}]: {error}")
    return tuple(pictures), tuple(faults)


def _picture(row: Any) -> Picture:
    """One entry; raises ValueError saying what is wrong with it."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("filename", "split")):
        raise ValueError("expected an object with 'filename' and 'split'")
    if row["split"] not in ("train", "restval", "val", "test"):
        raise ValueError(f"the split {row['split'][:40]!r} is none of train, restval, val, test")
    sentences = row.get("sentences")
    raw = [s.get("raw") if isinstance(s, dict) else None for s in sentences] if isinstance(sentences, list) else []
    captions = tuple(text.strip() for text in raw if isinstance(text, str))
    if len(captions) < len(raw) or len(captions) < CAPTIONS:
        raise ValueError(f"{len(captions)} captions with a 'raw' text; expected {CAPTIONS}")
    folder = row.get("filepath", "")
    if not isinstance(folder, str):
        raise ValueError("'filepath' is no text")
    return Picture(f"{folder}/{row['filename']}" if folder else row["filename"], row["split"], captions[:CAPTIONS])


def items(root: Path, split: str, name: str, folders: tuple[str, ...], problems: Problems | None = None) -> list[Item]:
    """The items of one split, the captions of a picture in a row."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    source = SOURCES[name]
    base = find_folder(root, folders, layout(source))
    file = base / source.file
    if not file.is_file():
        raise DataError(f"{file} is missing; expected there: {layout(source)}")
    state = file.stat()
    pictures, faults = _listed(file, state.st_size, state.st_mtime_ns)
    for fault in faults:
        complain(problems, fault)
    wanted = {"train": source.train, "val": ("val",), "trainval": (*source.train, "val"), "test": ("test",)}[split]
    place = next((folder for folder in source.images if folder and (base / folder).is_dir()), "")
    tree, found, label = Tree(base), [], 0
    for picture in (p for part in wanted for p in pictures if p.split == part):
        path = f"{place}/{picture.path}" if place else picture.path
        image = tree.file(path, f"{file}: a picture of {picture.split}", problems)
        if image is not None:
            found += [Item(Pair(image, Text(f"{name}/{picture.path}#{i}", caption, None, file)), label)
                      for i, caption in enumerate(picture.captions)]
            label += 1
    return found


for _name, _source in SOURCES.items():
    _sizes = {split: CAPTIONS * count for split, count in _source.pictures.items()}
    register(Card(
        name=_name, title=_source.title, group="captions", classes=1,
        splits=_sizes | {"trainval": _sizes["train"] + _sizes["val"]}, source=_source.source, license=_source.license,
        cite=f"karpathy2015deep, {_source.cite}", folder=_name, layout=layout(_source),
        items=partial(items, name=_name, folders=(_name, _name.upper(), f"{_name}_captions")), metric="rmean",
        by_hand="accept the pictures' terms, and place Karpathy's list beside them",
        note=f"a picture's first {CAPTIONS} captions", task="match", input="pair",
        folds=_source.folds))
