"""`batch_norm`: batch norms of a frozen network keep their statistics unless the run says otherwise, and records it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import cli
from bench.engine.forecast import forecast
from bench.perf.rig import BATCHES, CLASSES, Rig
from results.schema import RunSpec

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def spec(method: str, mode: str) -> RunSpec:
    return replace(tiny.spec(method, batch_size=4), model="test_resnet", image_size=32, batch_norm=mode)


@pytest.mark.parametrize("method, mode, moves", [
    ("lora", "method", False), ("lora", "train", True), ("full", "method", True), ("full", "eval", False)])
def test_statistics_move_as_the_run_says_and_the_ledger_is_forecast(method: str, mode: str, moves: bool) -> None:
    one = spec(method, mode)
    rig = Rig(one)
    model: Any = rig.fit.model
    before = {name: b.clone() for name, b in model.named_buffers() if name.endswith("running_mean")}
    assert len(before) > 3
    seen = rig.first_step()
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], b) != moves for name, b in before.items())
    assert forecast(one, CLASSES, BATCHES * one.batch_size).memory == seen


def test_the_default_renames_no_run() -> None:
    plain = tiny.spec("lora")
    assert "batch_norm" not in plain.written() and replace(plain, batch_norm="method").id == plain.id
    other = replace(plain, batch_norm="train")
    assert other.id != plain.id and other.protocol_id != plain.protocol_id


@pytest.mark.parametrize("method, backbone, mode, sentence", [
    ("lora", "vit_tiny_patch16_224", "train", "means nothing on a vit"),
    ("linear", "resnet18", "train", "computed once for each image"),
    ("sherl", "resnet50", "train", "computed once for each image"),
    ("lora", "resnet18", "batch", "must be one of method, eval, train")])
def test_what_makes_no_sense_is_refused(method: str, backbone: str, mode: str, sentence: str,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--datasets", "svhn", "--root", "standin", "--methods", method, "--backbones", backbone,
                     "--no-pretrained", "--set", f"batch_norm={mode}"]) == 2
    assert sentence in capsys.readouterr().err
