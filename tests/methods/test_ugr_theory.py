"""UGR's mathematics through the part itself, in float64: quadratics with a closed form, a logistic toy, a tiny ViT."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from robust_kit import data, setup
from tiny_models import scramble, tiny_vit
from torch import Tensor, nn

from methods.base import Batch, Fit, Terms
from methods.compose import create
from methods.grammar import parse
from methods.regularizers.objectives import Look, Objective
from methods.regularizers.ugr import UGR

Loss = Callable[[Tensor], Tensor]
DIM = 6
NOTHING = Batch(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))


class Point(nn.Module):
    """A network that is its weights."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())


@dataclass(frozen=True)
class Unsupervised(Objective):
    loss: Loss = torch.sum

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        return Look(self.loss(fit.trainable["theta"]))


class Toy:
    """The part on two losses of one weight vector."""

    def __init__(self, target: Loss, unsupervised: Loss, theta: Tensor, rho: float, **options: Any) -> None:
        self.target, self.model = target, Point(theta)
        made = create(parse("full+ugr")).regularizers[0]
        assert isinstance(made, UGR)
        self.part = made
        for name, value in {"rho": rho, "mode": "raw", "rho_warmup": False, **options}.items():
            setattr(made, name, value)
        self.fit = Fit(model=self.model, trainable={"theta": self.model.theta}, head=frozenset(), anchor={},
                       holdout=iter(()), steps=1, steps_per_epoch=1, warmup_steps=0, seed=0, classes=2, train_size=1,
                       mean=torch.zeros(3), std=torch.ones(3), lr=1e-2, weight_decay=0.0)
        self.part.attach(self.fit)
        self.part.chosen = Unsupervised(unsupervised)

    @property
    def theta(self) -> Tensor:
        return self.model.theta.detach()

    def base(self, fit: Fit, batch: Batch) -> Terms:
        loss = self.target(self.model.theta)
        loss.backward()
        return {"loss": loss}

    def gradient(self) -> Tensor:
        """The gradient that UGR hands to the optimizer."""
        self.model.theta.grad = None
        self.part.grads(self.fit, NOTHING, self.base)
        assert self.model.theta.grad is not None
        return self.model.theta.grad.clone()


def gradient(loss: Loss, theta: Tensor) -> Tensor:
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]


