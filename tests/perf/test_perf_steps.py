"""One training step of every registered method on the embedded backbone: `make perf`, or this file with

`pytest tests/perf/test_perf_steps.py --benchmark-only -o addopts=`. Bytes kept for backward and operations stand in
`extra_info`. Absolute times compare within one run alone; `python -m bench perf` gives ratios with intervals.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.engine.backbones import EMBEDDED
from bench.engine.forecast import forecast
from bench.perf.rig import CLASSES, Rig, variant
from methods.catalog import catalog

BATCH = 16
ADAPTERS = sorted(p.name for p in catalog().values() if p.kind == "adapter" and "vit" in p.families)
PARTS = sorted(p.name for p in catalog().values() if p.kind != "adapter")


def rig_of(text: str) -> Rig:
    return Rig(variant(text, EMBEDDED, BATCH, ["drop_path=0.0"]).spec)


@pytest.mark.benchmark(group="training step")
@pytest.mark.parametrize("method", [*ADAPTERS, *(f"{'lp_ft' if name == 'fsl2' else 'lora'}+{name}" for name in PARTS)])
def test_a_training_step(benchmark: Any, method: str) -> None:
    rig = rig_of(method)
    memory = rig.first_step()
    told = forecast(rig.spec, CLASSES)
    benchmark.extra_info.update(saved_bytes_per_image=memory.saved_bytes_per_image, step_flops=told.step_flops)
    benchmark.pedantic(rig.train_once, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="evaluation")
@pytest.mark.parametrize("form", ["unmerged", "merged"])
def test_a_batch_is_predicted(benchmark: Any, form: str) -> None:
    rig = rig_of("lora")
    rig.evaluating()
    assert rig.merge()
    benchmark.pedantic(rig.predict_merged if form == "merged" else rig.predict_once, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="meter")
@pytest.mark.parametrize("hooks", ["without", "with"])
def test_the_meters_hooks_cost_little(benchmark: Any, hooks: str) -> None:
    rig = rig_of("lora")
    benchmark.pedantic(rig.first_step if hooks == "with" else rig.train_once, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="meter")
@pytest.mark.parametrize("backbone", [EMBEDDED, "vit_base_patch16_224"])
def test_a_forecast_of_the_ledger(benchmark: Any, backbone: str) -> None:
    spec = variant("lora", backbone, 64, ["drop_path=0.0"]).spec
    found = benchmark.pedantic(forecast, (spec, CLASSES), rounds=5, warmup_rounds=1)
    assert found.memory is not None
