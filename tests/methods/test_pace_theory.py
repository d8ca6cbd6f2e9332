"""PACE's theory on random quadratics: what the noise's penalty is, by Monte Carlo, and that it bounds the FP-distance.

f(theta) = g'd + d'Hd / 2 around theta; D is the adapter's update, theta0 + z * D the noisy weights, z of mean 1.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

DRAWS = 1_000_000  # standard error about 0.1 %
ROWS, COLUMNS = 3, 2  # D is a weight matrix; its rows share the noise as PACE is implemented


def quadratic(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Update D (6,), gradient g (6,) and symmetric Hessian H (6, 6) at theta0 + D."""
    g = torch.Generator().manual_seed(seed)
    d, grad = (torch.randn(ROWS * COLUMNS, generator=g, dtype=torch.float64) for _ in range(2))
    h = torch.randn(ROWS * COLUMNS, ROWS * COLUMNS, generator=g, dtype=torch.float64)
    return d, grad, (h + h.T) / 2


def penalty(d: Tensor, g: Tensor, h: Tensor, s: float, by_row: bool, seed: int = 0) -> float:
    """Monte Carlo estimate of E (f(theta0 + z1 D) - f(theta0 + z2 D))^2."""
    generator = torch.Generator().manual_seed(seed)

    def output() -> Tensor:
        size = (DRAWS, ROWS) if by_row else (DRAWS, ROWS * COLUMNS)
        noise = s * torch.randn(size, generator=generator, dtype=torch.float64)
        move = (noise.repeat_interleave(COLUMNS, 1) if by_row else noise) * d
        return move @ g + 0.5 * ((move @ h) * move).sum(1)

    return (output() - output()).square().mean().item()


def formula(d: Tensor, g: Tensor, h: Tensor, s: float, by_row: bool) -> float:
    """2 s^2 |D * g|^2 + s^4 |(DD') * H|_F^2, entries of a row taken together when they share the noise."""
    first, second = d * g, torch.outer(d, d) * h
    if by_row:
        first = first.view(ROWS, COLUMNS).sum(1)
        second = second.view(ROWS, COLUMNS, ROWS, COLUMNS).sum((1, 3))
    return (2 * s**2 * first.square().sum() + s**4 * second.square().sum()).item()


@pytest.mark.parametrize("by_row", [False, True], ids=["per-weight", "row-shared"])
def test_pace_14_the_penalty_is_the_theorems_formula_within_one_percent(by_row: bool) -> None:
    d, g, h = quadratic(3)
    assert penalty(d, g, h, 0.6, by_row) / formula(d, g, h, 0.6, by_row) == pytest.approx(1, abs=0.01)


def test_pace_14_the_two_noise_forms_are_told_apart() -> None:
    d, g, h = quadratic(3)
    assert abs(formula(d, g, h, 0.6, True) / formula(d, g, h, 0.6, False) - 1) > 0.05


def test_pace_14_halving_a_small_sigma_quarters_the_penalty() -> None:
    d, g, h = quadratic(2)
    ratio = penalty(d, g, h, 0.02, True) / penalty(d, g, h, 0.01, True, seed=1)
    assert ratio == pytest.approx(4, rel=0.05)


def test_pace_15_the_penalty_bounds_the_distance_to_the_pretrained_output() -> None:
    generator = torch.Generator().manual_seed(0)
    dims, draws = 6, 10_000
    d, g = (torch.randn(draws, dims, generator=generator, dtype=torch.float64) for _ in range(2))
    h = torch.randn(draws, dims, dims, generator=generator, dtype=torch.float64)
    h = (h + h.mT) / 2
    distance = ((d * g).sum(1) - 0.5 * torch.einsum("bi,bij,bj->b", d, h, d)).square()
    weighted = (d[:, :, None] * d[:, None, :] * h).square().sum((1, 2))
    bound = 2 * dims * (d * g).square().sum(1) + dims**2 * weighted
    assert (distance <= bound).all()
    assert (distance > bound / 100).any()  # the bound is not empty
