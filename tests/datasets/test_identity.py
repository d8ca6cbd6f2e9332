"""What names a data set, what breaks its promise, and test images that are training images under another name."""

from __future__ import annotations

import io
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import check, identity, registry
from datasets.card import Card, DataError
from datasets.identity import look
from datasets.promises import splits_of
from datasets.vtab import export

SIZES = {"train": 20, "val": 5, "trainval": 25, "test": 15}
CLASSES = 5


def encoded(number: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3))
    Image.fromarray(noise.astype(np.uint8)).save(buffer, form)
    return buffer.getvalue()


def pictures(first: int, count: int) -> list[tuple[bytes, int]]:
    return [(encoded(first + i), i % CLASSES) for i in range(count)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of the VTAB export's form that keeps its card."""
    splits = {"train": pictures(0, 20), "val": pictures(100, 5), "test": pictures(200, 15)}
    export.write(tmp_path / "toys", splits, "png")
    return tmp_path


def card(**changes: object) -> Card:
    made = Card("toys", "Toys", "natural", CLASSES, SIZES, "", "", "", "toys", export.LAYOUT,
                partial(export.items, folders=("toys",), classes=CLASSES))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def told(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Checks the set with `data check`; what it says."""
    monkeypatch.setattr(registry, "get", lambda name: card())

    class Told(list[str]):
        def again(self) -> str:
            return "; ".join(p.text for p in check.check("toys", root))

    return Told()


def rewrite(file: Path, change: object) -> None:
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{line}\n" for line in change(lines)))  # type: ignore[operator]


def test_a_set_that_keeps_its_card_has_a_name_and_no_fault(root: Path) -> None:
    found = look(card(), root)
    assert found.broken == () and len(found.hash) == 16 and look(card(), root).hash == found.hash
    moved = root / "elsewhere"
    shutil.copytree(root / "toys", moved / "toys")
    assert look(card(), moved) == found, "the name is of what lies there, not of where or when"


@pytest.mark.parametrize("place", ["first", "middle", "last", "all"])
def test_other_contents_of_the_same_names_labels_and_sizes_are_another_name(root: Path, place: str) -> None:
    before = look(card(), root).hash
    victim = root / "toys/images/test/000007.png"
    data = bytearray(victim.read_bytes())
    spots = {"first": [0], "middle": [len(data) // 2], "last": [len(data) - 1], "all": range(0, len(data), 2)}
    for spot in spots[place]:
        data[spot] ^= 1
    stat = victim.stat()
    victim.write_bytes(data)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert victim.stat().st_size == len(data) and look(card(), root).hash != before


def test_two_whole_sets_of_equal_byte_counts_are_two_names(root: Path) -> None:
    other = root / "other"
    shutil.copytree(root / "toys", other / "toys")
    for file in (other / "toys/images").rglob("*.png"):
        file.write_bytes(os.urandom(file.stat().st_size))
    assert look(card(), root).hash != look(card(), other).hash


def test_a_large_file_gives_three_pieces_and_a_container_a_thousand(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(50_000))
    before = [identity.sample(file, 50_000, *kind) for kind in (identity.IMAGE, identity.CONTAINER)]
    for spot, seen in ((0, True), (1023, True), (24_488, True), (25_511, True), (49_999, True), (5000, False)):
        file.write_bytes(bytes(spot) + b"1" + bytes(49_999 - spot))
        assert (identity.sample(file, 50_000, *identity.IMAGE) != before[0]) is seen, spot
        assert identity.sample(file, 50_000, *identity.CONTAINER) != before[1], "it is read whole"


def test_what_was_found_is_kept_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, reads = root / "kept", []
    sample = identity.sample
    monkeypatch.setattr(identity, "sample", lambda *words: reads.append(words[0]) or sample(*words))  # type: ignore[func-returns-value]
    first = look(card(), root, keep)
    assert len(reads) == 65 and look(card(), root, keep) == first and len(reads) == 65
    (kept,) = keep.glob("*.json")
    for damage in ("", "{", "[1]", '{"hash": 1}'):
        kept.write_text(damage)
        assert look(card(), root, keep) == first
    victim = root / "toys/images/test/000007.png"
    data, stat = victim.read_bytes(), victim.stat()
    time.sleep(0.01)
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # times can be set back, that of the change cannot
    assert look(card(), root, keep).hash != first.hash
    assert len(list(keep.glob("*.json"))) == 1
    assert look(card(splits=SIZES | {"test": 16}), root, keep).broken, "another promise is another question"


def test_of_very_many_files_every_nth_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    sample = identity.sample
    monkeypatch.setattr(identity, "SAMPLED", 30)
    monkeypatch.setattr(identity, "sample", lambda *words: reads.append(words[0]) or sample(*words))  # type: ignore[func-returns-value]
    look(card(), root)
    assert len(reads) == 22  # of 65: every third


FAULTS = {
    "counts": ("test.txt", lambda lines: lines[:-1], "test has 14 images; expected 15"),
    "classes": ("test.txt", lambda lines: [f"{line[:-1]}0" for line in lines], ""),
    "twice": ("test.txt", lambda lines: [*lines[:-1], lines[0]], "test: 1 image stands twice or more, first "),
    "train in test": ("test.txt", lambda lines: [*lines[:-1], "images/train800/000004.png 4"],
                      "000004.png is in train and in test, as are 0 more"),
    "trainval in test": ("test.txt", lambda lines: [*lines[:-2], "images/train800val200/000004.png 4",
                                                    "images/train800val200/000009.png 4"],
                         "000004.png is in trainval and in test, as are 1 more"),
    "train in val": ("val200.txt", lambda lines: [*lines[:-1], "images/train800/000004.png 4"],
                     "000004.png is in train and in val, as are 0 more"),
    "learnt": ("train800val200.txt", lambda lines: [f"{line[:-1]}{int(line[-1]) % 4}" for line in lines],
               "trainval has images of 4 classes; expected 5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_promise_is_told_by_the_check_and_by_a_plan(fault: str, root: Path, told: list[str]) -> None:
    name, change, words = FAULTS[fault]
    before = look(card(), root).hash
    rewrite(root / "toys" / name, change)
    found = look(card(), root)
    assert found.hash != before
    assert words in "; ".join(found.broken) and words in told.again()  # type: ignore[attr-defined]
    assert bool(found.broken) is bool(words), "labels of one class alone in test break no promise"


def test_all_faults_are_told_at_once(root: Path) -> None:
    rewrite(root / "toys/test.txt", lambda lines: [*lines[:5], lines[0], "images/train800/000004.png 4"])
    rewrite(root / "toys/train800.txt", lambda lines: lines[:-2])
    told = "; ".join(look(card(), root).broken)
    for words in ("train has 18 images; expected 20", "test has 7 images; expected 15", "1 image stands twice",
                  "000004.png is in train and in test", "1 test image is byte for byte in the training lists"):
        assert words in told


def test_what_a_card_says_of_its_published_set_is_no_fault(root: Path) -> None:
    for name in ("train800.txt", "train800val200.txt"):
        rewrite(root / "toys" / name, lambda lines: [f"{line[:-1]}{int(line[-1]) % 3}" for line in lines])
    assert look(card(), root).broken and not look(card(facts={"train_classes": "3"}), root).broken
    assert registry.get("sun397").facts["train_classes"] == "325"


def test_a_byte_copy_of_a_training_image_in_test_is_found_by_check_and_plan(root: Path, told: list[str]) -> None:
    images = root / "toys/images"
    assert told.again() == ""  # type: ignore[attr-defined]  # trainval holds train and val a second time, by design
    shutil.copy(images / "val200/000003.png", images / "test/000011.png")
    words = "1 test image is byte for byte in the training lists, first"
    assert words in told.again() and "near" not in told.again()  # type: ignore[attr-defined]
    (fault,) = look(card(), root).broken
    assert words in fault and "test/000011.png" in fault
    assert not look(card(facts={"repeats": "published so"}), root).broken


def test_the_same_pixels_in_another_file_are_found_by_the_check(root: Path, told: list[str]) -> None:
    images = root / "toys/images"
    with Image.open(images / "train800/000002.png") as picture:
        picture.save(images / "test/000012.png", compress_level=0)
    assert (images / "test/000012.png").read_bytes() != (images / "train800/000002.png").read_bytes()
    assert "1 test image has the pixels of a training image in another file" in told.again()  # type: ignore[attr-defined]
    assert not look(card(), root).broken, "a plan decodes nothing"


def test_the_check_looks_into_a_container_and_behind_a_manifest(root: Path, told: list[str]) -> None:
    h5py = pytest.importorskip("h5py")
    from datasets.folder import write_manifest

    shutil.copy(root / "toys/images/train800/000001.png", root / "toys/images/test/000001.png")
    write_manifest(root / "toys")
    assert "byte for byte" in told.again()  # type: ignore[attr-defined]
    with h5py.File(root / "toys/images.hdf5", "w") as handle:
        for file in sorted((root / "toys/images").rglob("*.png")):
            handle[f"{file.parent.name}/{file.name}"] = np.frombuffer(file.read_bytes(), np.uint8)
    shutil.rmtree(root / "toys/images")
    (root / "toys/.manifest.json").unlink()
    assert "byte for byte" in told.again() and len(look(card(), root).hash) == 16  # type: ignore[attr-defined]


def test_a_standin_is_no_real_data(data_root: Path) -> None:
    with pytest.raises(DataError, match="cifar/ is a generated stand-in and no real data; DATA=standin"):
        look(registry.get("cifar100"), data_root)


def test_training_lists_that_a_card_promises_no_count_of_are_part_of_the_name(suite_root: Path, tmp_path: Path) -> None:
    few = registry.get("domainnet_real_5")
    assert set(splits_of(few)) == {"train", "val", "trainval", "test"} and set(few.splits) == {"test"}
    assert set(splits_of(registry.get("domainnet_sketch"))) == {"test"}
    shutil.copytree(suite_root / few.folder, tmp_path / few.folder)
    (tmp_path / few.folder / ".standin.json").unlink()
    before = look(few, tmp_path).hash
    image = few.items(tmp_path, "train")[0].image
    assert isinstance(image, Path)
    image.write_bytes(image.read_bytes()[::-1])
    assert look(few, tmp_path).hash != before
