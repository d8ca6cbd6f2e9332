"""The suites of few shots and of shift: which runs they are, and how lists of shots become repetitions in a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning.plan import make
from bench.planning.request import Request
from bench.planning.standing import fold, unfold
from bench.suites import SUITES
from bench.suites.transfer import SHIFTED
from datasets import registry
from datasets.shift import CORRUPTIONS, SEVERITIES
from results.suites import check_suite


def test_the_fewshot_suite_is_five_sets_five_sizes_three_lists() -> None:
    suite = SUITES["fewshot"]()
    cards = [registry.get(name) for name in suite.datasets]
    found = Counter((card.facts["set"], card.facts["shots"], card.facts["seed"]) for card in cards)
    assert len(found) == 75 == sum(found.values()) and suite.seeds == (0,)
    assert suite.protocol["augment"] == "crop_flip" and suite.kind == "fewshot"


def test_lists_are_repetitions_in_one_column_of_their_size(tmp_path: Path) -> None:
    plan = make(Request(suite="fewshot", data="standin", methods=("linear",)), tmp_path)
    assert len(plan.runs) == 75 and plan.suite.name == "fewshot-standin"
    columns = {c.name: c for c in plan.view.columns}
    assert len(columns) == 25 and Counter(c.group for c in columns.values()) == dict.fromkeys(
        ("shots1", "shots2", "shots4", "shots8", "shots16"), 5)  # fmt: skip
    pets = columns["pets_4shot"]
    assert (pets.family, pets.shots, pets.title, pets.group) == ("pets", 4, "Oxford-IIIT Pet, 4-shot", "shots4")
    runs = {(r.spec.dataset, r.spec.id) for r in plan.runs}
    mine = [e for e in plan.view.entries if (e.dataset, e.method) == ("pets_4shot", "linear")]
    assert {(f"pets_4shot_s{e.seed}", e.run_id) for e in mine} <= runs and {e.seed for e in mine} == {0, 1, 2}
    check_suite(plan.view)


def test_lists_and_seeds_of_training_are_crossed_without_two_entries_in_one_place(tmp_path: Path) -> None:
    plan = make(Request(suite="fewshot", data="standin", methods=("linear",), seeds=(0, 1)), tmp_path)
    mine = [e.seed for e in plan.view.entries if (e.dataset, e.method) == ("food101_1shot", "linear")]
    assert sorted(mine) == [0, 1, 2, 3, 4, 5]
    check_suite(plan.view)


def test_folding_is_undone_entry_by_entry_and_leaves_other_suites_alone(tmp_path: Path) -> None:
    plan = make(Request(suite="shift-16shot", data="standin", methods=("linear",), seeds=(0, 2)), tmp_path)
    back = [unfold(e) for e in plan.view.entries]
    ids = {r.spec.id: (r.spec.dataset, r.spec.seed) for r in plan.runs}
    assert {e.run_id: (e.dataset, e.seed) for e in back if e.run_id in ids} == ids
    demo = make(Request(suite="demo", datasets=("svhn", "dtd"), methods=("linear",)), tmp_path).view
    assert fold(demo) == demo and [unfold(e) for e in demo.entries] == list(demo.entries)


@pytest.mark.parametrize("name", ["shift", "shift-16shot"])
def test_shift_trains_on_imagenet_and_tests_on_five_sets_with_named_masks(name: str, tmp_path: Path) -> None:
    plan = make(Request(suite=name, data="standin", methods=("linear",)), tmp_path)
    assert {r.spec.also_test for r in plan.runs} == {SHIFTED}
    assert {r.spec.dataset for r in plan.runs} == set(SUITES[name]().datasets)
    home = "imagenet1k" if name == "shift" else "imagenet1k_16shot"
    shown = {c.split: (c.group, c.run_dataset or c.name, c.classes) for c in plan.view.columns}
    assert shown == {
        "test": ("id", home, 1000), "test:imagenetv2": ("ood", home, 1000), "test:imagenet_sketch": ("ood", home, 1000),
        "test:imagenet_c": ("ood", home, 1000), "test:imagenet_a@imagenet_a": ("ood", home, 200),
        "test:imagenet_r@imagenet_r": ("ood", home, 200), "test:imagenet_a": ("ood_all", home, 1000),
        "test:imagenet_r": ("ood_all", home, 1000)}  # fmt: skip
    check_suite(plan.view)


def test_domainnet_trains_on_real_and_never_sees_quickdraw(tmp_path: Path) -> None:
    plan = make(Request(suite="domainnet", data="standin", methods=("linear",), seeds=(0, 1, 2)), tmp_path)
    assert {(r.spec.dataset, *r.spec.also_test) for r in plan.runs} == {
        ("domainnet_real", "domainnet_sketch", "domainnet_painting", "domainnet_infograph", "domainnet_clipart")}
    assert len(plan.runs) == 3 and Counter(c.group for c in plan.view.columns) == {"id": 1, "ood": 4}


def test_other_shifted_images_are_other_runs(tmp_path: Path) -> None:
    spec = make(Request(suite="shift", data="standin", methods=("linear",)), tmp_path).runs[0].spec
    assert spec.data.startswith("standin:") and "+" in spec.data
    assert replace(spec, data=spec.data[:-1] + ("0" if spec.data[-1] != "0" else "1")).id != spec.id


def test_imagenet_c_as_one_set_is_its_75_cells_one_after_the_other(tmp_path: Path) -> None:
    from datasets import standins

    standins.write("imagenet_c", tmp_path)
    whole = registry.get("imagenet_c").items(tmp_path, "test")
    cells = [registry.get(f"imagenet_c_{name}_{level}").items(tmp_path, "test")
             for name in CORRUPTIONS for level in SEVERITIES]  # fmt: skip
    assert list(whole) == [item for cell in cells for item in cell]
    assert len(cells) == 75 and registry.get("imagenet_c").splits["test"] == 75 * 50_000
