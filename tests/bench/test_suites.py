"""Suites: every one parses, has its miniature, and puts its settings where they belong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.suites import SUFFIX, SUITES, find
from bench.tuning.samplers import grid
from bench.tuning.spaces import space_of
from methods.grammar import parse

REAL = [name for name, suite in SUITES.items() if not suite().standins and suite().datasets]


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_bears_its_name_and_its_methods_exist(name: str) -> None:
    suite = SUITES[name]()
    assert suite.name == name
    assert all(parse(text) for text in (*suite.methods, *suite.rates, suite.reference))
    assert set(suite.also_test) | set(suite.per_dataset) | set(suite.tuning.datasets) <= set(suite.datasets)


@pytest.mark.parametrize("name", [n for n in REAL if n != "sherl-glue"])  # test_t5_runs plans that one with a folder
def test_a_suite_of_real_data_has_a_miniature_that_runs_anywhere(name: str, tmp_path: Path) -> None:
    plan = make(Request(suite=name, data="standin"), tmp_path)
    assert plan.suite.name == name + SUFFIX and len(plan.runs) == len(SUITES[name]().datasets) * len(plan.view.rows)
    assert {r.spec.epochs for r in plan.runs} == {5}
    assert all(r.spec.standin or r.spec.data.startswith("shipped:") for r in plan.runs)
    assert make(Request(suite=name + SUFFIX), tmp_path).view == plan.view


def test_a_suite_on_stand_ins_has_no_second_miniature() -> None:
    assert find("demo" + SUFFIX) is None
    with pytest.raises(UsageError, match="no suite is called"):
        make(Request(suite="demo" + SUFFIX))


def test_settings_of_a_data_set_reach_its_runs_alone(tmp_path: Path) -> None:
    """PACE's table 17: rank 10 for lora_add on Cars, 4 elsewhere; 24 and 14 for the three together."""
    plan = make(Request(suite="pace-fewshot", data="standin"), tmp_path)
    ranks = {(r.spec.dataset.partition("_")[0], r.spec.method): dict(r.spec.options) for r in plan.runs}
    assert ranks["cars", "lora_add"]["lora_add.rank"] == 10 and ranks["pets", "lora_add"]["lora_add.rank"] == 4
    assert ranks["cars", "lora_mul_vpt_add+pace"]["lora_mul_vpt_add.rank"] == 24
    assert ranks["aircraft", "lora_mul_vpt_add"]["lora_mul_vpt_add.rank"] == 14
    assert len({(r.method, r.backbone) for r in plan.view.rows}) == 6, "a rank of a data set makes no row of its own"
    typed = make(Request(suite="pace-fewshot", data="standin", sets=("lora_add.rank=3",),
                         methods=("lora_add",)), tmp_path)
    assert {dict(r.spec.options)["lora_add.rank"] for r in typed.runs} == {3}, "what is typed wins"
    assert {(c.family, c.shots) for c in plan.view.columns} >= {("cars", 1), ("cars", 16), ("pets", 4)}


def test_further_test_sets_are_columns_of_their_own_and_name_the_data(tmp_path: Path) -> None:
    plan = make(Request(suite="robust", methods=("full",)), tmp_path)
    columns = {c.name: c for c in plan.view.columns}
    assert Counter(c.group for c in columns.values()) == {"id": 2, "ood": 8, "ood_all": 2}
    sketch = columns["imagenet1k:imagenet_sketch"]
    assert (sketch.run_dataset, sketch.split) == ("imagenet1k", "test:imagenet_sketch")
    masked = columns["imagenet1k:imagenet_a@"]
    assert (masked.split, masked.classes, masked.group) == ("test:imagenet_a@imagenet_a", 200, "ood")
    assert {r.spec.dataset: r.spec.also_test[0] for r in plan.runs} == {
        "imagenet1k": "imagenetv2", "domainnet_real": "domainnet_sketch"}
    assert all("+" in r.spec.data for r in plan.runs), "other images to test on are other runs"


def test_compared_methods_get_as_many_configurations() -> None:
    for name in ("regularizers", "robust"):
        suite = SUITES[name]()
        sizes = {text: len(grid(space_of(parse(text), instead=suite.tuning.space(parse(text).adapter.name)), 4))
                 for text in suite.methods}
        assert set(sizes.values()) == {4}, sizes
