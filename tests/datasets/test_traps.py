"""Every trap file of the data layer in every layout that lists folders; paths in raw tables that lead elsewhere."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import registry
from datasets.card import DataError, Item
from datasets.check import check
from datasets.convert import convert
from datasets.images import open_rgb
from datasets.raw import fewshot, fgvc
from datasets.standins.raw import FINE_WRITERS, VTAB_WRITERS
from datasets.vtab.cut import vtab1k
from datasets.vtab.raw import RAW

SIDE = (12, 10)
RED = Image.new("RGB", SIDE, (200, 30, 40))


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def readable() -> dict[str, bytes]:
    """Files that are no plain RGB JPEG and must be read all the same."""
    return {
        "grey.jpg": encoded(RED.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(RED.convert("CMYK"), "JPEG"),
        "rgba.jpg": encoded(RED.convert("RGBA"), "PNG"),
        "gif.jpg": encoded(RED, "GIF"),
        "bmp.jpg": encoded(RED, "BMP"),
        "name with spaces.jpg": encoded(RED, "JPEG"),
        "upper.JPEG": encoded(RED, "JPEG"),
    }


JUNK = ("Thumbs.db", "._x.jpg", ".DS_Store", "README.txt")

# data set -> a class folder of it below the data root, its label
FOLDERS = {
    "imagenet1k": ("imagenet/val/n01440764", 0),
    "imagenetv2": ("imagenetv2-matched-frequency-format-val/17", 17),
    "imagenet_sketch": ("imagenet-sketch/sketch/n01443537", 1),
    "imagenet_a": ("imagenet-a/n01498041", 6),
    "imagenet_r": ("imagenet-r/n01443537", 1),
    "imagenet_c_fog_1": ("imagenet-c/fog/1/n01440764", 0),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_class_folders_take_odd_images_and_pass_over_junk_and_empty_folders(name: str, tmp_path: Path) -> None:
    place, label = FOLDERS[name]
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for file, data in readable().items():
        (folder / file).write_bytes(data)
    for file in JUNK:
        (folder / file).write_bytes(b"junk")
    (folder.parent / ("n01484850" if folder.name.startswith("n") else "18")).mkdir()
    found = registry.get(name).items(tmp_path, "test")
    assert [Path(str(item.image)).name for item in found] == sorted(readable()) and {i.label for i in found} == {label}
    assert {(open_rgb(item.image).mode, open_rgb(item.image).size) for item in found} == {("RGB", SIDE)}


@pytest.mark.parametrize("name", ["eurosat", "resisc45", "caltech101"])
def test_raw_class_folders_do_too(name: str, tmp_path: Path) -> None:
    place = {"eurosat": "2750/Forest", "resisc45": "NWPU-RESISC45/airplane",
             "caltech101": "101_ObjectCategories/anchor"}[name]  # fmt: skip
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for file, data in readable().items():
        (folder / file).write_bytes(data)
    for file in (*JUNK, "tmp"):
        (folder / file).write_bytes(b"junk")
    (folder.parent / {"eurosat": "River", "resisc45": "wetland", "caltech101": "ant"}[name]).mkdir()
    (pool,) = RAW[name].read(tmp_path).values()
    assert sorted(str(record.key).replace("_", "/").split("/", 1)[1] for record in pool) == sorted(readable())
    assert all(open_rgb(record.image).mode == "RGB" for record in pool)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A few-shot folder whose test list names every odd file."""
    base = tmp_path / "oxford-pets"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    (base / ".standin.json").write_text("{}")
    for name, data in readable().items():
        (base / "images" / name).write_bytes(data)
    (base / "annotations/test_meta.list").write_text("".join(f"{name} 3\n" for name in readable()))
    return tmp_path


def test_lists_take_odd_images(shots: Path) -> None:
    found = registry.get("pets_1shot_s0").items(shots, "test")
    assert len(found) == len(readable()) and all(open_rgb(item.image).size == SIDE for item in found)