def hessian(loss: Loss, theta: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(loss, theta)


def spd(seed: int) -> Tensor:
    m = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return m @ m.T / DIM + 0.5 * torch.eye(DIM, dtype=torch.float64)


def vector(seed: int) -> Tensor:
    return torch.randn(DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B, CENTRE, OTHER = spd(1), spd(2), vector(3), vector(4)


def quadratic_t(theta: Tensor) -> Tensor:
    return (theta - CENTRE) @ A @ (theta - CENTRE) / 2


def quadratic_u(theta: Tensor) -> Tensor:
    return (theta - OTHER) @ B @ (theta - OTHER) / 2


X = torch.randn(12, DIM, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
Y = (torch.arange(12) % 2).double()


def logistic(theta: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(X @ theta, Y)


def entropy(theta: Tensor) -> Tensor:
    p = torch.sigmoid(X.flip(0) @ theta)
    return -(p * p.log() + (1 - p) * (1 - p).log()).mean()


def test_ugr_05_on_quadratics_the_gradient_has_the_closed_form() -> None:
    rho, theta = 0.1, vector(5)
    toy = Toy(quadratic_t, quadratic_u, theta, rho)
    g_u, g_t = gradient(quadratic_u, theta), gradient(quadratic_t, theta)
    torch.testing.assert_close(toy.gradient(), g_t - rho * A @ g_u, rtol=1e-12, atol=1e-12)


def test_ugr_05_gradient_descent_converges_to_the_predicted_fixed_point() -> None:
    rho = 0.1
    toy = Toy(quadratic_t, quadratic_u, vector(5), rho)
    for _ in range(400):
        g = toy.gradient()
        with torch.no_grad():
            toy.model.theta -= 0.3 * g
    eye = torch.eye(DIM, dtype=torch.float64)
    star = torch.linalg.solve(eye - rho * B, CENTRE - rho * B @ OTHER)
    torch.testing.assert_close(toy.theta, star, rtol=1e-9, atol=1e-9)
    g_u, g_t = gradient(quadratic_u, toy.theta), gradient(quadratic_t, toy.theta)
    torch.testing.assert_close(toy.theta - rho * g_u, CENTRE, rtol=1e-9, atol=1e-9)  # the moved weights are the optimum
    torch.testing.assert_close(g_t, rho * A @ g_u, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(g_u @ g_t, rho * g_u @ A @ g_u, rtol=1e-8, atol=1e-9)
    assert g_u @ g_t > 0


def error_of_expansion(rho: float) -> float:
    theta = vector(5)
    g_t, g_u, h_t = gradient(logistic, theta), gradient(entropy, theta), hessian(logistic, theta)
    return (Toy(logistic, entropy, theta, rho).gradient() - (g_t - rho * h_t @ g_u)).norm().item()


def test_ugr_07_on_a_logistic_loss_the_expansions_error_falls_fourfold_per_halving() -> None:
    errors = [error_of_expansion(rho) for rho in (0.2, 0.1, 0.05, 0.025)]
    assert all(3.6 < a / b < 4.4 for a, b in itertools.pairwise(errors))


def test_ugr_07_on_a_tiny_vit_with_lora_too() -> None:
    net = tiny_vit().double()
    method, fit = setup("lora+ugr(mode='raw', rho=1.0, rho_warmup=False)", net, size=32)
    scramble(fit.model)
    for block in net.blocks:
        block.attn.fused_attn = False  # the fused kernel has no second derivative
    part, b = method.regularizers[0], data(6, 32)
    assert isinstance(part, UGR)
    fit.model.eval()
    theta = part.theta(fit)
    _, g_u, _ = part.look(fit, b.x, theta)
    loss = F.cross_entropy(fit.forward(b.x), b.y)
    g_t = torch.autograd.grad(loss, theta, create_graph=True)
    along = sum((g * u).sum() for g, u in zip(g_t, g_u, strict=True))
    assert isinstance(along, Tensor)
    h_u = torch.autograd.grad(along, theta)

    def error(rho: float) -> float:
        part.rho = rho
        fit.model.zero_grad(set_to_none=True)
        method.grads(fit, b)
        gaps = [p.grad - (g.detach() - rho * h) for p, g, h in zip(theta, g_t, h_u, strict=True)]
        return torch.cat([gap.flatten() for gap in gaps]).norm().item()

    errors = [error(rho) for rho in (4e-3, 2e-3, 1e-3)]
    assert all(3.6 < a / b < 4.4 for a, b in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("mode", ["raw", "unit"])
@pytest.mark.parametrize("seed", range(4))
def test_ugr_08_a_small_move_changes_the_loss_as_the_inner_product_says(seed: int, mode: str) -> None:
    method, fit = setup(f"lora+ugr(mode='{mode}', rho=1e-5)", tiny_vit(seed).double(), size=32, seed=seed)
    scramble(fit.model, seed)
    found = method.probe(fit, data(6, 32, seed=seed))
    assert found["ugr.change"] / found["ugr.change_expected"] == pytest.approx(1, abs=0.01)
    assert (found["ugr.change_expected"] < 0) == (found["ugr.inner"] > 0)


@pytest.mark.parametrize("seed", range(5))
def test_ugr_09_lemma_1_the_step_descends_on_the_loss_at_the_moved_weights(seed: int) -> None:
    theta = vector(seed)
    h_u = hessian(entropy, theta)
    rho = 0.5 / max(1e-6, torch.linalg.eigvalsh(h_u).max().item())

    def moved(at: Tensor) -> Tensor:
        g_u = torch.autograd.grad(entropy(at), at, create_graph=True)[0]
        return logistic(at - rho * g_u)

    at = theta.clone().requires_grad_()
    exact = torch.autograd.grad(moved(at), at)[0]
    v = Toy(logistic, entropy, theta, rho).gradient()
    torch.testing.assert_close(exact, v - rho * h_u @ v, rtol=1e-12, atol=1e-12)
    assert exact @ v > 0


def quartic(theta: Tensor) -> Tensor:
    return quadratic_t(theta) + 0.05 * (theta - CENTRE).pow(4).sum()


def test_ugr_09_lemma_2_at_convergence_the_gradients_agree() -> None:
    rho = 0.1
    toy = Toy(quartic, quadratic_u, vector(5), rho)
    for _ in range(400):
        g = toy.gradient()
        with torch.no_grad():
            toy.model.theta -= 0.3 * g
    assert toy.gradient().norm() < 1e-10
    g_u, g_t = gradient(quadratic_u, toy.theta), gradient(quartic, toy.theta)
    ends = [hessian(quartic, toy.theta - rho * t * g_u) for t in (0.0, 0.5, 1.0)]
    mean = (ends[0] + 4 * ends[1] + ends[2]) / 6  # Simpson's rule, exact: the Hessian is quadratic along the segment
    torch.testing.assert_close(g_t, rho * mean @ g_u, rtol=1e-9, atol=1e-10)
    assert g_u @ g_t > 0


@pytest.mark.parametrize("seed", range(3))
def test_ugr_10_lemma_3_predicts_how_one_step_changes_the_agreement(seed: int) -> None:
    eta, rho, theta = 1e-4, 1e-4, vector(seed)
    g_t, g_u = gradient(logistic, theta), gradient(entropy, theta)
    h_t, h_u = hessian(logistic, theta), hessian(entropy, theta)

    def agreement(at: Tensor) -> Tensor:
        return gradient(entropy, at) @ gradient(logistic, at)

    v = Toy(logistic, entropy, theta, rho).gradient()
    measured = agreement(theta - eta * v) - agreement(theta - eta * g_t)
    predicted = eta * rho * ((h_t @ g_u).square().sum() + g_t @ h_u @ h_t @ g_u)
    assert (measured / predicted).item() == pytest.approx(1, abs=0.01)


def test_ascent_and_lookahead_on_the_target_loss_have_their_own_signs() -> None:
    rho, theta = 0.1, vector(5)
    g_t, g_u = gradient(quadratic_t, theta), gradient(quadratic_u, theta)
    for control, expected in {"ascent": g_t + rho * A @ g_u, "sam": g_t + rho * A @ g_t,
                              "lookahead": g_t - rho * A @ g_t, "noperturb": g_t}.items():
        found = Toy(quadratic_t, quadratic_u, theta, rho, control=control).gradient()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    joint = Toy(quadratic_t, quadratic_u, theta, rho, control="joint", mu=0.7).gradient()
    torch.testing.assert_close(joint, g_t + 0.7 * g_u, rtol=1e-12, atol=1e-12)


def test_the_random_control_moves_as_far_in_another_direction() -> None:
    rho, theta = 0.1, vector(5)
    g_t, g_u = gradient(quadratic_t, theta), gradient(quadratic_u, theta)
    found = Toy(quadratic_t, quadratic_u, theta, rho, control="random").gradient()
    step = torch.linalg.solve(A, g_t - found)  # rho times the direction
    assert step.norm().item() == pytest.approx(rho * g_u.norm().item(), rel=1e-9)
    assert abs((step @ g_u) / (step.norm() * g_u.norm())) < 0.95


def test_curvature_is_the_largest_eigenvalue_by_power_iteration() -> None:
    from methods.regularizers import probing

    toy = Toy(quadratic_t, quadratic_u, vector(5), 0.1)
    probing_steps, probing.POWER_STEPS = probing.POWER_STEPS, 200
    try:
        found = probing.curvature(toy.fit, NOTHING.x, toy.part)
    finally:
        probing.POWER_STEPS = probing_steps
    assert found == pytest.approx(torch.linalg.eigvalsh(B).max().item(), rel=1e-4)
