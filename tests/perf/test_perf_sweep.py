"""How long a backbone of each kind takes to be counted under LoRA on the meta device; two seconds are the aim."""

from __future__ import annotations

from typing import Any

import pytest

from bench.engine.count import trained_weights
from methods.grammar import parse
from tests.bench.test_sweep import CARRIED


@pytest.mark.benchmark(group="a backbone is counted")
@pytest.mark.parametrize("name", CARRIED)
def test_a_backbone_is_counted(benchmark: Any, name: str) -> None:
    counted, _ = benchmark.pedantic(trained_weights, (parse("lora"), name, 10), rounds=3, warmup_rounds=1)
    assert counted > 0
