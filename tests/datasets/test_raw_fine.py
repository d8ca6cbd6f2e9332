"""The raw forms of the fine-grained and few-shot sets and of ImageNet: read, converted, and the same at both ends."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from datasets import registry
from datasets.card import DataError
from datasets.check import check
from datasets.convert import convert
from datasets.fewshot import SEEDS, SHOTS, list_name
from datasets.folder import MARK
from datasets.images import content_hash, open_rgb, to_array
from datasets.raw import fewshot, fgvc
from datasets.standins.raw import FINE_WRITERS, write_raw

SETS = ("food101", "cars", "flowers102", "aircraft", "pets")
FGVC = ("cub", "nabirds", "flowers_fgvc", "stanford_dogs", "stanford_cars")


def converted(name: str, raw: Path, out: Path) -> Path:
    """The list layout, marked as a stand-in's so that counts are not compared with the real set's."""
    folder = convert(name, raw, out)
    (folder / MARK).write_text("{}")
    return folder


@pytest.mark.parametrize("name", FGVC)
def test_fine_grained_tables_become_vpts_files_of_the_same_pictures(name: str, raw_root: Path, tmp_path: Path) -> None:
    raw = raw_root / FINE_WRITERS[name][0]
    converted(name, raw, tmp_path)
    card, official = registry.get(name), fgvc.READERS[name](raw)
    rank = {identifier: label for label, identifier in enumerate(sorted({i for _, i in official["train"]}))}
    test = card.items(tmp_path, "test")
    assert [item.label for item in test] == [rank[identifier] for _, identifier in official["test"]]
    base = next(b for b in (raw, *sorted(raw.iterdir())) if (b / official["test"][0][0]).is_file())
    for item, (path, _) in list(zip(test, official["test"], strict=True))[::11]:
        assert isinstance(item.image, Path)
        assert (to_array(open_rgb(item.image)) == to_array(open_rgb(base / path))).all()
    kept = official["train"] + official.get("val", [])
    assert len(card.items(tmp_path, "trainval")) == len(kept)


def test_the_older_form_of_cars_reads_too(raw_root: Path, tmp_path: Path) -> None:
    converted("stanford_cars", raw_root / "stanford_cars" / "older", tmp_path)
    assert len({item.label for item in registry.get("stanford_cars").items(tmp_path, "test")}) == 8


def test_imagenets_flat_validation_folder_is_labelled_through_the_kit(raw_root: Path) -> None:
    card = registry.get("imagenet1k")
    sizes = {split: Counter(item.label for item in card.items(raw_root, split)) for split in card.splits}
    assert sizes["test"] == dict.fromkeys((11, 13, 22, 23, 39, 47, 71, 76), 6)
    assert set(sizes["train"]) == set(sizes["test"]) and sizes["train"][11] + sizes["val"][11] == 20


@pytest.mark.parametrize("key", SETS)
def test_raw_fewshot_sets_become_lists_of_every_size_and_seed(key: str, raw_root: Path, tmp_path: Path) -> None:
    folder = converted(f"{key}_16shot_s0", raw_root / FINE_WRITERS[key][0], tmp_path)
    assert "not NOAH's" in (folder / "ORIGIN.txt").read_text()
    label = {image.path: image.label for images in fewshot.READERS[key](raw_root / FINE_WRITERS[key][0]).values()
             for image in images}  # fmt: skip
    for shots in SHOTS:
        for seed in SEEDS:
            card = registry.get(f"{key}_{shots}shot_s{seed}")
            train = card.items(tmp_path, "train")
            counts = Counter(item.label for item in train)
            assert len(counts) == 8 and max(counts.values()) <= shots
            assert key == "flowers102" or key == "food101" or set(counts.values()) == {shots}
            parts = {split: {item.image for item in card.items(tmp_path, split)} for split in ("train", "val", "test")}
            assert not parts["train"] & parts["test"] and not parts["train"] & parts["val"]
            for item in train:
                assert isinstance(item.image, Path)
                assert label[item.image.relative_to(folder / "images").as_posix()] == item.label
    firsts = {registry.get(f"{key}_1shot_s{seed}").items(tmp_path, "train")[0].image for seed in SEEDS}
    assert len(firsts) > 1, "every seed draws its own"


def test_official_splits_are_kept_where_coop_keeps_them(raw_root: Path) -> None:
    aircraft = fewshot.split(fewshot.aircraft(raw_root / "aircraft"))
    assert {split: len(found) for split, found in aircraft.items()} == {"train": 160, "val": 32, "test": 48}
    pets = fewshot.pets(raw_root / "pets")
    cut = fewshot.split(pets)
    assert {one.path for one in cut["test"]} == {one.path for one in pets["test"]}
    assert {one.path for one in cut["train"] + cut["val"]} == {one.path for one in pets["train"]}


def test_shares_of_a_class_are_half_a_fifth_and_the_rest(tmp_path: Path) -> None:
    """Food-101 has 1,000 images of each class: 50,500, 20,200 and 30,300 are its card's promises over 101 classes."""
    images = [fewshot.Image(f"{i}.jpg", 7, tmp_path) for i in range(1000)]
    cut = fewshot.split({"all": images})
    assert {split: len(found) for split, found in cut.items()} == {"train": 500, "val": 200, "test": 300}
    again = fewshot.split({"all": images[::-1]})
    assert {split: set(found) for split, found in again.items()} == {split: set(found) for split, found in cut.items()}


