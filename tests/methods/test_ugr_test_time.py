"""Test-time adaptation: what moves, what returns, what later batches may know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from robust_kit import data, same, setup, train, weights
from tiny_models import scramble, tiny_vit
from torch import Tensor

from methods.base import Fit
from methods.compose import Method
from methods.regularizers.ugr import UGR

OBJECTIVES = ("ent", "rec", "rot", "con", "agr")


def made(options: str, **settings: Any) -> tuple[Method, Fit, UGR]:
    method, fit = setup(f"lora+ugr({options})", tiny_vit(drop_path_rate=0.3), size=32, **settings)
    train(method, fit, 2, size=32)
    scramble(fit.model)
    fit.model.eval()
    part = method.regularizers[0]
    assert isinstance(part, UGR)
    return method, fit, part


def batches(count: int = 3, size: int = 4) -> list[Tensor]:
    return [data(size, 32, seed=50 + i, dtype=torch.float32).x for i in range(count)]


@torch.no_grad()
def predict(method: Method, fit: Fit, xs: list[Tensor]) -> list[Tensor]:
    method.start_split(fit)
    return [method.predict(fit, x) for x in xs]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_15_episodic_leaves_the_weights_and_streams_as_they_were(objective: str) -> None:
    method, fit, part = made(f"objective='{objective}', tta='episodic', K=2, rho_tta=0.5")
    before, psi = weights(fit), [p.detach().clone() for p in part.auxiliary.weights]
    stream, gradient = torch.get_rng_state(), {n: p.grad for n, p in fit.trainable.items()}
    adapted = predict(method, fit, batches())
    assert same(before, weights(fit)) and torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(a, b) for a, b in zip(psi, part.auxiliary.weights, strict=True))
    assert all(p.grad is gradient[n] for n, p in fit.trainable.items())
    with torch.no_grad():
        plain = [fit.forward(x) for x in batches()]
    assert all(not torch.equal(a, b) for a, b in zip(adapted, plain, strict=True))
    assert not adapted[0].requires_grad


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_15_an_episodic_prediction_does_not_know_earlier_batches(objective: str) -> None:
    method, fit, _ = made(f"objective='{objective}', tta='episodic', rho_tta=0.5")
    xs = batches()
    forward, backward = predict(method, fit, xs), predict(method, fit, xs[::-1])[::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))


@pytest.mark.parametrize("how", ["none", "K", "rho_tta", "rho"])
def test_ugr_15_without_steps_prediction_is_plain(how: str) -> None:
    method, fit, part = made("tta='episodic'")
    if how == "none":
        part.tta = "none"
    else:
        setattr(part, how, 0)
    xs = batches()
    with torch.no_grad():
        assert all(torch.equal(a, fit.forward(x)) for a, x in zip(predict(method, fit, xs), xs, strict=True))


def test_ugr_15_online_on_one_batch_is_episodic() -> None:
    found = []
    for tta in ("episodic", "online"):
        method, fit, _ = made(f"tta='{tta}', rho_tta=0.5")
        found.append(predict(method, fit, batches(1))[0])
    assert torch.equal(*found)


def test_online_carries_its_moves_and_moves_only_the_adapter() -> None:
    method, fit, _ = made("tta='online', rho_tta=0.5")
    before, xs = weights(fit), batches()
    online = predict(method, fit, xs)
    after = weights(fit)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved == set(fit.peft)
    fit.model.load_state_dict(before)
    episodic = made("tta='episodic', rho_tta=0.5")
    alone = predict(episodic[0], episodic[1], xs)
    assert torch.equal(online[0], alone[0]) and not torch.equal(online[1], alone[1])


def test_online_can_begin_anew_every_few_batches() -> None:
    method, fit, _ = made("tta='online', rho_tta=0.5, reset_every=2")
    xs = batches(1) * 4
    found = predict(method, fit, xs)
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3]) and not torch.equal(found[0], found[1])


def test_a_step_is_plain_gradient_descent_in_eval_mode() -> None:
    method, fit, _part = made("tta='episodic', K=2, mode='raw', rho_tta=0.3")
    x, before = batches(1)[0], weights(fit)
    adapted = predict(method, fit, [x])[0]
    for _ in range(2):
        logits = fit.forward(x)
        p = logits.softmax(1)
        loss = -(p * p.log()).sum(1).mean()
        g = torch.autograd.grad(loss, list(fit.peft.values()))
        with torch.no_grad():
            for weight, one in zip(fit.peft.values(), g, strict=True):
                weight -= 0.3 * one
    torch.testing.assert_close(adapted, fit.forward(x).detach(), rtol=1e-4, atol=1e-5)
    fit.model.load_state_dict(before)


def test_each_step_lowers_the_entropy() -> None:
    method, fit, part = made("tta='episodic', K=1, rho_tta=0.05")
    x = batches(1, 16)[0]
    with torch.no_grad():
        losses = [part.chosen.look(fit, x, None).loss]
        for part.K in (1, 3, 6):
            logits = predict(method, fit, [x])[0]
            losses.append(-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean())
    assert losses == sorted(losses, reverse=True)


def test_the_rest_of_a_split_may_be_one_image_where_the_objective_needs_more() -> None:
    method, fit, _ = made("objective='con', tta='episodic'")
    xs = [*batches(1), batches(1)[0][:1]]
    with torch.no_grad():
        assert torch.equal(predict(method, fit, xs)[1], fit.forward(xs[1]))
    with pytest.raises(ValueError, match="single images"):
        predict(method, fit, xs[1:])


def test_adaptation_that_fails_halfway_leaves_the_weights() -> None:
    _method, fit, part = made("tta='episodic', rho_tta=0.5")
    before = weights(fit)

    def broken(x: Tensor) -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError), torch.no_grad():
        part.predict(fit, batches(1)[0], broken)
    assert same(before, weights(fit))
