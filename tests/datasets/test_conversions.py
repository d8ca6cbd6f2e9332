"""Raw tables, MATLAB lists and archives of the fine-grained sets, converted into the forms that are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_files import listing, picture
from scipy.io import savemat

from datasets import registry
from datasets.card import DataError
from datasets.convert import convert


def birds(base: Path, ids: list[int], folder: str) -> None:
    rows: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for i in range(len(ids) * 14):
        identifier = ids[i % len(ids)]
        path = f"{identifier:03d}.Some_Bird/bird_{i}.jpg"
        picture(base / folder / "images" / path, i)
        rows["images"].append(f"u-{i} {path}")
        rows["image_class_labels"].append(f"u-{i} {identifier}")
        rows["train_test_split"].append(f"u-{i} {int(i < len(ids) * 10)}")
    for name, lines in rows.items():
        listing(base / folder / f"{name}.txt", lines if name == "images" else lines[::-1])


@pytest.mark.parametrize(
    ("name", "folder", "ids"), [("cub", "CUB_200_2011", [3, 17, 200]), ("nabirds", "nabirds", [295, 313, 1010])]
)
def test_bird_tables_are_joined_on_the_id_and_labels_are_ranks(
    name: str, folder: str, ids: list[int], tmp_path: Path
) -> None:
    birds(tmp_path / "raw", ids, folder)
    convert(name, tmp_path / "raw", tmp_path / "out")
    card = registry.get(name)
    sizes = {split: len(card.items(tmp_path / "out", split)) for split in ("train", "val", "trainval", "test")}
    assert sizes == {"train": 27, "val": 3, "trainval": 30, "test": 12}
    for item in card.items(tmp_path / "out", "test"):
        assert isinstance(item.image, Path) and ids[item.label] == int(item.image.parent.name.partition(".")[0])
    assert "not VPT's" in (tmp_path / "out" / folder / "ORIGIN.txt").read_text()
    with pytest.raises(DataError, match="exists already"):
        convert(name, tmp_path / "raw", tmp_path / "out")


def test_a_bird_without_a_class_is_named(tmp_path: Path) -> None:
    birds(tmp_path, [1, 2], "CUB_200_2011")
    file = tmp_path / "CUB_200_2011/image_class_labels.txt"
    listing(file, file.read_text().splitlines()[1:])
    with pytest.raises(DataError, match="image u-27 has no class or no split"):
        convert("cub", tmp_path, tmp_path / "out")


def cells(values: list[str]) -> Any:
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def test_dogs_are_read_from_matlab_cells(tmp_path: Path) -> None:
    breeds = ["n02085620-Chihuahua", "n02086240-Shih-Tzu"]
    for split, count in (("train", 20), ("test", 6)):
        paths = [f"{breeds[i % 2]}/{breeds[i % 2][:9]}_{split}{i}.jpg" for i in range(count)]
        for path in paths:
            picture(tmp_path / "raw/Images" / path)
        found = {"file_list": cells(paths), "labels": np.array([[i % 2 + 1] for i in range(count)])}
        savemat(tmp_path / "raw" / f"{split}_list.mat", found)
    convert("stanford_dogs", tmp_path / "raw", tmp_path / "out")
    card = registry.get("stanford_dogs")
    items = card.items(tmp_path / "out", "train")
    assert len(items) == 18 and {item.label for item in items} == {0, 1}
    first, *_ = json.loads((tmp_path / "out/Stanford-dogs/test.json").read_text())
    assert first.startswith("n02085620-Chihuahua/")


@pytest.mark.parametrize("form", ["car_ims", "devkit"])
def test_cars_are_read_in_both_forms(form: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    if form == "car_ims":
        rows = [(f"car_ims/{i:06d}.jpg", i % 2 + 1, int(i >= 20)) for i in range(26)]
        for path, _, _ in rows:
            picture(raw / path)
        kind = [("relative_im_path", object), ("class", object), ("test", object)]
        savemat(raw / "cars_annos.mat", {"annotations": np.array([rows], dtype=kind)})
    else:
        kind = [("class", object), ("fname", object)]
        for split, count, file in (
            ("train", 20, "devkit/cars_train_annos.mat"),
            ("test", 6, "cars_test_annos_withlabels.mat"),
        ):
            for i in range(count):
                picture(raw / f"cars_{split}" / f"{i:05d}.jpg")
            (raw / file).parent.mkdir(parents=True, exist_ok=True)
            rows = [(i % 2 + 1, f"{i:05d}.jpg") for i in range(count)]  # type: ignore[misc]
            savemat(raw / file, {"annotations": np.array([rows], dtype=kind)})
    convert("stanford_cars", raw, tmp_path / "out")
    card = registry.get("stanford_cars")
    assert [len(card.items(tmp_path / "out", split)) for split in ("train", "val", "test")] == [18, 2, 6]


def test_flowers_keep_their_official_validation_split(tmp_path: Path) -> None:
    from datasets.standins.raw import write_raw

    raw = write_raw("oxford_flowers102", tmp_path)
    convert("flowers_fgvc", raw, tmp_path / "out")
    card = registry.get("flowers_fgvc")
    assert [len(card.items(tmp_path / "out", split)) for split in ("train", "val", "test")] == [136, 40, 40]
    assert "not VPT's" not in (tmp_path / "out/OxfordFlower/ORIGIN.txt").read_text()


def test_what_needs_no_conversion_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagenet1k needs no conversion"):
        convert("imagenet1k", tmp_path, tmp_path)
