"""Cards: complete, found by name and alias, and free to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import registry
from datasets.card import SPLITS, Card, DataError
from datasets.packages import package_of
from datasets.registry import UnknownDataset

ROOT = Path(__file__).resolve().parents[2]
VTAB_TEST_IMAGES = 387_904  # the sum over all 19 test sets, recomputed in the spec


def test_there_are_the_19_tasks_of_vtab_five_fine_grained_sets_imagenet_and_digits() -> None:
    assert [len(registry.names(group)) for group in ("natural", "specialized", "structured")] == [7, 4, 8]
    assert registry.names("fgvc") == ["cub", "nabirds", "flowers_fgvc", "stanford_dogs", "stanford_cars"]
    assert registry.names("imagenet") == ["imagenet1k"]
    assert [card.name for card in registry.cards("real") if not card.folder] == ["digits", "digits_10"]
    assert all(package_of(card) for card in registry.cards("real") if card.folder)


def test_the_test_sets_of_vtab_add_up() -> None:
    cards = registry.cards("natural", "specialized", "structured")
    assert sum(card.splits["test"] for card in cards) == VTAB_TEST_IMAGES
    assert all(
        (card.splits["train"], card.splits["val"], card.splits["trainval"]) == (800, 200, 1000) for card in cards
    )


@pytest.mark.parametrize("card", registry.cards(), ids=lambda card: card.name)
def test_every_card_is_complete(card: Card) -> None:
    assert all((card.title, card.source.startswith("http"), card.license, card.cite, card.layout))
    assert card.classes > 1 if card.task == "classify" else card.classes == 1
    assert set(card.splits) <= set(SPLITS) and all(size > 0 for size in card.splits.values())
    if {"train", "val", "trainval"} <= set(card.splits) and "shots" not in card.facts:
        assert card.splits["train"] + card.splits["val"] == card.splits["trainval"]
    assert callable(card.items)
    assert card.folder or card.name.startswith("digits")


def test_the_25th_data_set_is_named_our_reading() -> None:
    assert "our reading" in registry.get("imagenet1k").note


@pytest.mark.parametrize(
    ("alias", "name"),
    [("cifar", "cifar100"), ("pets", "oxford_iiit_pet"), ("oxford_pet", "oxford_iiit_pet"), ("pcam", "patch_camelyon"),
     ("flowers102", "oxford_flowers102"), ("OxfordFlower", "flowers_fgvc"), ("CUB_200_2011", "cub"),
     ("imagenet", "imagenet1k"), ("StanfordDogs", "stanford_dogs")],
)  # fmt: skip
def test_names_in_use_elsewhere_lead_to_the_same_card(alias: str, name: str) -> None:
    assert registry.get(alias) is registry.get(name)


def test_a_miss_names_what_was_given_and_the_nearest_names() -> None:
    with pytest.raises(UnknownDataset) as caught:
        registry.get("cifar10")
    assert str(caught.value).startswith("no data set is called 'cifar10'; did you mean cifar100")
    assert isinstance(caught.value, KeyError) and isinstance(caught.value, DataError)
    with pytest.raises(UnknownDataset, match="did you mean smallnorb_azi"):
        registry.get("smallnorb-azim")
    with pytest.raises(UnknownDataset, match=r"there are: caltech101, cifar100.* digits, .*and [0-9]+ more"):
        registry.get("zzzz")


def test_registering_a_name_twice_is_refused() -> None:
    with pytest.raises(AssertionError, match="registered twice"):
        registry.register(registry.get("svhn"))


def test_importing_and_listing_opens_no_file_and_loads_no_heavy_library() -> None:
    program = """
import sys, json
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc")):
        opened.append(args[0])
import difflib, hashlib, io, json, csv, zlib, struct, tarfile, zipfile, shutil, tempfile, importlib, pkgutil, contextlib
sys.addaudithook(hook)
import datasets.registry, datasets.images, datasets.standins
names = datasets.registry.names()
heavy = sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchvision", "numpy", "PIL", "scipy", "h5py"})
print(json.dumps([len(names), opened, heavy]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    count, opened, heavy = json.loads(done.stdout)
    assert count >= 26 and opened == [] and heavy == []
    assert done.stderr == ""
