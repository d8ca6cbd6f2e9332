"""The ledger: bytes kept for backward are exact, peak-live, and free of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.engine import meter


def _measure(model: nn.Module, step) -> meter.SavedBytes:  # type: ignore[no-untyped-def]
    with meter.saved_bytes(meter.fixed_tensors(model)) as saved:
        step()
    return saved


def test_a_chain_keeps_exactly_its_inputs() -> None:
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    saved = _measure(layers, lambda: layers(x).sum().backward())
    # x for the first weight, the ReLU's output (shared with the second layer) once; the weights are not counted.
    assert saved.peak == 16 * 4 * 4 + 16 * 8 * 4


def test_nothing_is_alive_after_the_step() -> None:
    layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    saved = _measure(layers, lambda: layers(torch.randn(3, 4)).sum().backward())
    assert saved.live == 0 and saved.peak > 0


def test_two_passes_one_after_the_other_count_once_and_two_at_a_time_twice() -> None:
    layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    x, other = torch.randn(3, 4), torch.randn(3, 4)

    def once() -> None:
        layers(x).sum().backward()

    def sequential() -> None:
        layers(x).sum().backward()
        layers(other).sum().backward()

    def together() -> None:
        (layers(x).sum() + layers(other).sum()).backward()

    one = _measure(layers, once).peak
    assert _measure(layers, sequential).peak == one
    assert _measure(layers, together).peak == 2 * one


def test_expanded_tensors_count_what_they_occupy_and_slices_what_they_keep_alive() -> None:
    weight = nn.Parameter(torch.ones(1000, 10))
    row = torch.randn(1, 10)
    model = nn.Module()
    model.weight = weight
    assert _measure(model, lambda: (weight * row.expand(1000, 10)).sum().backward()).peak == 10 * 4
    base = torch.randn(1000, 10)
    small = nn.Parameter(torch.ones(10, 10))
    model.weight = small
    assert _measure(model, lambda: (small * base[:10]).sum().backward()).peak == 1000 * 10 * 4


def test_frozen_layers_before_the_first_trained_one_keep_nothing() -> None:
    frozen, trained = nn.Linear(4, 64), nn.Linear(64, 2)
    frozen.requires_grad_(False)
    model = nn.Sequential(frozen, nn.Tanh(), trained)
    saved = _measure(model, lambda: model(torch.randn(5, 4)).sum().backward())
    assert saved.peak == 5 * 64 * 4


def test_fake_tensors_give_the_same_bytes_as_real_ones() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    def step(model: nn.Module, x: torch.Tensor) -> int:
        return _measure(model, lambda: model(x).square().sum().backward()).peak

    real = step(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)), torch.randn(7, 4))
    with FakeTensorMode():
        fake = step(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)), torch.randn(7, 4))
    assert real == fake


def test_the_ledger_adds_up_for_adamw() -> None:
    frozen, trained = nn.Linear(4, 8), nn.Linear(8, 2)
    frozen.requires_grad_(False)
    model = nn.Sequential(frozen, trained)
    optimizer = torch.optim.AdamW(trained.parameters())
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    found = meter.ledger(model, optimizer, 96, 3)
    assert found.weights_frozen_bytes == (4 * 8 + 8) * 4
    assert found.weights_trained_bytes == found.gradients_bytes == (8 * 2 + 2) * 4
    assert found.optimizer_bytes == 2 * (8 * 2 + 2) * 4
    assert found.saved_bytes_per_image == pytest.approx(32)