def test_a_truncated_jpeg_is_named_and_the_others_are_read(shots: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    (shots / "oxford-pets/images/grey.jpg").write_bytes(encoded(noise, "JPEG")[:700])
    found = registry.get("pets_1shot_s0").items(shots, "test")
    with pytest.raises(DataError, match=r"grey\.jpg cannot be read as an image: "):
        open_rgb(found[0].image)
    assert all(open_rgb(item.image).size == SIDE for item in found[1:])
    said = [problem.text for problem in check("pets_1shot_s0", shots)]
    assert sum("cannot be read as an image" in text for text in said) == 1


# paths in raw tables


def replaced(file: Path, old: str, new: str) -> None:
    data = file.read_text()
    assert old in data
    file.write_text(data.replace(old, new, 1))


def first_word(file: Path, line: int = 0) -> str:
    return file.read_text().splitlines()[line].split()[0]


def _cub(raw: Path) -> None:
    path = (raw / "CUB_200_2011/images.txt").read_text().splitlines()[7].split()[1]
    replaced(raw / "CUB_200_2011/images.txt", path, "../../../secret.jpg")


def _dtd(raw: Path) -> None:
    file = raw / "dtd/labels/train1.txt"
    row = first_word(file)
    replaced(file, row, row.split("/")[0] + "/../../../../secret.jpg")


def _pets(raw: Path) -> None:
    file = raw / "annotations/trainval.txt"
    replaced(file, first_word(file, 5), "../../secret")


def _sun397(raw: Path) -> None:
    file = raw / "sun397_tfds_tr.txt"
    row = first_word(file)
    scene = row.rpartition("/")[0]
    (raw / "SUN397" / row[1:]).unlink()
    (raw / "SUN397" / row[1:]).symlink_to(raw.parent / "secret.jpg")
    assert scene


def _clevr(raw: Path) -> None:
    replaced(raw / "CLEVR_v1.0/scenes/CLEVR_train_scenes.json", "CLEVR_train_000003.png", "../../../../secret.jpg")


def _aircraft(raw: Path) -> None:
    file = raw / "fgvc-aircraft-2013b/data/images_variant_train.txt"
    replaced(file, first_word(file), "../../../../secret")


def _flowers(raw: Path) -> None:
    (raw / "jpg/image_00007.jpg").unlink()
    (raw / "jpg/image_00007.jpg").symlink_to(raw.parent / "secret.jpg")


ESCAPES: dict[str, Callable[[Path], None]] = {
    "cub": _cub, "dtd": _dtd, "oxford_iiit_pet": _pets, "sun397": _sun397, "clevr_count": _clevr,
    "aircraft_4shot_s0": _aircraft, "oxford_flowers102": _flowers, "flowers_fgvc": _flowers, "pets_1shot_s0": _pets,
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_raw_table_that_leads_out_is_refused_and_nothing_is_written(
    name: str, raw_root: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    key = registry.get(name).facts.get("set", name)
    shutil.copytree(raw_root / (VTAB_WRITERS | FINE_WRITERS)[key][0], raw)
    (tmp_path / "secret.jpg").write_bytes(encoded(RED, "JPEG"))
    ESCAPES[name](raw)
    before = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in (path, *path.parents)}
    with pytest.raises(DataError, match="leaves the folder of the data set"):
        (vtab1k if name in RAW else convert)(name, raw, tmp_path / "out")
    after = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in (path, *path.parents)}
    assert after == before and not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_every_reader_of_raw_tables_goes_through_the_tree(raw_root: Path) -> None:
    """What the readers hand out lies below the raw root, links followed."""
    for key in (*fgvc.READERS, *fewshot.READERS, *RAW):
        root = raw_root / (VTAB_WRITERS | FINE_WRITERS)[key][0]
        if key in RAW:
            images = [Item(r.image, r.label).image for records in RAW[key].read(root).values() for r in records[:3]]
        elif key in fewshot.READERS:
            images = [one.source for found in fewshot.READERS[key](root).values() for one in found[:3]]
        else:
            images = []
        assert all(image.resolve().is_relative_to(root.resolve()) for image in images if isinstance(image, Path))
