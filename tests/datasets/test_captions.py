"""Pictures with captions: Karpathy's lists read and refused, the stamps' captions, stand-ins that say what is so."""

from __future__ import annotations

import json
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets import exclusion, registry, sameness
from datasets.card import Card, DataError, Item, Pair
from datasets.check import check, remarks
from datasets.identity import look
from datasets.images import open_rgb
from datasets.packages import package_of
from datasets.promises import broken
from datasets.standins import captions as drawn
from datasets.standins.phrases import FACTS, WORDS

CARDS = registry.cards("captions")
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def pairs(items: Any) -> list[tuple[Pair, float]]:
    found = [(item.image, item.label) for item in items]
    assert all(isinstance(pair, Pair) for pair, _ in found)
    return found


def listed(root: Path, rows: list[dict[str, Any]], name: str = "coco") -> Path:
    """A list of Karpathy's with a picture for each row that has none yet."""
    base = root / name
    for number, row in enumerate(rows):
        file = base / row.get("filepath", "images") / row["filename"]
        if ".." not in row["filename"]:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(file)
    (base / f"dataset_{name}.json").write_text(json.dumps({"images": rows, "dataset": name}))
    return base


def row(name: str, split: str, captions: int = 5, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": f" {name} {i}", "tokens": [name], "imgid": 0, "sentid": i} for i in range(captions)]
    return {"filename": f"{name}.png", "split": split, "imgid": 0, "sentids": [], "sentences": sentences} | more


@each_card
def test_a_stand_in_keeps_its_card_and_the_captions_of_a_picture_stand_in_a_row(card: Card, text_root: Path) -> None:
    assert check(card.name, text_root) == []
    assert (card.task, card.input, card.metric, card.classes) == ("match", "pair", "rmean", 1)
    found = {split: pairs(card.items(text_root, split)) for split in card.splits}
    for split, rows in found.items():
        runs = [(label, [pair for pair, _ in run]) for label, run in groupby(rows, key=lambda one: one[1])]
        assert [label for label, _ in runs] == list(range(len(runs))), split
        assert {len(run) for _, run in runs} == {1 if card.name == "stamps_captions" else 5}
        assert all(len({pair.image for pair in run}) == 1 for _, run in runs)
        assert len({run[0].image for _, run in runs}) == len(runs)
    assert [pair for pair, _ in found["trainval"]][:len(found["train"])] == [pair for pair, _ in found["train"]] \
        or card.name == "stamps_captions"  # which stands in the order of a hash
    shown = {split: {pair.image for pair, _ in rows} for split, rows in found.items()}
    assert not shown["train"] & shown["test"] and shown["train"] | shown["val"] == shown["trainval"]
    assert open_rgb(found["test"][0][0].image).mode == "RGB"
    with pytest.raises(DataError, match="is a picture with a caption"):
        found["test"][0][0].open()


def test_the_sentences_of_a_stand_in_say_nothing_that_is_not_so(text_root: Path) -> None:
    told = [[pair.text.a for pair, _ in run] for split in ("train", "val", "test") for _, run in groupby(
        pairs(registry.get("flickr30k").items(text_root, split)), key=lambda one: one[1])]
    scenes = [of for _, _, of, _ in drawn.scenes("flickr30k", 0)]
    assert len(told) == len(scenes) == len(set(scenes)) == 360
    every = {word for values in WORDS.values() for words in values for word in words}
    for of, sentences in zip(scenes, told, strict=True):
        true = {word for fact in FACTS for word in WORDS[fact][getattr(of, fact)]}
        assert len(set(sentences)) == 5
        for sentence in sentences:
            words = {word.removesuffix("s") if word.removesuffix("s") in every else word for word in sentence.split()}
            assert words & every <= true, sentence
        assert len({word.removesuffix("s") for word in sentences[0].split()} & true) == 7, "the first says all"


def test_restval_is_trained_on_and_the_first_five_captions_are_taken(tmp_path: Path) -> None:
    rows = [row("a", "restval", filepath="val2014"), row("b", "test", 7, filepath="val2014"),
            row("c", "train", filepath="train2014"), row("d", "val", filepath="val2014")]
    listed(tmp_path, rows)
    card = registry.get("coco")
    train, test, both = (pairs(card.items(tmp_path, split)) for split in ("train", "test", "trainval"))
    assert [(pair.text.a, label) for pair, label in train[::5]] == [("c 0", 0), ("a 0", 1)]
    assert [pair.text.a for pair, _ in test] == [f"b {i}" for i in range(5)]
    assert [(pair.text.a, label) for pair, label in both[::5]] == [("c 0", 0), ("a 0", 1), ("d 0", 2)]
    assert test[0][0].image == tmp_path / "coco/val2014/b.png"
    assert "test has 5 pairs; expected 25000" in [problem.text for problem in check("coco", tmp_path)]


@pytest.mark.parametrize(("wrong", "says"), [
    (row("x", "dev"), r"images\[1\]: the split 'dev' is none of train, restval, val, test"),
    (row("x", "train", 4), r"images\[1\]: 4 captions with a 'raw' text; expected 5"),
    (row("x", "train") | {"sentences": [{"tokens": ["x"]}] * 5}, r"images\[1\]: 0 captions"),
    (row("x", "train") | {"sentences": 5}, r"images\[1\]: 0 captions"),
    (row("../x", "train"), r"a picture of train: 'images/\.\./x\.png' leaves the folder of the data set"),
    ({"filename": "x.png"}, r"images\[1\]: expected an object with 'filename' and 'split'"),
])
def test_a_wrong_entry_is_named(wrong: dict[str, Any], says: str, tmp_path: Path) -> None:
    listed(tmp_path, [row("a", "train"), wrong], "flickr30k")
    with pytest.raises(DataError, match=says):
        registry.get("flickr30k").items(tmp_path, "train")


def test_a_picture_that_is_missing_and_a_list_that_is_none_are_named(tmp_path: Path) -> None:
    base = listed(tmp_path, [row("a", "train"), row("b", "train")], "flickr30k")
    (base / "images/b.png").unlink()
    with pytest.raises(DataError, match=r"a picture of train: 'images/b\.png' does not exist"):
        registry.get("flickr30k").items(tmp_path, "train")
    for data in (b"[]", b'{"images": {}}', b"torn", b"[" * 100_000):
        (base / "dataset_flickr30k.json").write_bytes(data)
        with pytest.raises(DataError, match="is no list of Karpathy's"):
            registry.get("flickr30k").items(tmp_path, "train")
    (base / "dataset_flickr30k.json").unlink()
    with pytest.raises(DataError, match=r"dataset_flickr30k\.json is missing; expected there: .*flickr30k-images/"):
        registry.get("flickr30k").items(tmp_path, "test")


def test_a_picture_on_both_sides_is_told_whatever_its_captions(tmp_path: Path) -> None:
    base = listed(tmp_path, [row("a", "train"), row("b", "val"), row("c", "test")], "flickr30k")
    shutil.copy(base / "images/a.png", base / "images/c.png")
    told = [problem.text for problem in check("flickr30k", tmp_path)]
    assert any("byte for byte in the training lists" in text for text in told)
    card = registry.get("flickr30k")
    same = {split: [Item(Pair(base / "images/a.png", pair.text), label)
                    for pair, label in pairs(card.items(tmp_path, split))] for split in ("train", "test")}
    assert any("is in train and in test" in text for text in broken(card, same, {}))


def test_a_changed_caption_and_a_changed_picture_rename_the_set(tmp_path: Path) -> None:
    base = listed(tmp_path, [row("a", "train"), row("b", "val"), row("c", "test")], "flickr30k")
    card, file = registry.get("flickr30k"), base / "dataset_flickr30k.json"
    first = look(card, tmp_path, tmp_path / "kept").hash
    assert look(card, tmp_path, tmp_path / "kept").hash == first
    file.write_text(file.read_text().replace(" a 3", " A 3"))
    second = look(card, tmp_path, tmp_path / "kept").hash
    Image.new("RGB", (4, 4), (9, 9, 9)).save(base / "images/a.png")
    assert len({first, second, look(card, tmp_path, tmp_path / "kept").hash}) == 3


def test_what_is_held_out_of_pairs_are_the_pictures_and_the_words(text_root: Path) -> None:
    found = list(exclusion.prints(registry.get("flickr30k"), text_root))
    assert len([one for one in found if one.file]) == 32 + 200 and len([one for one in found if not one.file]) == 1160
    told = remarks("flickr30k", text_root)
    both = {sameness.plain(p.text) for p, _ in pairs(registry.get("flickr30k").items(text_root, "trainval"))} & {
        sameness.plain(p.text) for p, _ in pairs(registry.get("flickr30k").items(text_root, "test"))}
    assert bool(both) == any(re.search(r"test texts? (is|are) in trainval too", text) for text in told)


def test_the_stamps_have_a_caption_each_and_none_is_a_letter() -> None:
    card = registry.get("stamps_captions")
    package = package_of(card)
    assert package is not None
    if package.installed() is None:
        pytest.skip(f"the package {package.name} is not installed ({package.command})")
    found = {split: list(card.items(Path("nowhere"), split)) for split in card.splits}
    assert broken(card, found, card.splits) == []
    told = [pair.text.a for split in ("train", "val", "test") for pair, _ in pairs(found[split])]
    assert len(told) == len({" ".join(text.casefold().split()) for text in told}) == 577  # the published count
    assert not any("American Sign Language" in text for text in told)
