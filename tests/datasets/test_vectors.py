"""The hash order of VTAB-1k against the regression vectors of the spec (`tests/data/vectors.json`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from datasets import registry
from datasets.vtab import labels
from datasets.vtab.export import interleave
from datasets.vtab.folders import EUROSAT, RESISC, sun397_classes
from datasets.vtab.pools import Record, in_hash_order, rank
from datasets.vtab.raw import RAW

DATA = Path(__file__).resolve().parents[1] / "data"
FILE = json.loads((DATA / "vectors.json").read_text())
VECTORS: dict[str, Any] = FILE["vtab"]
PUBLISHED_PLACES = [9634, 3449, 6749, 5372, 5207, 8870, 2932, 6882, 3617, 4466]


def order(keys: Sequence[str], salt: str) -> list[str]:
    return [str(record.key) for record in in_hash_order([Record(key, 0, Path()) for key in keys], salt)]


def numbers(count: int, pattern: str = "%d") -> list[str]:
    return [pattern % i for i in range(count)]


def test_every_vector_of_the_spec_is_tested_below() -> None:
    tested = {"cifar100", "svhn", "sun397", "patch_camelyon", "eurosat", "resisc45", "clevr_count", "clevr_dist",
              "dsprites_loc", "dsprites_ori", "smallnorb_azi", "smallnorb_ele"}  # fmt: skip
    assert set(VECTORS) == tested


@pytest.mark.parametrize(
    ("name", "train_keys", "train_salt", "val_keys", "val_salt"),
    [
        ("cifar100", numbers(50_000), "train", None, "train"),
        ("svhn", numbers(73_257), "train", None, "train"),
        ("patch_camelyon", numbers(262_144, "train_%d"), "train", numbers(32_768, "valid_%d"), "validation"),
        ("clevr_count", numbers(70_000, "CLEVR_train_%06d.png"), "train", None, "train"),
        ("clevr_dist", numbers(70_000, "CLEVR_train_%06d.png"), "train", None, "train"),
        ("smallnorb_azi", numbers(24_300), "train", numbers(24_300), "test"),
        ("smallnorb_ele", numbers(24_300), "train", numbers(24_300), "test"),
    ],
)
def test_the_first_keys_of_train_and_val(
    name: str, train_keys: list[str], train_salt: str, val_keys: list[str] | None, val_salt: str
) -> None:
    expected, cut = VECTORS[name], RAW[name].cut
    assert cut is not None and (cut.train.salt, cut.val.salt) == (train_salt, val_salt)
    assert cut.train.size == len(train_keys) and cut.val.size == len(val_keys or train_keys)
    train = order(train_keys, train_salt)
    val = order(val_keys, val_salt) if val_keys else train
    assert train[: len(expected["train"])] == expected["train"]
    assert val[cut.val.start : cut.val.start + len(expected["val"])] == expected["val"]


def test_dsprites_first_rows_and_their_labels_follow_from_the_row_number() -> None:
    expected = VECTORS["dsprites_loc"]
    rows = [int(key) for key in order(numbers(737_280), "train")]
    for part, start in (("train", 0), ("val", 589_824)):
        found = rows[start : start + 6]
        assert [str(row) for row in found] == expected[part]
        places = [[labels.dsprites_location(r // 32 % 32), labels.dsprites_orientation(r // 1024 % 40)] for r in found]
        assert places == expected[f"{part}_labels_loc_ori"]
    assert VECTORS["dsprites_ori"] == expected
    bins = Counter(labels.dsprites_orientation(row // 1024 % 40) for row in rows[:800])
    assert [bins[label] for label in range(4)] == [59, 43, 67, 50]


def test_eurosat_names_labels_and_class_counts() -> None:
    expected = VECTORS["eurosat"]
    sizes = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)
    names = [f"{c}_{c}_{n}.jpg" for c, size in zip(EUROSAT, sizes, strict=True) for n in range(1, size + 1)]
    found = order(names, "train")
    assert found[:4] == expected["train"] and found[16_200:16_204] == expected["val"]
    values = [EUROSAT.index(name.split("_")[0]) for name in found]
    assert values[:12] == expected["first_train_labels"] and values[16_200:16_212] == expected["first_val_labels"]
    assert [Counter(values[:800])[label] for label in range(10)] == expected["train800_hist"]


def test_resisc_names_and_labels() -> None:
    expected = VECTORS["resisc45"]
    where = {f"{c}_{c}_{n:03d}.jpg": label for label, c in enumerate(RESISC) for n in range(1, 701)}
    found = order(list(where), "train")
    assert found[:4] == expected["train"] and found[18_900:18_904] == expected["val"]
    assert [where[name] for name in found[:12]] == expected["first_train_labels"]
    assert [where[name] for name in found[18_900:18_912]] == expected["first_val_labels"]


def test_sun397_heads_are_in_hash_order_near_the_front_and_have_their_labels() -> None:
    expected, classes = VECTORS["sun397"], sun397_classes()
    for part, salt, pool in (("train", "train", 76_128), ("val", "validation", 10_875)):
        ranks = [rank(key, salt) for key in expected[part]]
        assert ranks == sorted(ranks) and ranks[-1] / 2**128 * pool < 15, "three of the first of a uniform order"
        found = [classes.index(key.rpartition("/")[0]) for key in expected[part]]
        assert found == expected[f"first_{part}_labels"][:3]


def test_cifar_lists_are_interleaved_in_blocks_of_16() -> None:
    heads = FILE["cifar_lists"]
    mixed = interleave(heads["train800"] + [0] * 796, heads["val200"] + [0] * 196)
    assert mixed[:4] == heads["train800val200"] and mixed[16:20] == heads["val200"] and len(mixed) == 1000


def test_cifar_test_images_0_to_9_stand_where_the_published_list_has_their_labels() -> None:
    """Where the spec read the ten labels in PACE's test list; the labels themselves need the data."""
    place = {key: i for i, key in enumerate(order(numbers(10_000), "test"))}
    assert [place[str(i)] for i in range(10)] == PUBLISHED_PLACES
    assert len(FILE["cifar_test_images_0_to_9"]) == 10


def test_every_task_has_a_raw_reader_and_the_cut_fills_the_cards_test_split() -> None:
    assert set(RAW) == set(registry.names("natural", "specialized", "structured"))
    for name, raw in RAW.items():
        if raw.cut is None:
            assert name == "caltech101"
            continue
        sizes = {part: cut.stop - cut.start for part, cut in zip(("train", "val", "test"), raw.cut, strict=True)}
        assert sizes == {part: registry.get(name).splits[part] for part in ("train", "val", "test")}, name
