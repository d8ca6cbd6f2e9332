"""DiGraP, our reading, against its rule written once more step by step, and against what it is for."""

from __future__ import annotations

import math

import pytest
import torch
from robust_kit import Toy, data, same, setup, train, weights
from tiny_models import tiny_vit
from torch import Tensor

from methods.base import Fit
from methods.catalog import catalog
from methods.compose import Method
from methods.grammar import MethodError, parse
from methods.regularizers.digrap import cosine


def held(omega: float, steps: int = 15) -> tuple[Method, Fit]:
    """Full fine-tuning with every omega fixed."""
    method, fit = setup("full+digrap(lr=0.0)", Toy(), lr=1e-2)
    method.regularizers[0].omega.fill_(omega)  # type: ignore[attr-defined]
    torch.manual_seed(2)
    train(method, fit, steps, torch.optim.SGD(fit.trainable.values(), lr=1e-2))
    return method, fit


def moved(fit: Fit) -> float:
    return sum(float((fit.trainable[n] - a).detach().square().sum()) for n, a in fit.anchor.items()) ** 0.5


def test_with_omega_1_the_weights_stay_nearer_than_with_0() -> None:
    assert moved(held(1.0)[1]) < moved(held(0.5)[1]) < moved(held(0.0)[1])


def test_omega_0_is_plain_training_bit_for_bit() -> None:
    method, fit = setup("full", Toy())
    torch.manual_seed(2)
    train(method, fit, 15, torch.optim.SGD(fit.trainable.values(), lr=1e-2))
    assert same(weights(fit), weights(held(0.0)[1]))


def test_with_omega_1_no_gradient_leads_away() -> None:
    """What is left is orthogonal to the move, or leads back; the part across the move stays."""
    method, fit = held(1.0, 4)
    _, plain = setup("full", Toy())
    plain.model.load_state_dict(fit.model.state_dict())
    batch, turned = data(10), 0
    for f, m in ((fit, method), (plain, setup("full", Toy())[0])):
        f.model.train()
        f.model.zero_grad()
        torch.manual_seed(5)
        m.grads(f, batch)
    for name, anchor in fit.anchor.items():
        d = (fit.trainable[name] - anchor).detach()
        g, was = fit.trainable[name].grad, plain.trainable[name].grad
        assert g is not None and was is not None
        along = float((was * d).sum())
        if along < 0:
            turned += 1
            assert abs(float((g * d).sum())) < 1e-10 * float(d.norm()) * max(1.0, float(was.norm()))
            unit = d / d.norm()
            assert torch.allclose(was - (was * unit).sum() * unit, g, atol=1e-12)
        else:
            assert torch.equal(g, was)
    assert turned
    assert torch.equal(fit.trainable["head.weight"].grad, plain.trainable["head.weight"].grad)  # type: ignore


def test_a_run_equals_the_rule_written_step_by_step() -> None:
    rate, lr, steps = 0.05, 0.02, 25
    method, fit = setup(f"full+digrap(lr={rate})", Toy(), lr=lr)
    torch.manual_seed(2)
    seen: list[dict[str, Tensor]] = []  # gradients before anything is taken out of them
    inner = method._shaper.keywords["base"]  # type: ignore[attr-defined]

    def noted(f: Fit, batch: object) -> object:
        terms = inner(f, batch)
        seen.append({n: p.grad.clone() for n, p in f.trainable.items() if p.grad is not None})
        return terms

    method._shaper.keywords["base"] = noted  # type: ignore[attr-defined]
    sgd = torch.optim.SGD(fit.trainable.values(), lr=lr)
    names = [view.name for view in fit.views]
    want = {n: fit.anchor[n].clone() for n in names}
    omega, m, v = (dict.fromkeys(names, 0.0) for _ in range(3))
    before = {n: torch.zeros_like(want[n]) for n in names}
    for t in range(1, steps + 1):
        train(method, fit, 1, sgd)
        for n in names:
            g, d = seen[-1][n], want[n] - fit.anchor[n]
            if t > 1:
                size = float(g.norm() * before[n].norm())
                h = float((g * before[n]).sum()) / size if size > 1e-12 else 0.0
                m[n], v[n] = 0.9 * m[n] + 0.1 * h, 0.999 * v[n] + 0.001 * h * h
                step = m[n] / (1 - 0.9 ** (t - 1)) / (math.sqrt(v[n] / (1 - 0.999 ** (t - 1))) + 1e-8)
                omega[n] = min(max(omega[n] - rate * step, 0.0), 1.0)
            along = float((g * d).sum())
            before[n] = along / float((d * d).sum()) * d if along < 0 else torch.zeros_like(d)
            want[n] = want[n] - lr * (g - omega[n] * before[n])
    assert max(omega.values()) > 0.1
    for n in names:
        assert torch.allclose(fit.trainable[n].detach(), want[n], atol=1e-11), n
    told = method.regularizers[0].report()
    assert told["omega_mean"] == pytest.approx(sum(omega.values()) / len(omega), abs=1e-9) and 0 < told["conflicts"] < 1


def test_the_share_grows_where_the_loss_wants_the_weight_back() -> None:
    """The slope by omega: going back would have lowered the loss exactly where the next gradient points that way."""
    theta, omega = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    omega.requires_grad_()
    g, d, lr = torch.tensor([-1.0, 0.5], dtype=torch.float64), torch.tensor([1.0, 0.1], dtype=torch.float64), 0.1
    proj = (g @ d) / (d @ d) * d
    assert float(g @ d) < 0
    there = theta - lr * (g - omega * proj)
    loss = ((there - torch.tensor([0.0, 1.0])) ** 2).sum()
    (slope,) = torch.autograd.grad(loss, omega)
    g_next = 2 * (there.detach() - torch.tensor([0.0, 1.0]))
    assert math.copysign(1, float(cosine(g_next, proj))) == math.copysign(1, float(slope))
    assert float(slope) == pytest.approx(lr * float(g_next @ proj), rel=1e-12)


def test_it_has_the_last_word_on_the_gradient_wherever_it_is_written() -> None:
    assert parse("lora+digrap+sam+wise").text() == "lora+sam+digrap+wise"
    assert parse("lora+digrap+pace").text() == "lora+pace+digrap"


def test_our_reading_is_printed() -> None:
    told = catalog()["digrap"].facts["ours"]
    assert all(word in told for word in ("our reading", "sign", "normalisation", "rate"))


@pytest.mark.parametrize("text", ["linear+digrap", "vpt_deep+digrap", "lst+digrap"])
def test_without_a_pretrained_value_there_is_no_direction(text: str) -> None:
    with pytest.raises(MethodError, match="'digrap' needs 'anchor'"):
        parse(text)


@pytest.mark.parametrize("text", ["lora+sam+digrap", "full+digrap+ftp", "lora+pace+digrap+spd", "bitfit+digrap+wise",
                                  "ssf+l2_sp+digrap+ema"])
def test_what_goes_together_takes_three_steps(text: str) -> None:
    method, fit = setup(text, tiny_vit(), 32)
    train(method, fit, 3, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(t.isfinite().all()) for t in weights(fit).values())
