"""The evaluation batch: by memory where it is 0, halved where memory runs out, never under test-time adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.engine import evaluate, forms, meter
from bench.engine.outcome import Trained
from bench.engine.session import Session
from datasets import registry
from methods.compose import Method
from methods.grammar import MethodError, parse

from . import tiny


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def run(folder: Path, method: str = "linear", **changes: Any) -> Trained:
    spec = tiny.spec(method, **{"epochs": 1} | changes)
    return Session(spec, registry.get(spec.dataset), tiny.where(folder, checkpoints=None)).run()


def test_what_lives_at_once_is_counted_to_the_byte() -> None:
    with meter.PeakLive() as live:
        a = torch.zeros(100)  # 400 bytes
        b = a + 1  # 800
        del a  # 400
        c = b.view(10, 10)[2:]  # the same storage
        del b
        assert live.live == 400
        d = c * 2  # 80 numbers: 720 alive
        c.mul_(2)
        del c
    assert (live.peak, live.live) == (800, 320) and d.shape == (8, 10)


def fit_of(each: int, once: int) -> Any:
    """A model whose pass keeps `each` numbers per image and `once` numbers at one moment."""
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(()))  # says which device it is on

        def forward(self, x: Tensor) -> Tensor:
            kept = [x.new_zeros(once), x.new_zeros(len(x), each)]
            return x.new_zeros(len(x), 1) + len(kept)

    net = Net()
    return SimpleNamespace(model=net, forward=net, mean=torch.zeros(3))


@pytest.mark.parametrize("free, workers, wanted", [
    (4 * 4 * 1100 * 100, 1, 64), (4 * 4 * 1100 * 129, 1, 128), (4 * 4 * 1100 * 129, 2, 64), (10**12, 1, 512),
    (1, 1, 1)])
def test_by_memory_it_is_the_largest_power_of_two_that_fits(free: int, workers: int, wanted: int,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "free_memory", lambda device: free)
    each = 1000 - 3 * 2 * 2 - 2  # with the image and two outputs 1000 numbers per image
    fit = fit_of(each, once=0)
    fit.model.train()
    # 4 bytes, a quarter of what is free; with 1100 numbers each there is a tenth of slack
    assert evaluate.batch_by_memory(fit, 2, workers) == wanted
    assert fit.model.training


def test_what_a_pass_needs_once_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "free_memory", lambda device: 4 * 4 * (1000 * 70 + 9000))
    assert evaluate.batch_by_memory(fit_of(986, once=9000), 2, 1) == 64
    assert evaluate.batch_by_memory(fit_of(986, once=30000), 2, 1) == 32


def test_a_machine_says_how_much_memory_is_free() -> None:
    assert 2**20 < evaluate.free_memory(torch.device("cpu")) < 2**50


def test_zero_means_by_memory_and_the_record_says_what_was_used(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, found = run(tmp_path, eval_batch_size=32), run(tmp_path, eval_batch_size=0)
    assert found.diagnostics["eval_batch"] == 512.0 and "eval_batch" not in fixed.diagnostics
    np.testing.assert_array_equal(found.predictions["test"].pred, fixed.predictions["test"].pred)
    assert found.history == fixed.history


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Predicting more than `most` images at once runs out of memory; returns the sizes that were asked for."""
    asked, plain = [], Method.predict

    def predict(self: Method, fit: Any, x: Tensor) -> Tensor:
        asked.append(len(x))
        if len(x) > most or (len(asked) == 3 and most == 20):  # once in the middle of a split, too
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, fit, x)

    monkeypatch.setattr(Method, "predict", predict)
    return asked


def test_where_memory_runs_out_the_batch_is_halved_and_the_split_begun_again(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(tmp_path, eval_batch_size=10)
    asked = limited(monkeypatch, 20)
    found = run(tmp_path, eval_batch_size=40)
    assert asked == [40, 20, 20, 10, 10, 10, 10]  # 40 test images
    assert found.diagnostics["eval_batch"] == 10.0
    for column in ("pred", "label", "margin", "nll"):
        np.testing.assert_array_equal(getattr(found.predictions["test"], column),
                                      getattr(plain.predictions["test"], column))
    assert found.predictions["test"].pred.shape == (40,)


def test_not_even_one_image_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limited(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        run(tmp_path, eval_batch_size=4)
    assert asked == [4, 2, 1]


def test_under_test_time_adaptation_the_batch_is_part_of_the_method(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    adapting = parse("lora+ugr(tta='episodic')")
    assert "size is part of the method" in forms.refusals(adapting, "vit", False, False, eval_batch_size=0)[0]
    assert not forms.refusals(parse("lora+ugr"), "vit", False, False, eval_batch_size=0)
    with pytest.raises(MethodError, match="adapts to each test batch"):
        run(tmp_path, "lora+ugr(tta='episodic')", eval_batch_size=0)
    limited(monkeypatch, 4)
    with pytest.raises(torch.OutOfMemoryError):
        run(tmp_path, "lora+ugr(tta='episodic')", eval_batch_size=8)
