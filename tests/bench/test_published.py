"""The source papers' own recipes: rates of steps, warm-up, momentum, and what their suites say of themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.engine import optim
from bench.engine.optim import learning_rate, warmup_steps
from bench.engine.session import Session
from bench.planning.plan import make
from bench.planning.request import Request
from bench.suites import SUITES
from datasets import registry

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def rates(per_epoch: int, **changes: object) -> list[float]:
    spec = tiny.spec(**changes)
    return [learning_rate(spec, step, per_epoch) for step in range(spec.epochs * per_epoch)]


def test_a_cosine_over_epochs_is_torchs() -> None:
    got = rates(3, schedule="cosine_epoch", lr=1e-2, epochs=6, warmup_epochs=0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    for epoch in range(6):
        assert got[3 * epoch:3 * epoch + 3] == pytest.approx([optimizer.param_groups[0]["lr"]] * 3, rel=1e-12)
        optimizer.step()
        schedule.step()


def test_warm_up_may_be_counted_in_steps_and_the_cosine_may_end_at_zero() -> None:
    got = rates(100, schedule="cosine_zero", lr=1.0, epochs=10, warmup_epochs=0, warmup_steps=100)
    assert got[:100] == pytest.approx([(i + 1) / 100 for i in range(100)])
    assert got[550] == pytest.approx(0.5) and got[-1] < 1e-5 and max(got) == 1.0
    assert got[325] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    short = tiny.spec(epochs=10, warmup_steps=500)
    assert warmup_steps(short, 10) == 20 and warmup_steps(replace(short, warmup_steps=0), 10) == 10
    assert replace(short, warmup_steps=0).id != short.id


def test_the_schedule_of_all_runs_before_is_what_it_was() -> None:
    got = rates(4, schedule="cosine", lr=1.0, epochs=5, warmup_epochs=1)
    assert got[:5] == pytest.approx([0.2575, 0.505, 0.7525, 1.0, 1.0]) and got[12] == pytest.approx(0.505)


@pytest.mark.parametrize(("name", "nesterov"), [("sgd", True), ("sgd_plain", False)])
def test_plain_momentum_is_plain(name: str, nesterov: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make_optimizer = optim.make_optimizer
    monkeypatch.setattr("bench.engine.build.make_optimizer", lambda *a: made.append(make_optimizer(*a)) or made[-1])
    spec = tiny.spec("lora", optimizer=name, decay="all", epochs=1)
    Session(spec, registry.get(spec.dataset), tiny.where(tmp_path, checkpoints=None)).run()
    (found,) = made
    assert isinstance(found, torch.optim.SGD) and {g["weight_decay"] for g in found.param_groups} == {1e-4}
    assert {(g["momentum"], g["nesterov"]) for g in found.param_groups} == {(0.9, nesterov)}


@pytest.mark.parametrize("name", ["pace-vtab", "pace-fgvc", "pace-fewshot", "pace-shift"])
def test_paces_suites_start_from_the_original_weights_and_decay_every_weight(name: str) -> None:
    suite = SUITES[name]()
    assert suite.backbones == ("vit_base_patch16_224.orig_in21k",) and suite.protocol["decay"] == "all"
    assert suite.protocol["augment"] == {"pace-vtab": "none", "pace-fewshot": "crop_flip_bilinear"}.get(
        name, "crop_flip")
    assert "Other than there" in suite.note


def test_timm_has_the_original_weights_without_a_classifier() -> None:
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg("vit_base_patch16_224.orig_in21k")
    assert found is not None and found.num_classes == 0 and found.mean == (0.5, 0.5, 0.5)


def test_tpgms_suites_hold_the_recipes_that_they_name() -> None:
    real, image = (SUITES[n]().protocol for n in ("tpgm-domainnet", "tpgm-imagenet"))
    assert (real["schedule"], real["augment"], real["decay"]) == ("cosine_epoch", "resized_crop_flip", "all")
    assert (image["schedule"], image["augment"], image["warmup_steps"]) == ("cosine_zero", "resized_crop_90", 500)
    assert all("ther than there" in SUITES[n]().note or "not ImageNet's" in " ".join(SUITES[n]().note.split())
               for n in ("tpgm-domainnet", "tpgm-imagenet"))


def test_who_types_epochs_of_warm_up_gets_them(tmp_path: Path) -> None:
    asked = Request(suite="custom", datasets=(tiny.DATASET,), methods=("lora",), backbones=(tiny.MODEL,), data="/",
                    no_pretrained=True, sets=("image_size=16", "warmup_steps=7"))
    (steps,) = make(asked, tmp_path).runs
    (both,) = make(replace(asked, sets=(*asked.sets, "warmup_epochs=3")), tmp_path).runs
    (paper,) = make(replace(asked, recipe="paper", sets=("image_size=16",)), tmp_path).runs
    assert (steps.spec.warmup_steps, both.spec.warmup_steps) == (7, 7), "what is typed is not dropped"
    assert (paper.spec.warmup_steps, paper.spec.warmup_epochs) == (0, 10)
