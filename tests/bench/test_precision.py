"""float32 stays exact, TF32 is a value of its own, and a processor that is slow in bf16 is found out beforehand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.engine.build import settle_torch
from bench.engine.precision import settle
from bench.perf import machine
from bench.planning.request import UsageError
from bench.verbs import here
from methods.grammar import MethodError
from tests.reports import fakes

from . import tiny


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GPU in words, and torch's flags put back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Card")
    yield lambda: (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_on_a_gpu_float32_is_exact_in_products_and_in_convolutions(flags: Any) -> None:
    gpu = torch.device("cuda")
    settle("tf32", gpu)
    assert flags() == (True, True)
    for exact in ("fp32", "bf16"):
        settle("tf32", gpu)
        settle(exact, gpu)
        assert flags() == (False, False), f"{exact} after tf32 in one process"


def test_a_run_settles_its_own(flags: Any, tmp_path: Any) -> None:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        for precision, wanted in (("tf32", True), ("fp32", False)):
            settle_torch(tiny.spec(precision=precision), tiny.where(tmp_path, device="cuda", deterministic=False))
            assert flags() == (wanted, wanted)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def test_the_cpus_flags_stay_as_they_are(flags: Any) -> None:
    before = flags()
    settle("fp32", torch.device("cpu"))
    settle("bf16", torch.device("cpu"))
    assert flags() == before


def test_tf32_is_refused_where_it_is_not(flags: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MethodError, match="exists on GPUs alone"):
        settle("tf32", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    with pytest.raises(MethodError, match=r"needs a GPU of compute capability 8\.0, not Card"):
        settle("tf32", torch.device("cuda"))
    todo: Any = [SimpleNamespace(spec=replace(fakes.spec(), precision="tf32"))]
    with pytest.raises(UsageError, match="these runs are for the CPU"):
        here.check_precision(todo, "cpu")
    here.check_precision(todo, "cuda:1")


def test_tf32_is_another_protocol() -> None:
    exact = fakes.spec()
    assert exact.protocol_id != replace(exact, precision="tf32").protocol_id


def test_slow_bf16_is_said_in_one_sentence_with_the_ratio(monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    seen = {"fp32": 66.8e9, "bf16": 0.8e9}
    assert machine.slow_bf16(seen, 3) == (
        "precision=bf16 is 84 times slower than float32 on this processor (0.8 against 66.8 GFLOP/s in a matrix "
        "product), and 3 runs ask for it; precision=fp32 is the quick one here")
    assert machine.slow_bf16({"fp32": 71e9, "bf16": 196e9}, 3) == ""
    monkeypatch.setattr(machine, "rates", lambda: seen)
    todo: Any = [SimpleNamespace(spec=replace(fakes.spec(), precision=p)) for p in ("bf16", "fp32")]
    here.check_precision(todo, "cpu")
    assert capsys.readouterr().err.count("and 1 run asks for it") == 1
    here.check_precision(todo[1:], "cpu")
    here.check_precision(todo, "cuda")
    assert capsys.readouterr().err == "", "nothing asks for bf16 there, or a GPU has it"


def test_the_probe_is_short_and_finds_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the work's own: a product takes 1 ms in float32 and 20 ms in bf16."""
    now = 0.0

    def slow(shape: Any, dtype: torch.dtype, device: torch.device, repeat: int = 1) -> machine.Product:
        def work() -> None:
            nonlocal now
            now += 0.02 if dtype is torch.bfloat16 else 0.001
        return machine.Product(shape, work, 2.0 * shape[0] * shape[1] * shape[2])

    monkeypatch.setattr(machine, "product", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    found = machine.rates()
    assert found["fp32"] / found["bf16"] == pytest.approx(20)
    assert now < 0.15
