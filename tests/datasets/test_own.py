"""A user's own folder: the forms that are read, how they are divided, and everything that is told of what is wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.card import DataError
from datasets.images import open_rgb
from datasets.own import keep, note
from datasets.own.divide import divide
from datasets.own.scan import Known, scan


def draw(file: Path, seed: int) -> None:
    """A small picture that no other seed makes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(file)


@pytest.fixture
def fruits(tmp_path: Path) -> Path:
    """Ten apples and five pears."""
    for i in range(10):
        draw(tmp_path / "fruits" / "apple" / f"{i}.png", i)
    for i in range(5):
        draw(tmp_path / "fruits" / "pear" / "deep" / f"{i}.PNG", 100 + i)
    return tmp_path / "fruits"


def test_class_folders_are_divided_by_class(fruits: Path) -> None:
    found = scan(fruits)
    photos = divide(found)
    assert found.classes == ["apple", "pear"] and not found.problems
    assert Counter((p.label, p.split) for p in photos) == {
        ("apple", "test"): 2, ("apple", "val"): 2, ("apple", "train"): 6,
        ("pear", "test"): 1, ("pear", "val"): 1, ("pear", "train"): 3}


def test_the_same_pictures_under_other_names_are_the_same_data_set(fruits: Path, tmp_path: Path) -> None:
    first, rows = note.settle(scan(fruits), 0, tmp_path / "a")
    for number, file in enumerate(sorted(fruits.glob("apple/*"))):
        file.rename(file.with_name(f"renamed{9 - number}.png"))
    second, again = note.settle(scan(fruits), 0, tmp_path / "b")
    assert first.name == second.name and first.name.startswith("fruits@")
    assert [(p.sha256, p.split) for p in rows] == [(p.sha256, p.split) for p in again]
    other, _ = note.settle(scan(fruits), 1, tmp_path / "c")  # another draw is another data set
    assert other.name != first.name


def test_given_splits_are_kept_and_only_val_is_drawn(tmp_path: Path) -> None:
    for split, count in (("train", 10), ("test", 4)):
        for i in range(count):
            for label in ("a", "b"):
                draw(tmp_path / split / label / f"{i}.png", sum(map(ord, f"{split}{label}")) * 100 + i)
    found = scan(tmp_path)
    photos = divide(found)
    assert {p.path.split("/")[0] for p in photos if p.split == "test"} == {"test"}
    assert Counter(p.split for p in photos) == {"train": 16, "val": 4, "test": 8}
    assert any("val was drawn" in r for r in found.remarks)


@pytest.mark.parametrize(("name", "text"), [
    ("my.csv", "path,label,split\napple/0.png,A,train\napple/1.png,A,train\napple/2.png,A,test\n"
               "pear/deep/0.PNG,B,train\npear/deep/1.PNG,B,train\npear/deep/2.PNG,B,test\n"),
    ("my.tsv", "\ufefflabel\tfile\tsplit\nA\tapple/0.png\ttrain\nA\tapple/1.png\ttraining\nA\tapple/2.png\ttest\n"
               "B\tpear/deep/0.PNG\ttrain\nB\tpear/deep/1.PNG\ttrain\nB\tpear/deep/2.PNG\ttest\n"),
    ("my.jsonl", "".join(json.dumps({"image": p, "class": c, "subset": s}) + "\n" for p, c, s in [
        ("apple/0.png", "A", "train"), ("apple/1.png", "A", "train"), ("apple/2.png", "A", "test"),
        ("pear/deep/0.PNG", "B", "train"), ("pear/deep/1.PNG", "B", "train"), ("pear/deep/2.PNG", "B", "test")]))])
def test_a_list_is_read_in_three_forms(fruits: Path, name: str, text: str) -> None:
    (fruits / name).write_text(text, encoding="utf-8")
    found = scan(fruits / name)
    photos = divide(found)
    assert not found.problems and found.name == "fruits" and found.classes == ["A", "B"]
    assert Counter(p.split for p in photos) == {"train": 2, "val": 2, "test": 2}


