"""Few-shot lists, ImageNet under shift, DomainNet, PACE's HDF5 form."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from little_files import listing, picture
from scipy.io import savemat

from datasets import registry, standins
from datasets.card import Card, DataError
from datasets.check import check
from datasets.domainnet import derive
from datasets.imagenet import wnids
from datasets.images import content_hash, open_rgb
from datasets.shift import ALEXNET_ERROR, CORRUPTIONS, SEVERITIES, masks, mean_corruption_error
from datasets.vtab.export import LISTS

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "data" / "vectors.json").read_text())




def test_the_fewshot_suite_is_five_sets_five_shots_three_seeds() -> None:
    cards = registry.cards("fewshot")
    assert len(cards) == 75
    assert Counter(card.facts["set"] for card in cards) == dict.fromkeys(
        ("food101", "cars", "flowers102", "aircraft", "pets"), 15
    )
    lines = {card.name: card.splits["train"] for card in cards if card.facts["shots"] == "16"}
    assert {lines[f"{name}_16shot_s1"] for name in ("food101", "cars", "flowers102", "aircraft", "pets")} == {
        1616, 3136, 1632, 1600, 592
    }  # fmt: skip


@pytest.fixture
def pets_lists(tmp_path: Path) -> Path:
    base = tmp_path / "oxford-pets"
    for i in range(37):
        picture(base / "images" / f"Breed {i}_1.jpg", i)
        picture(base / "images" / f"Breed {i}_2.jpg", i + 100)
    rows = [f"Breed {i}_1.jpg {i}" for i in range(36, -1, -1)]
    listing(base / "annotations/train_meta.list.num_shot_1.seed_0", [row for row in rows for _ in range(2)])
    listing(base / "annotations/val_meta.list", rows[:5])
    listing(base / "annotations/test_meta.list", [f"Breed {i}_2.jpg {i}" for i in range(37)])
    return tmp_path


def test_doubled_lines_count_once_names_hold_spaces_and_trainval_is_train(pets_lists: Path) -> None:
    card = registry.get("pets_1shot_s0")
    train = card.items(pets_lists, "train")
    assert len(train) == card.splits["train"] == 37 and train[0].label == 36
    assert card.items(pets_lists, "trainval") == train
    assert len(card.items(pets_lists, "val")) == 5 and len(card.items(pets_lists, "test")) == 37


def test_a_fewshot_list_without_a_class_is_refused(pets_lists: Path) -> None:
    file = pets_lists / "oxford-pets/annotations/train_meta.list.num_shot_1.seed_0"
    listing(file, file.read_text().splitlines()[4:])
    with pytest.raises(DataError, match="has no image of 2 of the 37 classes"):
        registry.get("pets_1shot_s0").items(pets_lists, "train")
    with pytest.raises(DataError, match=r"num_shot_2\.seed_0 is missing; expected there: NOAH's lists"):
        registry.get("pets_2shot_s0").items(pets_lists, "train")


def test_cars_lists_are_joined_to_the_data_sets_root(tmp_path: Path) -> None:
    base = tmp_path / "standford-cars"
    for i in range(196):
        picture(base / "cars_test" / f"{i:05d}.jpg")
    listing(base / "annotations/test_meta.list", [f"cars_test/{i:05d}.jpg {i}" for i in range(196)])
    assert len(registry.get("cars_4shot_s2").items(tmp_path, "test")) == 196


# shift


def test_masks_and_alexnets_errors_are_those_of_the_spec() -> None:
    assert {name: list(labels) for name, labels in masks().items()} == {
        name: VECTORS[name] for name in ("imagenet_a", "imagenet_r")
    }
    assert len(set(masks()["imagenet_a"]) & set(masks()["imagenet_r"])) == 86
    assert VECTORS["alexnet_error"] == ALEXNET_ERROR


def test_mce_is_100_percent_for_alexnet_and_needs_every_cell() -> None:
    errors = {name: dict.fromkeys(SEVERITIES, ALEXNET_ERROR[name]) for name in CORRUPTIONS}
    assert mean_corruption_error(errors) == pytest.approx(1.0)
    errors["fog"] = {level: ALEXNET_ERROR["fog"] * level / 3 for level in SEVERITIES}
    assert mean_corruption_error(errors) == pytest.approx(1.0), "severities are averaged before the ratio"
    errors["snow"] = dict.fromkeys(SEVERITIES, 0.0)
    assert mean_corruption_error(errors) == pytest.approx(14 / 15)
    del errors["frost"][5]
    with pytest.raises(DataError, match="1 are absent, first frost 5"):
        mean_corruption_error(errors)


def test_imagenet_v2_folders_are_numbers_not_text(tmp_path: Path) -> None:
    for label in (0, 1, 2, 10, 100, 999):
        picture(tmp_path / "imagenetv2-matched-frequency-format-val" / str(label) / "ab.jpeg")
    items = registry.get("imagenetv2").items(tmp_path, "test")
    assert [item.label for item in items] == [0, 1, 2, 10, 100, 999]
    with pytest.raises(DataError, match="this set is for testing only"):
        registry.get("imagenetv2").items(tmp_path, "train")
    picture(tmp_path / "imagenetv2-matched-frequency-format-val" / "1000" / "ab.jpeg")
    with pytest.raises(DataError, match="no label from 0 to 999"):
        registry.get("imagenetv2").items(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "place"),
    [("imagenet_sketch", "imagenet-sketch/sketch"), ("imagenet_a", "imagenet-a"), ("imagenet_r", "imagenet-r"),
     ("imagenet_a", "imagenet-adversarial/imagenet-a"), ("imagenet_c_fog_3", "imagenet-c/fog/3")],
)  # fmt: skip
def test_subsets_keep_the_labels_of_the_thousand(name: str, place: str, tmp_path: Path) -> None:
    for label in (6, 90, 951):
        picture(tmp_path / place / wnids()[label] / "some name 0.1_x.jpg")
    (tmp_path / place / "README.txt").write_text("hello")
    assert [item.label for item in registry.get(name).items(tmp_path, "test")] == [6, 90, 951]


def test_imagenet_c_has_19_corruptions_of_five_severities() -> None:
    cards = [card for card in registry.cards("shift") if card.name.startswith("imagenet_c_")]
    assert len(cards) == 95 and sum(card.note.endswith("; part of mCE") for card in cards) == 75


def test_the_16_shot_list_trains_on_train_and_tests_on_flat_val(tmp_path: Path) -> None:
    base = tmp_path / "imagenet"
    picture(base / "train/n01440764/n01440764_1.JPEG")
    picture(base / "val/ILSVRC2012_val_00000001.JPEG")
    listing(base / "annotations/train_meta.list.num_shot_16.seed_0", ["n01440764/n01440764_1.JPEG 0"])
    listing(base / "annotations/test_meta.list", ["ILSVRC2012_val_00000001.JPEG 65"])
    card = registry.get("imagenet1k_16shot_s0")
    assert [item.label for split in ("train", "test") for item in card.items(tmp_path, split)] == [0, 65]


@pytest.mark.parametrize("place", ["", "data", "ILSVRC2012_devkit_t12/data"])
def test_a_flat_val_folder_is_labelled_by_the_development_kit_through_the_wnid(place: str, tmp_path: Path) -> None:
    base = tmp_path / "imagenet"
    kit = base / place
    kit.mkdir(parents=True, exist_ok=True)
    for i in (1, 2, 3):
        picture(base / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    rows = [(1, wnids()[151], "Chihuahua"), (2, wnids()[0], "tench"), (3, wnids()[999], "tissue")]
    savemat(kit / "meta.mat", {"synsets": np.array([rows], dtype=kind)})
    listing(kit / "ILSVRC2012_validation_ground_truth.txt", ["3", "1", "2"])
    card = registry.get("imagenet1k")
    assert [item.label for item in card.items(tmp_path, "test")] == [999, 151, 0], "devkit ids are not labels"
    listing(kit / "ILSVRC2012_validation_ground_truth.txt", ["3", "1"])
    with pytest.raises(DataError, match="lists 2 labels for 3 images"):
        card.items(tmp_path, "test")
    listing(kit / "ILSVRC2012_validation_ground_truth.txt", ["3", "1", "77"])
    with pytest.raises(DataError, match=r"ground_truth\.txt:3: '77' is no id of meta\.mat"):
        card.items(tmp_path, "test")
    (kit / "meta.mat").unlink()
    with pytest.raises(DataError, match="val holds no wnid folders; a flat one needs"):
        card.items(tmp_path, "test")


# DomainNet


@pytest.fixture
def domainnet(tmp_path: Path) -> Path:
    base = tmp_path / "domainnet"
    for domain in ("real", "sketch"):
        rows = []
        for i in range(40):
            path = f"{domain}/class_{i % 2}/{domain}_{i % 2:03d}_{i:06d}.jpg"
            picture(base / path)
            rows.append(f"{path} {i % 2}")
        listing(base / f"{domain}_train.txt", rows[:30])
        listing(base / f"{domain}_test.txt", rows[30:])
    return tmp_path


def test_domainnet_trains_on_real_and_only_tests_elsewhere(domainnet: Path) -> None:
    card = registry.get("domainnet_real")
    train, val, both = (card.items(domainnet, split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val), len(both)) == (28, 2, 30) and not set(train) & set(val)
    assert len(registry.get("domainnet_sketch").items(domainnet, "test")) == 10
    with pytest.raises(DataError, match="no split is called 'train'; there are: test"):
        registry.get("domainnet_sketch").items(domainnet, "train")
    with pytest.raises(DataError):
        registry.get("domainnet_quickdraw")


def test_a_share_keeps_val_and_takes_part_of_train(domainnet: Path) -> None:
    whole, half = registry.get("domainnet_real"), registry.get("domainnet_real_50")
    assert half.items(domainnet, "val") == whole.items(domainnet, "val")
    assert len(half.items(domainnet, "train")) == 14
    assert set(half.items(domainnet, "train")) < set(whole.items(domainnet, "train"))
    items = list(whole.items(domainnet, "trainval"))
    assert derive(items[::-1], 50)[0] == derive(items, 50)[0][::-1], "the order of the list is no matter"


def test_tpgms_own_lists_are_preferred(domainnet: Path) -> None:
    rows = (domainnet / "domainnet/real_train.txt").read_text().splitlines()
    listing(domainnet / "domainnet/real_train_1_percent_split.txt", rows[:3])
    listing(domainnet / "domainnet/real_val_1_percent_split.txt", rows[3:8])
    card = registry.get("domainnet_real_1")
    assert [len(card.items(domainnet, split)) for split in ("train", "val")] == [3, 5]


# PACE's HDF5 form


def packed(name: str, root: Path) -> Path:
    """`images.hdf5` of an export: a group per split, a vector of uint8 per file name."""
    import h5py

    card = registry.get(name)
    with h5py.File(root / card.folder / "images.hdf5", "w") as handle:
        for split, group in LISTS.items():
            for item in card.items(root, split):
                assert isinstance(item.image, Path)
                data = np.frombuffer(item.image.read_bytes(), np.uint8)
                handle.create_dataset(f"{group}/{item.image.name}", data=data)
    return root / card.folder / "images.hdf5"


@pytest.mark.parametrize("storage", ["uint8", "string"])
def test_an_export_packed_into_hdf5_reads_like_its_files(storage: str, data_root: Path, tmp_path: Path) -> None:
    import h5py

    shutil.copytree(data_root / "dtd", tmp_path / "dtd")
    card = registry.get("dtd")
    before = {split: content_hash(card.items(tmp_path, split)) for split in ("train", "test")}
    file = packed("dtd", tmp_path)
    if storage == "string":  # as PACE wrote it
        with h5py.File(file, "r+") as handle:
            for group in list(handle):
                for name in list(handle[group]):
                    data = handle[group][name][()].tobytes()
                    del handle[group][name]
                    handle[group].create_dataset(name, data=np.bytes_(data))
    shutil.rmtree(tmp_path / "dtd/images")
    assert {split: content_hash(card.items(tmp_path, split)) for split in ("train", "test")} == before
    listing(tmp_path / "dtd/val200.txt", ["images/val200/999999.jpg 3", "../x.jpg 3"])
    with pytest.raises(DataError, match=r"val200\.txt:2: '\.\./x\.jpg' leaves the folder"):
        card.items(tmp_path, "val")
    listing(tmp_path / "dtd/val200.txt", ["images/val200/999999.jpg 3"])
    with pytest.raises(DataError, match=r"images\.hdf5 holds no 'val200/999999\.jpg'"):
        open_rgb(card.items(tmp_path, "val")[0].image)


# stand-ins of the suites


SUITE_CARDS = registry.cards("fewshot", "shift")


@pytest.mark.parametrize("card", SUITE_CARDS, ids=lambda card: card.name)
def test_every_card_of_the_suites_reads_its_standin(card: Card, suite_root: Path) -> None:
    splits = {split: card.items(suite_root, split) for split in card.splits}
    assert all(splits.values()) and {item.label for item in splits["test"]} >= {
        item.label for item in splits.get("train", ())
    }
    if card.group == "fewshot":
        assert len(splits["train"]) == 8 * int(card.facts["shots"])
        assert not {item.image for item in splits["train"]} & {item.image for item in splits["test"]}
    assert open_rgb(splits["test"][0].image).size in ((64, 64), (48, 48))


@pytest.mark.parametrize(
    "name", ["food101_4shot_s1", "imagenet_c_fog_2", "imagenetv2", "domainnet_real_5", "imagenet1k_16shot_s0"]
)
def test_check_finds_nothing_wrong_with_them(name: str, suite_root: Path) -> None:
    assert check(name, suite_root) == []


def test_shots_are_not_nested_and_pets_one_shot_is_doubled(suite_root: Path) -> None:
    items = {shots: set(registry.get(f"aircraft_{shots}shot_s0").items(suite_root, "train")) for shots in (1, 2, 4, 8)}
    assert not (items[1] <= items[2] <= items[4] <= items[8])
    rows = (suite_root / "oxford-pets/annotations/train_meta.list.num_shot_1.seed_0").read_text().splitlines()
    assert len(rows) == 16 and len(set(rows)) == 8


def test_cards_that_share_a_folder_share_their_hash_and_others_do_not() -> None:
    assert standins.standin_hash("imagenet_c_fog_1") == standins.standin_hash("imagenet_c_snow_5")
    assert standins.standin_hash("imagenet1k_16shot_s2") == standins.standin_hash("imagenet1k")
    assert standins.standin_hash("food101_1shot_s0") != standins.standin_hash("pets_1shot_s0")
