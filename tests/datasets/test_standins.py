"""Stand-ins: every one reads back through the reader of the real layout, is the same each time, and appears whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from datasets import registry, standins
from datasets.card import Card, DataError
from datasets.folder import MARK
from datasets.images import ImageList, content_hash, split_hash
from datasets.standins.task import SIZES
from datasets.standins.writer import is_fresh, standin_hash, task_of

ROOT = Path(__file__).resolve().parents[2]
CARDS = registry.cards("natural", "specialized", "structured", "fgvc", "imagenet")
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def test_all_25_data_sets_have_a_standin_and_digits_needs_none() -> None:
    assert len(CARDS) == 25
    with pytest.raises(DataError, match=r"digits has no stand-in: .*scikit-learn"):
        standins.write("digits", Path("unused"))


@each_card
def test_a_standin_reads_back_with_its_counts_labels_and_splits(card: Card, data_root: Path) -> None:
    splits = {split: card.items(data_root, split) for split in ("train", "val", "trainval", "test")}
    assert {split: len(items) for split, items in splits.items()} == SIZES | {"trainval": 160}
    for split in ("train", "val", "test"):
        assert {item.label for item in splits[split]} == {item.label for item in splits["trainval"]}
        assert all(0 <= item.label < card.classes for item in splits[split])
    both = Counter(item.label for item in [*splits["train"], *splits["val"]])
    assert both == Counter(item.label for item in splits["trainval"])
    assert len(both) == len(task_of(card.name).labels)
    if card.name != "diabetic_retinopathy":
        assert max(both.values()) - min(both.values()) <= 2, "classes are balanced"
    paths = [item.image for split in ("train", "val", "test") for item in splits[split]]
    assert len(set(paths)) == 360
    image, label, index = ImageList(splits["test"])[7]
    assert (image.size, image.mode, label, index) == ((64, 64), "RGB", splits["test"][7].label, 7)


@pytest.mark.parametrize("name", ["cifar100", "smallnorb_azi"])
def test_trainval_repeats_train_and_val_in_blocks_of_16(name: str, data_root: Path) -> None:
    card = registry.get(name)
    train, val, both = (
        [Path(str(i.image)).read_bytes() for i in card.items(data_root, s)] for s in ("train", "val", "trainval")
    )
    assert both == train[:16] + val[:16] + train[16:32] + val[16:] + train[32:]


@pytest.mark.parametrize("name", ["cub", "imagenet1k"])
def test_trainval_holds_the_images_of_train_and_val_and_nothing_else(name: str, data_root: Path) -> None:
    card = registry.get(name)
    train, val, both = (set(card.items(data_root, split)) for split in ("train", "val", "trainval"))
    assert train | val == both and not train & val


def test_retinopathy_keeps_the_official_skew(data_root: Path) -> None:
    labels = Counter(item.label for item in registry.get("diabetic_retinopathy").items(data_root, "test"))
    assert labels[0] == 147 and min(labels.values()) >= 4


def test_nabirds_ids_have_gaps_and_labels_are_their_ranks(data_root: Path) -> None:
    card = registry.get("nabirds")
    ids = json.loads((data_root / "nabirds" / "test.json").read_text())
    assert max(ids.values()) == 1010
    assert {item.label for item in card.items(data_root, "test")} == set(range(8))


def test_no_picture_of_test_is_a_picture_of_train(data_root: Path) -> None:
    for card in CARDS:
        seen = {ImageList(card.items(data_root, "train"))[i].image.tobytes() for i in range(0, 128, 8)}
        assert not seen & {ImageList(card.items(data_root, "test"))[i].image.tobytes() for i in range(0, 200, 8)}


@pytest.mark.parametrize("name", ["dtd", "clevr_count", "stanford_cars", "imagenet1k"])
def test_two_writings_hold_the_same_pixels_in_the_same_order(name: str, data_root: Path, tmp_path: Path) -> None:
    standins.write(name, tmp_path)
    card = registry.get(name)
    for split in ("train", "test"):
        here, there = card.items(data_root, split), card.items(tmp_path, split)
        assert split_hash(here, data_root) == split_hash(there, tmp_path)
        assert content_hash(here[:40]) == content_hash(there[:40])


def test_another_seed_draws_other_pictures(tmp_path: Path, data_root: Path) -> None:
    standins.write("dtd", tmp_path, seed=1)
    card = registry.get("dtd")
    assert content_hash(card.items(tmp_path, "val")) != content_hash(card.items(data_root, "val"))
    assert standin_hash("dtd", 0) != standin_hash("dtd", 1) != standin_hash("svhn", 1)


def test_a_picture_depends_on_neither_its_neighbours_nor_the_batch() -> None:
    from datasets.standins.canvas import Dice, seed_of

    seeds = [seed_of("x", "train", i) for i in range(5)]
    for name in ("dtd", "cifar100", "clevr_dist", "smallnorb_ele", "sun397"):
        task = task_of(name)
        for kind in range(len(task.labels)):
            together = task.draw(Dice(seeds), kind)
            alone = task.draw(Dice(seeds[3:4]), kind)[0]
            assert (abs(together[3].astype(int) - alone.astype(int)) <= 1).all(), (name, kind)


def test_an_existing_standin_is_left_alone_and_a_stale_or_broken_one_is_rewritten(tmp_path: Path) -> None:
    folder = standins.write("svhn", tmp_path)
    before = (folder / MARK).stat().st_mtime_ns
    standins.write("svhn", tmp_path)
    assert (folder / MARK).stat().st_mtime_ns == before
    (folder / "images/test/000003.jpg").write_bytes(b"")  # as after a loss of power
    assert not is_fresh("svhn", tmp_path)
    standins.write("svhn", tmp_path)
    assert is_fresh("svhn", tmp_path)
    (folder / MARK).write_text((folder / MARK).read_text().replace(standin_hash("svhn"), "0" * 16))
    (folder / "left over").write_text("of an older generator")
    standins.write("svhn", tmp_path)
    assert is_fresh("svhn", tmp_path) and not (folder / "left over").exists()


def test_a_folder_with_somebodys_data_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="holds data that is no stand-in"):
        standins.write("svhn", tmp_path)
    assert (tmp_path / "svhn" / "mine.txt").read_text() == "precious"


def test_an_interrupted_writer_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.standins import writer as module

    real, calls = Path.write_bytes, [0]

    def failing(self: Path, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 100:
            raise KeyboardInterrupt
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(KeyboardInterrupt):
        module.write("svhn", tmp_path)
    assert not (tmp_path / "svhn").exists()
    monkeypatch.undo()
    module.write("svhn", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".svhn.lock", "svhn"], "the broken attempt is cleared"


def test_two_writers_at_once_leave_one_whole_set(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from datasets import standins
standins.write("kitti", Path(sys.argv[1]))
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert is_fresh("kitti", tmp_path)


def test_progress_names_each_set_as_it_is_finished(tmp_path: Path, data_root: Path) -> None:
    told: list[str] = []
    standins.write_all(["svhn", "dtd"], data_root, told.append)
    assert told == ["svhn", "dtd"]


def test_texture_names_are_not_those_of_pretraining() -> None:
    basic = {"flat", "gradient", "noise", "sine", "square", "plaid", "checker", "dots", "polka", "grating"}
    assert len(standins.TEXTURES) >= 8 and not basic & set(standins.TEXTURES)


def test_a_moved_root_gives_the_same_split_hash(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "kitti", tmp_path / "kitti")
    card = registry.get("kitti")
    assert split_hash(card.items(tmp_path, "val"), tmp_path) == split_hash(card.items(data_root, "val"), data_root)
