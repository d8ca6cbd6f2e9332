"""List layouts: what is read, and every refusal with its text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets import registry
from datasets.card import DataError, Item
from datasets.vtab.export import interleave

NAMES = ("cifar100", "cub", "imagenet1k")


@pytest.fixture
def copy(data_root: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A data root of one's own that holds one set; returns that set's folder."""

    def make(name: str) -> Path:
        folder = registry.get(name).folder
        shutil.copytree(data_root / folder, tmp_path / folder)
        return tmp_path / folder

    return make


def refusal(name: str, root: Path, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        registry.get(name).items(root, split)
    return str(caught.value)


def replace_line(file: Path, number: int, text: str) -> None:
    rows = file.read_text().splitlines()
    rows[number - 1] = text
    file.write_text("\n".join(rows) + "\n")


def test_blocks_of_16_are_taken_in_turn_until_each_list_is_used_up() -> None:
    mixed = interleave(range(800), range(1000, 1200))
    assert mixed[:16] == list(range(16)) and mixed[16:32] == list(range(1000, 1016)) and mixed[32] == 16
    assert sorted(mixed) == [*range(800), *range(1000, 1200)]
    assert mixed[2 * 192 : 2 * 192 + 24] == [*range(192, 208), *range(1192, 1200)]  # the last, shorter block of val


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_root_or_folder_is_named_with_the_layout_expected(name: str, tmp_path: Path) -> None:
    card = registry.get(name)
    said = refusal(name, tmp_path)
    assert str(tmp_path / card.folder) in said and "is missing" in said and card.layout in said
    assert "so is the data root itself" in refusal(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", [*NAMES, "digits"])
def test_an_unknown_split_is_named_with_those_there_are(name: str, data_root: Path) -> None:
    assert refusal(name, data_root, "dev") == "no split is called 'dev'; there are: train, val, trainval, test"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("images/train800/000002.jpg", "expected 'path label', found 'images/train800/000002.jpg'"),
        ("images/train800/000002.jpg x", "expected 'path label'"),
        ("images/train800/000002.jpg -1", "expected 'path label'"),
        ("images/train800/000002.jpg 1.0", "expected 'path label'"),
        ("images/train800/000002.jpg ٣", "expected 'path label'"),
        ("images/train800/000002.jpg 99999999999", "expected 'path label'"),
        ("", "expected 'path label', found ''"),
        (" 3", "expected 'path label'"),
        ("images/train800/000002.jpg 100", "label 100 is out of range; the labels are 0 to 99"),
        ("../../etc/passwd 3", "'../../etc/passwd' leaves the folder of the data set"),
        ("images/../../x.jpg 3", "leaves the folder of the data set"),
        ("/etc/passwd 3", "'/etc/passwd' leaves the folder of the data set"),
        ("C:/x.jpg 3", "leaves the folder of the data set"),
        ("images\\train800\\000002.jpg 3", "is not a path"),
        ("images/train800/nothing.jpg 3", "'images/train800/nothing.jpg' does not exist"),
        ("images/nowhere/000002.jpg 3", "does not exist"),
        ("images/train800 3", "is not a file"),
        ("images/train800/out.jpg 3", "is a link that leaves the folder of the data set"),
        ("linked/secret.jpg 3", "leaves the folder of the data set through the link linked"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line_number(
    line: str, fault: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("cifar100")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    (folder / "images/train800/out.jpg").symlink_to(outside / "secret.jpg")
    (folder / "linked").symlink_to(outside)
    replace_line(folder / "train800.txt", 3, line)
    said = refusal("cifar100", tmp_path)
    assert said.startswith(f"{folder / 'train800.txt'}:3: ") and fault in said


def test_a_link_that_stays_inside_is_followed(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("cifar100")
    (folder / "images/train800/again.jpg").symlink_to("000000.jpg")
    replace_line(folder / "train800.txt", 2, "images/train800/again.jpg 3")
    assert registry.get("cifar100").items(tmp_path, "train")[1] == Item(folder / "images/train800/again.jpg", 3)


def test_windows_line_ends_spaces_in_names_and_no_last_newline_are_read(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("cifar100")
    (folder / "images/train800/000000.jpg").rename(folder / "images/train800/a b.jpg")
    (folder / "val200.txt").write_bytes(b"images/train800/a b.jpg 7\r\nimages/train800/000001.jpg 8")
    assert [item.label for item in registry.get("cifar100").items(tmp_path, "val")] == [7, 8]


def test_lists_that_are_missing_empty_or_no_text_are_named(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("cifar100")
    (folder / "train800.txt").unlink()
    assert f"{folder / 'train800.txt'} is missing; expected there: the VTAB-1k export" in refusal("cifar100", tmp_path)
    (folder / "train800.txt").write_text("")
    assert "train800.txt is empty" in refusal("cifar100", tmp_path)
    (folder / "train800.txt").write_bytes(b"images/train800/\xff\xfe.jpg 3\n")
    assert "train800.txt is not a text file: byte 16 is not UTF-8" in refusal("cifar100", tmp_path)


def test_any_folder_name_in_use_is_found(copy: Callable[[str], Path], tmp_path: Path) -> None:
    copy("cifar100").rename(tmp_path / "cifar100")
    assert len(registry.get("cifar100").items(tmp_path, "test")) == 200


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "must hold one JSON object"),
        ("{}", "must hold one JSON object"),
        ("{", "is not the expected JSON object"),
        ('{"a.jpg": 1, "a.jpg": 2}', "the path 'a.jpg' stands twice"),
        ('{"a.jpg": "x"}', "entry 1, 'a.jpg': the class id is 'x', not a whole number"),
        ('{"a.jpg": 1.5}', "the class id is 1.5"),
        ('{"a.jpg": true}', "the class id is True"),
        ('{"a.jpg": [1]}', "the class id is [1]"),
        ("[" * 100_000, "is not the expected JSON object"),
    ],
)
def test_a_split_file_that_is_no_map_of_ids_is_refused(
    text: str, fault: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("cub")
    (folder / "val.json").write_text(text)
    said = refusal("cub", tmp_path)
    assert said.startswith(str(folder / "val.json")) and fault in said


def test_paths_of_split_files_stay_inside_the_folder(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("cub")
    listed = json.loads((folder / "train.json").read_text())
    second = list(listed)[1]
    listed["../../../../" + second] = listed.pop(second)
    (folder / "train.json").write_text(json.dumps(listed))
    assert "train.json: entry 128: 'images/../../../../" in refusal("cub", tmp_path)
    assert "leaves the folder of the data set" in refusal("cub", tmp_path)


def test_a_class_absent_from_one_file_is_refused_because_peers_would_rank_it_otherwise(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("nabirds")
    listed = {path: label for path, label in json.loads((folder / "val.json").read_text()).items() if label != 313}
    (folder / "val.json").write_text(json.dumps(listed))
    assert f"{folder / 'val.json'} has no image of class id 313 (1 absent)" in refusal("nabirds", tmp_path)


def test_more_classes_than_the_card_promises_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("stanford_dogs")
    for name in ("train", "val", "test"):
        listed = json.loads((folder / f"{name}.json").read_text()) | {f"x{i}.jpg": 1000 + i for i in range(120)}
        (folder / f"{name}.json").write_text(json.dumps(listed))
    assert "the split files name 128 classes; the data set has 120" in refusal("stanford_dogs", tmp_path)


def test_image_roots_are_tried_in_turn(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("stanford_dogs")
    (folder / "Images").rename(folder / "images")
    assert len(registry.get("stanford_dogs").items(tmp_path, "train")) == 128


def test_imagenet_labels_are_ranks_among_the_1000_and_val_is_held_out_of_train(data_root: Path) -> None:
    from datasets.imagenet import hold_out, wnids

    assert len(wnids()) == 1000 and list(wnids()) == sorted(wnids())
    assert (wnids()[0], wnids()[999]) == ("n01440764", "n15075141")
    card = registry.get("imagenet1k")
    train, val, test = (card.items(data_root, split) for split in ("train", "val", "test"))
    assert all(wnids()[item.label] == Path(str(item.image)).parent.name for item in (*train, *val, *test))
    assert all("/train/" in str(item.image) for item in val) and all("/val/" in str(item.image) for item in test)
    kept, held = hold_out([f"x_{i}.JPEG" for i in range(1300)])
    assert (len(kept), len(held)) == (1250, 50)
    assert hold_out([f"x_{i}.JPEG" for i in reversed(range(1300))])[1] == held[::-1], (
        "the order of listing is no matter"
    )


def test_imagenet_passes_over_junk_and_refuses_foreign_class_folders(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("imagenet1k")
    card = registry.get("imagenet1k")
    some = next((folder / "train").iterdir())
    for junk in ("Thumbs.db", "._x.JPEG", ".DS_Store"):
        (some / junk).write_bytes(b"junk")
    assert len(card.items(tmp_path, "trainval")) == 160
    (folder / "train" / "n99999999").mkdir()
    assert "none of the 1,000 ImageNet classes" in refusal("imagenet1k", tmp_path)


def test_imagenet_refuses_links_out_of_its_folder(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("imagenet1k")
    some = next((folder / "train").iterdir())
    (tmp_path / "secret.JPEG").write_bytes(b"secret")
    (some / "x.JPEG").symlink_to(tmp_path / "secret.JPEG")
    assert "is a link that leaves the folder" in refusal("imagenet1k", tmp_path)
    (some / "x.JPEG").unlink()
    shutil.move(some, tmp_path / "elsewhere")
    some.symlink_to(tmp_path / "elsewhere")
    assert "is a link that leaves the folder" in refusal("imagenet1k", tmp_path)


def test_digits_is_a_fixed_stratified_cut_of_the_bundled_images() -> None:
    card = registry.get("digits")
    train, val, both, test = (card.items(Path("unused"), split) for split in ("train", "val", "trainval", "test"))
    assert [len(part) for part in (train, val, both, test)] == [240, 60, 300, 1497]
    names = [{item.image.name for item in part} for part in (train, val, test)]
    assert len(names[0] | names[1] | names[2]) == 1797
    assert {item.image.name for item in both} == names[0] | names[1]
    for part, each in ((train, 24), (val, 6)):
        assert [sum(item.label == label for item in part) for label in range(10)] == [each] * 10
    assert [item.image.name for item in train[:3]] == ["digits/0461", "digits/0465", "digits/0584"], (
        "the cut never moves"
    )
    few = {split: {item.image.name for item in registry.get("digits_10").items(Path("unused"), split)}
           for split in ("train", "val", "trainval", "test")}
    assert {split: len(part) for split, part in few.items()} == {"train": 20, "val": 10, "trainval": 30, "test": 1497}
    assert few["train"] < names[0] and few["val"] < names[1] and few["test"] == names[2]