def test_everything_that_is_wrong_is_told_together(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            for i in range(4):
                draw(tmp_path / split / label / f"{i}.png", sum(map(ord, f"{split}{label}")) * 100 + i)
    (tmp_path / "train" / "a" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "test" / "b" / "copy.png").write_bytes((tmp_path / "train" / "b" / "0.png").read_bytes())
    (tmp_path / "train" / "a" / "other.png").write_bytes((tmp_path / "train" / "b" / "1.png").read_bytes())
    draw(tmp_path / "train" / "lonely" / "0.png", 1)
    draw(tmp_path / "test" / "unseen" / "0.png", 2)
    with pytest.raises(DataError) as error:
        note.settle(scan(tmp_path), 0, tmp_path / "notes")
    told = str(error.value)
    for words in ("train/a/broken.jpg", "cannot be read", "in different splits", "test/b/copy.png",
                  "under different labels", "train/a/other.png", "fewer than three images", "lonely", "unseen"):
        assert words in told, words
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize(("row", "words"), [
    ("../outside.png,A", "leaves the folder"), ("apple/99.png,A", "does not exist"), (",A", "path is empty"),
    ("apple/0.png,", "label is empty"), ("apple/0.png,A,holdout", "is none of train, val, test"),
])
def test_a_bad_row_is_named(fruits: Path, row: str, words: str) -> None:
    (fruits / "my.csv").write_text(f"path,label,split\napple/1.png,A\n{row}\n")
    found = scan(fruits / "my.csv")
    found.judge_unreadable(aside=False)
    assert any(words in problem for problem in found.problems), found.problems


@pytest.mark.parametrize("make", ["empty", "file", "nothing", "columns", "one class"])
def test_what_is_no_folder_of_images_gets_one_sentence(tmp_path: Path, make: str) -> None:
    place = tmp_path / "x"
    if make == "empty":
        place.mkdir()
    elif make == "file":
        place = tmp_path / "x.zip"
        place.write_bytes(b"")
    elif make == "columns":
        place = tmp_path / "x.csv"
        place.write_text("a,b\n1,2\n")
    elif make == "one class":
        for i in range(5):
            draw(place / "only" / f"{i}.png", i)
    with pytest.raises(DataError) as error:
        note.settle(scan(place), 0, tmp_path / "notes")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_equal_images_are_told_with_what_to_do(fruits: Path) -> None:
    (fruits / "pear" / "x.png").write_bytes((fruits / "apple" / "0.png").read_bytes())
    found = scan(fruits)
    divide(found)
    assert found.problems == ["1 image stands under different labels with equal content, first apple/0.png and "
                              "pear/x.png; keep each under the label that is right and remove the other file or row"]


def test_a_class_folder_without_an_image_and_images_without_a_class_are_told(fruits: Path) -> None:
    (fruits / "plum").mkdir()
    (fruits / "fig").mkdir()
    (fruits / "fig" / "0.png").write_bytes(b"?")
    draw(fruits / "loose.png", 7)
    remarks = scan(fruits).remarks
    assert "fig, plum have no image that can be read and are no classes" in remarks
    assert "1 image lies in no class folder, left aside: loose.png" in remarks
    (problem,) = scan(fruits / "pear" / "deep").problems
    assert problem.startswith("the images of deep/ lie in no class folder; expected there: class folders")


@pytest.mark.parametrize("inside", ["class folders", "splits", "list", "two levels"])
def test_a_folder_that_lies_too_deep_is_named(fruits: Path, tmp_path: Path, inside: str) -> None:
    home = tmp_path / "un packed"
    deep = home / "fruits" / ("images" if inside == "two levels" else "")
    deep.parent.mkdir(parents=True)
    (home / "__MACOSX").mkdir()
    (home / "LICENSE.txt").write_text("mine")
    fruits.rename(deep)
    if inside == "splits":
        for split in ("train", "test"):
            shutil.copytree(deep / "apple", deep / split / "apple")
        shutil.rmtree(deep / "apple")
        shutil.rmtree(deep / "pear")
    elif inside == "list":
        (deep / "my.csv").write_text("path,label\n")
    with pytest.raises(DataError) as error:
        scan(home)
    assert str(error.value).startswith("un packed/ has no class folders but one folder, fruits/")
    assert str(error.value).endswith(f"; give 'folder:{deep}'")


def test_class_folders_too_deep_in_a_split_are_told(fruits: Path, tmp_path: Path) -> None:
    fruits.rename(tmp_path / "images")
    (tmp_path / "train").mkdir()
    (tmp_path / "images").rename(tmp_path / "train" / "images")
    with pytest.raises(DataError, match=r"^train/ has no class folders but one folder, images/, in which they lie "
                                        r"\(apple, pear\); move them up$"):
        scan(tmp_path)


def test_one_class_whose_images_lie_in_one_folder_stays_one_class(tmp_path: Path) -> None:
    for i in range(4):
        draw(tmp_path / "only" / "deep" / f"{i}.png", i)
    found = scan(tmp_path)
    divide(found)
    assert found.problems == ["there is one class only (only); a classifier needs two or more"]


def test_unequal_classes_are_told(tmp_path: Path) -> None:
    for i in range(30):
        draw(tmp_path / "many" / f"{i}.png", i)
    for i in range(5):
        draw(tmp_path / "few" / f"{i}.png", 100 + i)
    found = scan(tmp_path)
    divide(found)
    assert any("86%" in r and "macro-F1" in r for r in found.remarks), found.remarks


def test_a_second_look_decodes_nothing(fruits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: Known = {}
    first = scan(fruits, known)
    monkeypatch.setattr("datasets.own.scan.open_rgb", lambda file: pytest.fail("decoded again"))
    assert scan(fruits, known).photos == first.photos


def test_an_image_that_changed_after_it_was_noted_is_refused(fruits: Path, tmp_path: Path) -> None:
    card, _ = note.settle(scan(fruits), 0, tmp_path / "notes")
    item = card.items(tmp_path / "notes", "test")[0]
    open_rgb(item.image)
    draw(item.image.file, 999)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="has changed"):
        open_rgb(item.image)


def test_splits_are_written_only_on_demand_and_read_back_the_same(fruits: Path, tmp_path: Path) -> None:
    before = sorted(p.name for p in fruits.rglob("*"))
    card, photos = note.settle(scan(fruits), 0, tmp_path / "notes")
    assert sorted(p.name for p in fruits.rglob("*")) == before
    file = keep.write_split(fruits, photos)
    again, _ = note.settle(scan(file), 0, tmp_path / "notes")
    assert again.name == card.name
    with pytest.raises(DataError, match="exists already"):
        keep.write_split(fruits, photos)


def test_a_card_for_keeping_reads_the_same_images(fruits: Path, tmp_path: Path) -> None:
    card, _ = note.settle(scan(fruits), 0, tmp_path / "notes")
    package = tmp_path / "package"
    package.mkdir()
    files = keep.write_card("fruit_bowl", card, tmp_path / "notes", package)
    compile(files[0].read_text(), "card", "exec")
    kept = keep.kept(files[1], "Fruits", "https://example.org", "mine", "")
    for split in ("train", "val", "test", "trainval"):
        assert ([(i.image.name, i.label) for i in kept.items(package, split)]  # type: ignore[union-attr]
                == [(i.image.name, i.label) for i in card.items(tmp_path / "notes", split)])  # type: ignore[union-attr]
    with pytest.raises(DataError, match="exists already"):
        keep.write_card("fruit_bowl", card, tmp_path / "notes", package)
    with pytest.raises(DataError, match="small letters"):
        keep.write_card("Fruit-Bowl", card, tmp_path / "notes", package)
