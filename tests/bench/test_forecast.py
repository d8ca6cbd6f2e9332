"""The ledger and the arithmetic of a run before it runs: equal to the measured ones, to the byte and to the formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.engine import meter
from bench.engine.flops import FlopCounter
from bench.engine.forecast import VALUES_READ, forecast
from bench.perf.rig import BATCHES, CLASSES, Rig
from methods.catalog import catalog
from results.schema import RunSpec

from . import tiny

ON = {"ftp": "full", "fsl2": "lp_ft"}  # parts that are not tried on lora
READS_VALUES = {"mars_sp"}  # indexes with the position of the largest row
ADAPTERS = sorted(p.name for p in catalog().values() if p.kind == "adapter" and "vit" in p.families)
PARTS = sorted(p.name for p in catalog().values() if p.kind != "adapter")


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def spec(method: str, **changes: Any) -> RunSpec:
    return replace(tiny.spec(method, batch_size=6), **changes)


def both(one: RunSpec) -> tuple[Any, Any]:
    """(forecast, measured) ledgers."""
    return forecast(one, CLASSES, BATCHES * one.batch_size).memory, Rig(one).first_step()


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapters_ledger_is_forecast_to_the_byte(name: str) -> None:
    told, seen = both(spec(name))
    assert told == seen


@pytest.mark.parametrize("name", sorted(set(PARTS) - READS_VALUES))
def test_every_other_parts_ledger_is_forecast_to_the_byte(name: str) -> None:
    told, seen = both(spec(f"{ON.get(name, 'lora')}+{name}"))
    assert told == seen


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"attention": "plain"}, {"optimizer": "sgd"},
                                     {"drop_path": 0.0}], ids=str)
@pytest.mark.parametrize("name", ["full", "lora", "sherl"])
def test_precision_kernel_optimizer_and_droppath_are_forecast_too(name: str, changes: dict[str, Any]) -> None:
    told, seen = both(spec(name, **changes))
    assert told == seen


@pytest.mark.parametrize("name", [*sorted(READS_VALUES), "ugr(objective='rec')", "ugr(objective='rot')",
                                  "ugr(objective='con')", "ugr(objective='agr')"])
def test_a_step_that_reads_numbers_says_so_instead_of_guessing(name: str) -> None:
    found = forecast(spec(f"lora+{name}"), CLASSES)
    assert found.memory is None and found.total_bytes is None and found.why == VALUES_READ
    assert found.weights > 0 and found.forward_flops


def test_the_measured_bytes_are_equal_in_every_repeat() -> None:
    assert len({Rig(spec("lora+pace")).first_step().saved_bytes for _ in range(3)}) == 1


def marginal(name: str, **changes: Any) -> tuple[float, float]:
    """(bytes kept for backward per further image, bytes once per step whatever the batch): of two batch sizes."""
    found = []
    for size in (4, 8):
        memory = forecast(replace(spec(name, **changes), batch_size=size), CLASSES).memory
        assert memory is not None and memory.saved_bytes is not None
        found.append(memory.saved_bytes)
    each = (found[1] - found[0]) / 4
    return each, found[0] - 4 * each


def test_what_a_further_image_costs_is_apart_from_autocasts_copies_of_the_weights() -> None:
    fp32, bf16 = (marginal("lora", precision=p) for p in ("fp32", "bf16"))
    assert bf16[0] < fp32[0]  # per image
    assert fp32[1] < 1000 < bf16[1]  # per step: the loss's few bytes; bf16 copies of the frozen matrices


def test_the_sum_is_the_ledgers_sum() -> None:
    found = forecast(spec("full"), CLASSES)
    m = found.memory
    assert m is not None and found.total_bytes == meter.total_bytes(m)
    assert found.total_bytes == m.saved_bytes + 4 * m.weights_trained_bytes  # type: ignore[operator]  # AdamW, no frozen


def by_hand(width: int, depth: int, tokens: int, patch: int, classes: int) -> float:
    """Forward operations of a ViT for one image, 2 per multiply-add."""
    block = 2 * tokens * width * (3 * width + width + 4 * width + 4 * width) + 2 * 2 * tokens * tokens * width
    return depth * block + 2 * (tokens - 1) * width * 3 * patch * patch + 2 * width * classes


def test_forward_operations_equal_the_formula_for_one_image() -> None:
    found = forecast(spec("linear"), CLASSES)
    assert found.forward_flops == by_hand(24, 2, 5, 8, CLASSES)


def test_full_training_is_the_forward_pass_thrice_but_for_the_images_gradient() -> None:
    found = forecast(spec("full"), CLASSES)
    patches = 2 * 4 * 24 * 3 * 8 * 8  # nobody asks for the gradient of the image
    assert found.step_flops == 3 * by_hand(24, 2, 5, 8, CLASSES) - patches


def test_a_linear_probe_goes_back_through_the_head_alone() -> None:
    found = forecast(spec("linear"), CLASSES)
    assert found.step_flops == by_hand(24, 2, 5, 8, CLASSES) + 2 * 24 * CLASSES  # the head's weight; not its input


def test_both_attention_kernels_do_equal_work() -> None:
    fused, plain = (forecast(spec("full", attention=a), CLASSES) for a in ("fused", "plain"))
    assert fused.step_flops == plain.step_flops and fused.forward_flops == plain.forward_flops


@pytest.mark.parametrize("method", ["lora+sam", "lora+pace"])
def test_two_passes_per_step_are_counted_twice(method: str) -> None:
    once, twice = (forecast(spec(m, drop_path=0.0), CLASSES).step_flops for m in ("lora", method))
    assert once and twice == pytest.approx(2 * once, rel=0.01)


def test_the_counter_sees_products_and_convolutions_and_nothing_else() -> None:
    with FlopCounter() as counted:
        F.conv2d(torch.randn(1, 3, 8, 8), torch.randn(5, 3, 4, 4), stride=4)
        nn.Linear(7, 9)(torch.randn(2, 7)).softmax(-1).sum()
        torch.randn(4, 2, 3) @ torch.randn(4, 3, 6)
    assert counted.total == 2 * (5 * 4 * 3 * 16 + 2 * 7 * 9 + 4 * 2 * 3 * 6)
