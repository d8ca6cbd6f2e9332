"""TPGM against its specification: T1 to T9, in float64 on a toy network that holds every kind of tensor."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from robust_kit import Toy, data, same, setup, tiny_resnet, train, weights
from tiny_models import features, images, tiny_vit

from methods.compose import create
from methods.constraints.tpgm import Radii, eval_mode, holdout_loss
from methods.grammar import parse
from methods.views import EPS, View, interpolate, project

NORMS = ("mars", "l2")
KINDS = {"conv.weight", "conv.bias", "bn.weight", "cls_token", "pos_embed", "fc.weight", "norm.weight", "scale"}


def radii_of(method) -> Radii:
    return method.constraints[0].radii


def moved_toy(norm: str = "mars", **options):
    """A toy network some steps away from its start, with radii that were measured there."""
    extra = "".join(f", {k}={v!r}" for k, v in options.items())
    method, fit = setup(f"full+tpgm(norm={norm!r}{extra})", Toy())
    train(create(parse("full")), fit, 5)
    radii_of(method).measure()
    return method, fit


def test_the_toy_holds_every_kind_of_tensor():
    assert set(Toy().state_dict()) >= KINDS


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", ["toy", "resnet", "vit"])
def test_T1_every_tensor_ends_within_its_radius(norm, backbone):
    model, size = {"toy": (Toy(), 8), "resnet": (tiny_resnet().double(), 32),
                   "vit": (tiny_vit(depth=2).double(), 32)}[backbone]
    method, fit = setup(f"full+tpgm(norm={norm!r})", model, size)
    radii = radii_of(method)

    def inside() -> None:
        for view, gamma in zip(radii.views, radii._per_view(radii.gamma), strict=True):
            assert float(view.norms(norm).detach().max()) <= float(gamma.max()) * (1 + 1e-6), view.name

    train(method, fit, 4, each=inside, size=size)
    assert {v.name for v in radii.views} == set(fit.trainable) - fit.head


def test_T2_radius_zero_gives_the_pretrained_weights_back_bit_for_bit():
    backbone = tiny_vit()
    before = {n: p.clone() for n, p in backbone.state_dict().items()}
    method, fit = setup("full+tpgm(gamma=0)", backbone, 32)
    train(method, fit, 3, size=32)
    after = weights(fit)
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert float((after["head.weight"] - weights(setup("full", tiny_vit(), 32)[1])["head.weight"]).abs().max()) > 0


@pytest.mark.parametrize("adapter", ["lora", "ssf", "bitfit", "ln_tune", "partial_k", "adapter_pfeiffer", "dora"])
def test_T2_radius_zero_gives_the_pretrained_function_back_on_every_adapter_with_an_anchor(adapter):
    want = features(setup("full", tiny_vit(), 32)[1].model, images())
    method, fit = setup(f"{adapter}+tpgm(gamma=0)", tiny_vit(), 32)
    train(create(parse(adapter)), fit, 2, size=32)
    assert not torch.equal(features(fit.model, images()), want)
    method.constraints[0].after_step(fit)
    assert torch.allclose(features(fit.model, images()), want, atol=0 if adapter != "dora" else 1e-6)


def test_T2_a_huge_radius_is_vanilla_training_bit_for_bit():
    runs = []
    for text in ("full", "full+tpgm(gamma=1e30)", "full+tpgm(norm='l2', gamma=1e30)"):
        method, fit = setup(text, Toy())
        torch.manual_seed(3)
        train(method, fit, 20)
        runs.append(weights(fit))
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])


def test_T2_learning_radii_without_projecting_leaves_training_bit_identical(monkeypatch):
    method, plain = setup("full", Toy())
    torch.manual_seed(3)
    train(method, plain, 20)
    monkeypatch.setattr(Radii, "apply", lambda self: None)
    method, fit = setup("full+tpgm", Toy())
    torch.manual_seed(3)
    train(method, fit, 20)
    assert radii_of(method).t == 20 and same(weights(fit), weights(plain))


@pytest.mark.parametrize("norm", NORMS)
def test_T3_radius_gradients_agree_with_the_closed_form_and_central_differences(norm):
    method, fit = moved_toy(norm)
    radii = radii_of(method)
    medians = torch.stack([n.median() for n in radii.norms])
    gamma = (0.9 * medians).requires_grad_()  # for a tensor of one row: 0.9 n; of many: about half of them bind
    batch = data(10, seed=8)
    fit.holdout = itertools.repeat(batch)
    (autograd,) = torch.autograd.grad(holdout_loss(fit, radii, gamma), gamma)

    shrunk = {n: p.detach().requires_grad_() for n, p in radii.projected(gamma.detach()).items()}
    with eval_mode(fit.model):
        loss = F.cross_entropy(fit.forward(batch.x, shrunk), batch.y)
    outer = torch.autograd.grad(loss, list(shrunk.values()))
    closed = []
    for view, n, g, big_g in zip(radii.views, radii.norms, gamma.detach(), outer, strict=True):
        d = (view.param - view.anchor).detach()
        rows = (1, -1) if norm == "l2" or d.ndim <= 1 else (d.shape[0], -1)
        inner = (big_g.reshape(rows) * d.reshape(rows)).sum(1)
        active = (g / (n + EPS) > 0) & (g / (n + EPS) < 1)
        closed.append((inner / (n + EPS))[active].sum())
    assert torch.allclose(autograd, torch.stack(closed), rtol=1e-5, atol=1e-12)

    h = 1e-6
    for i in range(len(gamma)):
        step = torch.zeros_like(gamma)
        step[i] = h
        with torch.no_grad():
            high, low = holdout_loss(fit, radii, gamma + step), holdout_loss(fit, radii, gamma - step)
        assert float((high - low) / (2 * h)) == pytest.approx(float(autograd[i]), rel=1e-5, abs=1e-9)
    assert norm == "l2" or any(0 < float((n > g).double().mean()) < 1 for n, g in zip(radii.norms, gamma, strict=True))


@pytest.mark.parametrize(("mode", "want"), [("dead", 0.0), ("live", None)])
def test_T3_the_derivative_at_the_bound_is_zero_unless_it_is_asked_to_be_alive(mode, want):
    method, fit = moved_toy("l2", boundary_grad=mode)
    radii = radii_of(method)
    gamma = (torch.cat(radii.norms) + EPS).requires_grad_()  # the ratio is exactly 1
    fit.holdout = itertools.repeat(data(10, seed=8))
    (g,) = torch.autograd.grad(holdout_loss(fit, radii, gamma), gamma)
    assert bool((g == 0).all()) is (want == 0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_T4_applying_twice_is_applying_once(norm):
    method, fit = moved_toy(norm)
    radii = radii_of(method)
    radii.gamma.copy_(torch.stack([n.median() for n in radii.norms]) * 0.7)
    radii.apply()
    once = weights(fit)
    radii.measure()
    radii.apply()
    for name, value in weights(fit).items():
        assert torch.allclose(value, once[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_T4_a_larger_radius_never_shrinks_a_row(norm):
    method, _fit = moved_toy(norm)
    view = next(v for v in radii_of(method).views if v.name == "fc.weight")
    start = view.param.detach().clone()
    sizes = []
    for gamma in (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0):
        view.param.data.copy_(start)
        project(view, gamma, norm)
        sizes.append(view.norms(norm))
    assert all(bool((b >= a).all()) for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("norm", NORMS)
def test_T5_a_projection_keeps_each_rows_direction(norm):
    method, _fit = moved_toy(norm)
    radii = radii_of(method)
    before = {v.name: v.moved().detach().clone() for v in radii.views}
    radii.gamma.copy_(torch.stack([n.median() for n in radii.norms]) * 0.5)
    radii.apply()
    for view in radii.views:
        rows = (before[view.name].shape[0], -1) if before[view.name].ndim > 1 else (1, -1)
        old, new = before[view.name].reshape(rows), view.moved().detach().reshape(rows)
        ratio = (old * new).sum(1) / old.square().sum(1).clamp_min(1e-300)
        assert bool((ratio >= 0).all()) and torch.allclose(new, ratio[:, None] * old, atol=1e-12), view.name


def test_T5_equal_l2_ratios_are_weight_interpolation():
    method, _fit = moved_toy("l2")
    radii = radii_of(method)
    tuned = [v.param.detach().clone() for v in radii.views]
    radii.gamma.copy_(0.3 * (torch.cat(radii.norms) + EPS))
    radii.apply()
    shrunk = [v.param.detach().clone() for v in radii.views]
    for view, value, got in zip(radii.views, tuned, shrunk, strict=True):
        view.param.data.copy_(value)
        interpolate(view, 0.3)
        assert torch.allclose(got, view.param, atol=1e-12)


def test_T6_projection_leaves_head_frozen_weights_buffers_and_optimizer_alone():
    method, fit = setup("bitfit+tpgm", tiny_vit(), 32)
    optimizer = train(method, fit, 2, size=32)
    before, state = weights(fit), copy.deepcopy(optimizer.state_dict())
    radii_of(method).gamma.zero_()
    radii_of(method).apply()
    constrained = {v.name for v in radii_of(method).views}
    assert constrained and not constrained & fit.head
    for name, value in weights(fit).items():
        assert torch.equal(value, before[name]) or name in constrained
    assert str(state) == str(optimizer.state_dict())


@pytest.mark.parametrize("backbone", ["toy", "resnet"])
def test_T7_learning_radii_touches_nothing_of_the_model(backbone):
    model, size = (Toy(), 8) if backbone == "toy" else (tiny_resnet(), 32)
    method, fit = setup("full+tpgm", model, size)
    train(method, fit, 2, size=size)
    next(m for m in fit.model.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()  # a mixed mode must survive
    flags = [m.training for m in fit.model.modules()]
    before, grads, rng = weights(fit), {n: p.grad.clone() for n, p in fit.trainable.items()}, torch.get_rng_state()
    for _ in range(3):
        radii_of(method).learn(lambda gamma: method.constraints[0].objective(fit, gamma))
    assert same(before, weights(fit)) and torch.equal(rng, torch.get_rng_state())
    assert flags == [m.training for m in fit.model.modules()]
    assert all(torch.equal(p.grad, grads[n]) for n, p in fit.trainable.items())


def test_T7_the_inner_loss_is_that_of_the_eval_model():
    method, fit = moved_toy()
    batch = data(10, seed=8)
    fit.holdout = itertools.repeat(batch)
    fit.model.train()
    radii = radii_of(method)
    loss = holdout_loss(fit, radii, radii.cap * 2)  # nothing binds
    fit.model.eval()
    want = F.cross_entropy(fit.model(batch.x), batch.y)
    assert float(loss.detach()) == pytest.approx(float(want.detach()), rel=1e-12)


def test_T8_the_first_radii_are_half_the_smallest_row_and_later_ones_stay_in_bounds(monkeypatch):
    method, fit = setup("full+tpgm", Toy())
    radii = radii_of(method)
    assert bool((radii.gamma == 0).all())
    first: list[torch.Tensor] = []
    monkeypatch.setattr(radii, "learn", lambda objective: None)

    def after_first() -> None:
        first.append(radii.gamma.clone())

    train(method, fit, 1, each=after_first)
    assert torch.allclose(first[0], torch.stack([n.min() for n in radii.norms]) / 2, atol=1e-12)
    monkeypatch.undo()

    def bounded() -> None:
        assert bool(((radii.gamma >= 1e-8) & (radii.gamma <= radii.cap)).all())

    train(method, fit, 6, each=bounded)


def test_T9_radii_on_the_training_batch_of_a_stationary_point_do_not_move():
    torch.manual_seed(0)
    x, y = torch.randn(60, 4, dtype=torch.float64), torch.randint(0, 3, (60,))
    weight = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-14, tolerance_change=0)

    def closure():
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight.mT, y)
        loss.backward()
        return loss

    for _ in range(5):
        solver.step(closure)
    view = View("weight", torch.nn.Parameter(weight.detach()), torch.randn(3, 4, dtype=torch.float64))
    for norm in NORMS:
        radii = Radii([view], norm, "whole", 1e-2)
        radii.measure()
        gamma = (radii.cap * (1 - 1e-10)).requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(x @ radii.projected(gamma)["weight"].mT, y), gamma)
        assert float(g.abs()) < 1e-8
        (g,) = torch.autograd.grad(F.cross_entropy(x @ radii.projected(gamma / 2)["weight"].mT, y), gamma)
        assert float(g.abs()) > 1e-3  # elsewhere there is a slope