def test_noahs_own_lists_are_taken_where_they_lie(raw_root: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(raw_root / "pets", raw)
    stems = sorted(file.name for file in (raw / "images").glob("*.jpg"))
    rows = "".join(f"{name} {i % 3}\n" for i, name in enumerate(stems[:9]))
    (raw / "annotations" / list_name("test", 0, 0)).write_text(rows)
    (raw / "annotations" / list_name("train", 1, 0)).write_text(rows)
    folder = converted("pets_1shot_s0", raw, tmp_path / "out")
    assert (folder / "ORIGIN.txt").read_text() == "converted from the raw form; NOAH's lists\n"
    assert len(registry.get("pets_1shot_s0").items(tmp_path / "out", "train")) == 9
    assert sorted(file.name for file in (folder / "annotations").iterdir()) == [
        "test_meta.list", "train_meta.list.num_shot_1.seed_0"]  # fmt: skip
    (raw / "annotations" / list_name("train", 1, 1)).write_text("gone.jpg 3\n")
    with pytest.raises(DataError, match=r"seed_1:1: 'gone\.jpg' does not exist"):
        convert("pets_1shot_s0", raw, tmp_path / "other")
    assert not (tmp_path / "other" / "oxford-pets").exists(), "nothing half written"


def test_what_is_wrong_in_raw_tables_is_named(raw_root: Path, tmp_path: Path) -> None:
    raw = tmp_path / "food"
    shutil.copytree(raw_root / "food101", raw)
    file = raw / "food-101" / "meta" / "train.json"
    listed = json.loads(file.read_text())
    file.write_text(json.dumps(listed | {"unheard_of": ["unheard_of/1"]}))
    with pytest.raises(DataError, match=r"train\.json: 'unheard_of' is no class of classes\.txt"):
        fewshot.food101(raw)
    file.write_text(json.dumps(listed | {"apple_pie": ["../../x"]}))
    with pytest.raises(DataError, match=r"'\.\./\.\./x\.jpg' leaves the folder"):
        fewshot.food101(raw)
    file.write_text("[1, 2]")
    with pytest.raises(DataError, match=r"train\.json cannot be read as an object of class"):
        fewshot.food101(raw)
    raw = tmp_path / "planes"
    shutil.copytree(raw_root / "aircraft", raw)
    table = raw / "fgvc-aircraft-2013b" / "data" / "images_variant_val.txt"
    table.write_text(table.read_text() + "1000037 No Plane\n")
    with pytest.raises(DataError, match=r"images_variant_val\.txt:33: 'No Plane' is no variant"):
        fewshot.aircraft(raw)
    for key in SETS:
        with pytest.raises(DataError, match="is missing; expected there: "):
            fewshot.READERS[key](tmp_path)


def test_names_with_a_slash_are_no_folders_and_a_tenth_of_foods_training_labels_is_wrong(raw_root: Path) -> None:
    data = raw_root / "aircraft" / "fgvc-aircraft-2013b" / "data"
    assert any(row.endswith("F/A-18") for row in (data / "images_variant_train.txt").read_text().splitlines())
    assert {image.label for image in fewshot.aircraft(raw_root / "aircraft")["train"]} >= {40}
    drawn = {int(image.path.split("/")[1].split(".")[0]) // 1000: [] for image in
             fewshot.food101(raw_root / "food101")["all"]}  # fmt: skip
    for image in fewshot.food101(raw_root / "food101")["all"]:
        number = int(image.path.split("/")[1].split(".")[0])
        if number % 1000 < 500:
            drawn[number // 1000].append(image.label)
    wrong = sum(label != true for true, labels in drawn.items() for label in labels)
    assert wrong == 20 and sum(map(len, drawn.values())) == 208


@pytest.mark.parametrize("name", ["cub", "aircraft_16shot_s0"])
def test_a_raw_standin_is_the_same_when_written_again(name: str, raw_root: Path, tmp_path: Path) -> None:
    one = converted(name, write_raw(name, tmp_path / "again"), tmp_path / "a").parent
    other = converted(name, raw_root / write_raw(name, tmp_path / "again").name, tmp_path / "b").parent
    card = registry.get(name)
    assert content_hash(card.items(one, "test")) == content_hash(card.items(other, "test"))


def test_a_converted_set_passes_the_check_but_for_its_size(raw_root: Path, tmp_path: Path) -> None:
    convert("aircraft_16shot_s0", raw_root / "aircraft", tmp_path)
    lists = tmp_path / "fgvc-aircraft" / "annotations"
    assert [problem.text for problem in check("aircraft_16shot_s0", tmp_path)] == [
        f"{lists}/train_meta.list.num_shot_16.seed_0 has no image of 92 of the 100 classes",
        f"{lists}/test_meta.list has no image of 92 of the 100 classes",
        "train has 128 images; expected 1600", "val has 32 images; expected 3333",
        "trainval has 128 images; expected 1600", "test has 48 images; expected 3333",
        "8 classes have images; expected 100", "trainval has images of 8 classes; expected 100"]  # fmt: skip
