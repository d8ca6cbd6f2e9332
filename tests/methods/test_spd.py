"""SPD against its formula, typed here once more step by step; what must hold of it; what goes with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from robust_kit import Toy, optimizer_of, same, setup, train, weights
from tiny_models import tiny_vit
from torch import Tensor, nn

from bench.engine.optim import make_optimizer
from methods.base import Batch, Fit
from methods.constraints.spd import SPD
from methods.grammar import MethodError, parse
from tests.bench import tiny


class Valley(nn.Module):
    """Three tensors in an uneven bowl whose lowest point wanders, so that gradients turn back and forth."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b, self.c = (nn.Parameter(torch.randn(*s, dtype=torch.float64)) for s in ((4, 3), (5,), (2, 2, 2)))

    def loss(self, t: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i, p in enumerate(self.parameters()):
            bend = torch.linspace(0.3, 3.0, p.numel(), dtype=torch.float64).reshape(p.shape)
            total = total + (bend * (p - 1.5 * math.sin(0.25 * t + i)) ** 2).sum()
        return total


def lend(model: nn.Module) -> Fit:
    trainable = dict(model.named_parameters())
    nothing = torch.zeros(3)
    return Fit(model=model, trainable=trainable, head=frozenset(),
               anchor={n: p.detach().clone() for n, p in trainable.items()}, holdout=iter(()), steps=200,
               steps_per_epoch=200, warmup_steps=0, seed=0, classes=2, train_size=1, mean=nothing, std=nothing, lr=0.05,
               weight_decay=0.0)


def by_the_paper(strength: float, steps: int, lr: float = 0.05) -> tuple[dict[str, Tensor], int]:
    """Adam, moments and all, with the selective decay inside: (weights, steps of a tensor that were shortened)."""
    model, bound = Valley(), 0
    theta = {n: p.detach().clone() for n, p in model.named_parameters()}
    start = {n: p.clone() for n, p in theta.items()}
    first, second = ({n: torch.zeros_like(p) for n, p in theta.items()} for _ in range(2))
    for t in range(1, steps + 1):
        for n, p in model.named_parameters():
            p.data.copy_(theta[n])
        grads = dict(zip(theta, torch.autograd.grad(model.loss(t - 1), list(model.parameters())), strict=True))
        for n, g in grads.items():
            first[n] = 0.9 * first[n] + 0.1 * g
            second[n] = 0.999 * second[n] + 0.001 * g * g
            step = lr * (first[n] / (1 - 0.9**t)) / ((second[n] / (1 - 0.999**t)).sqrt() + 1e-8)
            new = theta[n] - step
            if float((g * (theta[n] - start[n])).sum()) > 0:
                far, was = float((new - start[n]).norm()), float((theta[n] - start[n]).norm())
                r = min(max((far - was) / far, 0.0), 1.0)
                new = new - strength * r * (new - start[n])
                bound += r > 0
            theta[n] = new
    return theta, bound


def by_the_part(strength: float, steps: int, watch: Any = None) -> tuple[Fit, SPD]:
    fit, spd = lend(Valley()), SPD(strength=strength)
    spd.attach(fit)
    optimizer = torch.optim.Adam(fit.trainable.values(), lr=0.05)
    for t in range(steps):
        optimizer.zero_grad()
        fit.model.loss(t).backward()  # type: ignore[operator]
        before = {n: p.detach().clone() for n, p in fit.trainable.items()}
        optimizer.step()
        spd.after_step(fit)
        if watch:
            watch(fit, before)
    return fit, spd


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_spd_agrees_with_the_authors_step_to_1e_12_over_200_steps(strength: float) -> None:
    fit, spd = by_the_part(strength, 200)
    want, bound = by_the_paper(strength, 200)
    assert bound >= 20
    for name, p in fit.trainable.items():
        assert float((p - want[name]).detach().abs().max()) < 1e-12
    assert spd.report()["bound"] == pytest.approx(bound / 600)


def test_at_strength_1_no_step_against_the_loss_goes_further_away() -> None:
    active = 0

    def watch(fit: Fit, before: dict[str, Tensor]) -> None:
        nonlocal active
        for name, p in fit.trainable.items():
            assert p.grad is not None
            was = before[name] - fit.anchor[name]
            if float((p.grad * was).sum()) > 0:
                active += 1
                assert float((p.detach() - fit.anchor[name]).norm()) <= float(was.norm()) * (1 + 1e-12)

    by_the_part(1.0, 120, watch)
    assert active > 30


def test_strength_0_changes_no_bit_and_a_huge_one_turns_nothing_around() -> None:
    plain, other = setup("full", Toy()), setup("full+spd(strength=0.0)", Toy())
    for method, fit in (plain, other):
        torch.manual_seed(2)
        train(method, fit, 12)
    assert same(weights(plain[1]), weights(other[1]))
    fit, _ = by_the_part(1e6, 30)
    assert all(bool(p.isfinite().all()) for p in fit.trainable.values())


def test_the_first_step_is_never_shortened() -> None:
    plain, other = setup("full", Toy()), setup("full+spd", Toy())
    for method, fit in (plain, other):
        torch.manual_seed(2)
        train(method, fit, 1)
    assert same(weights(plain[1]), weights(other[1]))


def test_on_lora_the_product_is_what_is_measured_and_b_is_what_shrinks() -> None:
    method, fit = setup("lora+spd", tiny_vit().double(), 32)
    spd = method.constraints[0]
    optimizer = optimizer_of(fit)
    train(method, fit, 3, optimizer, size=32)
    bound = 0
    for _ in range(12):
        before = [(v.param.detach().clone(), v.scale * (v.param @ v.factor).detach()) for v in fit.views]
        unbound = {}
        step = optimizer.step

        def noted(step: Any = step, unbound: dict[int, Tensor] = unbound) -> None:
            step()
            unbound.update({i: v.param.detach().clone() for i, v in enumerate(fit.views)})

        optimizer.step = noted  # type: ignore[method-assign]
        train(method, fit, 1, optimizer, size=32)
        optimizer.step = step  # type: ignore[method-assign]
        for i, (view, (b, product)) in enumerate(zip(fit.views, before, strict=True)):
            far = float((view.scale * unbound[i] @ view.factor).detach().norm())
            active = float((view.param.grad * b).sum()) > 0 and far > float(product.norm())
            want = unbound[i] * (float(product.norm()) / far) if active else unbound[i]
            assert torch.allclose(view.param, want, rtol=1e-9, atol=1e-15)
            bound += active
    assert bound and spd.report()["bound"] > 0


def test_the_optimizers_decay_leaves_the_constrained_weights_alone() -> None:
    for text, inside in (("full+spd", {"fc.weight", "conv.weight"}), ("full", set())):
        _, fit = setup(text, Toy(), weight_decay=0.1)
        optimizer = make_optimizer(fit, tiny.spec("full", weight_decay=0.1))
        bare = {id(p) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
        matrices = {n for n in ("fc.weight", "conv.weight", "head.weight") if id(fit.trainable[n]) in bare}
        assert matrices == inside
    _, fit = setup("lora+spd", tiny_vit(), 32)
    assert fit.undecayed == fit.peft.keys()  # A as well as B


@pytest.mark.parametrize("other", ["ftp", "tpgm", "tpgm_c", "mars_pgm", "l2_pgm"])
def test_two_parts_that_hold_the_same_weights_are_refused(other: str) -> None:
    for text in (f"full+spd+{other}", f"full+{other}+spd"):
        with pytest.raises(MethodError, match="cannot be combined: both set how far the same weights may move"):
            parse(text)


@pytest.mark.parametrize("text", ["linear+spd", "vpt_deep+spd", "lst+spd"])
def test_without_a_pretrained_value_there_is_nothing_to_decay_to(text: str) -> None:
    with pytest.raises(MethodError, match="'spd' needs 'anchor'"):
        parse(text)


def test_a_batch_is_not_needed_by_the_part() -> None:
    """No pass of the model is added: the gradient at hand is all that is read."""
    method, fit = setup("full+spd", Toy())
    calls = [0]
    fit.model.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    train(method, fit, 4)
    assert calls == [4] and isinstance(next(fit.holdout), Batch) and fit.holdout.position == 5
