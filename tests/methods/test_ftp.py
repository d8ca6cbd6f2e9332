"""FTP against its specification: F1 to F6, and the whole update once more, row by row, on a linear model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from robust_kit import Endless, Toy, data, optimizer_of, same, setup, train, weights
from tiny_models import tiny_vit

EPS = 1e-8


def rows(t: torch.Tensor) -> torch.Tensor:
    return t.reshape(t.shape[0], -1) if t.ndim > 1 else t.reshape(1, -1)


class Linear3(torch.nn.Module):
    """Images to logits through one matrix whose initial value is the anchor, then a head."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.fc = torch.nn.Linear(48, 4)
        self.head = torch.nn.Identity()
        self.double()

    def reset_classifier(self, classes: int) -> None:
        self.head = torch.nn.Linear(4, classes).double()

    def get_classifier(self) -> torch.nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.fc(x.flatten(1))))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_F1_the_first_step_is_almost_none(kind):
    method, fit = setup("full+ftp", Toy())
    train(method, fit, 1, optimizer_of(fit, kind))
    for name, p in fit.trainable.items():
        if name in fit.anchor:
            assert float(rows(p.detach() - fit.anchor[name]).abs().sum(1).max()) <= 1e-8 * (1 + 1e-6), name
        else:
            assert p.grad is not None


def test_F2_later_every_tensor_lies_within_its_radius():
    method, fit = setup("full+ftp", Toy())
    ftp = method.constraints[0]

    def inside() -> None:
        for view, gamma in zip(ftp.views, ftp.gamma, strict=True):
            assert float(view.norms("mars").detach().max()) <= float(gamma) * (1 + 1e-6), view.name

    train(method, fit, 8, each=inside)
    assert float(ftp.gamma.max()) > 1e-3  # and radii did grow


@pytest.mark.parametrize("active", [True, False])
def test_F3_the_slope_is_the_derivative_only_when_every_row_binds(active):
    """h against central differences of L(W0 + clip(gamma / n) c); with a loose row it is the unmasked sum."""
    method, fit = setup("full+ftp", Linear3())
    ftp = method.constraints[0]
    torch.manual_seed(4)
    view = next(v for v in ftp.views if v.name == "fc.weight")
    start, c = view.anchor, 0.1 * torch.randn(4, 48, dtype=torch.float64)
    if not active:
        c[0] *= 0.01
    n = c.abs().sum(1) + EPS
    gamma = float(n.min()) * (0.9 if active else 5.0)
    batch = data(10, 4)

    def loss(radius: float) -> torch.Tensor:
        view.param.data.copy_(start + (radius / n).clamp(0, 1)[:, None] * c)
        return F.cross_entropy(fit.forward(batch.x), batch.y)

    fit.model.zero_grad()
    loss(gamma).backward()
    ftp.previous = [c if v is view else torch.zeros_like(v.param) for v in ftp.views]
    ftp.inverse = [1 / n if v is view else torch.ones(1, dtype=torch.float64) for v in ftp.views]
    h = float(ftp._slope(ftp.views.index(view), view))
    unmasked = sum(float(view.param.grad[r] @ c[r]) / float(n[r]) for r in range(4))
    assert h == pytest.approx(unmasked, rel=1e-12)
    with torch.no_grad():
        slope = float(loss(gamma + 1e-6) - loss(gamma - 1e-6)) / 2e-6
    assert (h == pytest.approx(slope, rel=1e-5)) is active


def test_F4_with_kappa_zero_a_radius_only_shrinks_by_the_cap():
    method, fit = setup("full+ftp(kappa=0.0)", Toy())
    ftp = method.constraints[0]
    last = ftp.gamma.clone()

    def grown_or_capped() -> None:
        nonlocal last
        cap = torch.stack([(1 / s).max() for s in ftp.inverse])
        assert bool(((ftp.gamma >= last) | (ftp.gamma == cap)).all())
        last = ftp.gamma.clone()

    train(method, fit, 8, each=grown_or_capped)


def test_F4_kappa_one_shrinks_some_radius():
    method, fit = setup("full+ftp", Toy())
    sizes: list[torch.Tensor] = []
    train(method, fit, 12, each=lambda: sizes.append(method.constraints[0].gamma.clone()))
    assert any(bool((b < a).any()) for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_F5_the_head_follows_the_optimizer(kind):
    """A frozen backbone under `linear` gives the head the same inputs as a radius of zero does."""
    method, fit = setup("full+ftp", Linear3())
    _, plain = setup("full", Linear3())
    ftp = method.constraints[0]
    ftp.lr = 1e-30  # radii stay at the floor, so that features stay those of the anchor
    optimizer = optimizer_of(plain, kind)
    other = optimizer_of(fit, kind)
    source = Endless(data(40, 4), 10)
    for _ in range(4):
        batch = next(source)
        other.zero_grad()
        method.grads(fit, batch)
        optimizer.zero_grad()
        for name, p in plain.trainable.items():
            p.grad = fit.trainable[name].grad.clone()
        optimizer.step()
        other.step()
        method.after_step(fit)
    assert torch.equal(fit.trainable["head.weight"], plain.trainable["head.weight"])
    assert torch.equal(fit.trainable["head.bias"], plain.trainable["head.bias"])
    assert not torch.equal(fit.trainable["fc.weight"], plain.trainable["fc.weight"])


def test_F6_no_pass_of_the_model_is_added():
    counts = []
    for text in ("full", "full+ftp"):
        method, fit = setup(text, Toy())
        calls = [0]
        fit.model.register_forward_hook(lambda *_, calls=calls: calls.__setitem__(0, calls[0] + 1))
        train(method, fit, 5)
        counts.append((calls[0], fit.holdout.position))
    assert counts[0] == counts[1] == (5, 0)


def test_ftp_equals_its_formula_written_row_by_row():
    method, fit = setup("full+ftp(kappa=0.5)", Linear3())
    train(method, fit, 5, optimizer_of(fit, "sgd"), size=4)

    _, rival = setup("full", Linear3())
    params = {n: rival.trainable[n] for n in rival.trainable}
    momentum = {n: torch.zeros_like(p) for n, p in params.items()}
    state = {n: {"gamma": 1e-8, "m": 0.0, "v": 0.0, "c": None, "n": None} for n in rival.anchor}
    source = Endless(data(40, 4), 10)
    for t in range(1, 6):
        batch = next(source)
        grads = dict(zip(params, torch.autograd.grad(F.cross_entropy(rival.forward(batch.x), batch.y),
                                                     list(params.values())), strict=True))
        for name, p in params.items():
            g = grads[name]
            momentum[name] = g if t == 1 else 0.9 * momentum[name] + g
            u = 1e-2 * (g + 0.9 * momentum[name])
            if name not in state:
                p.data -= u
                continue
            s, w0 = state[name], rival.anchor[name]
            c = rows(p.data - u - w0)
            n = [float(row.abs().sum()) + EPS for row in c]
            if t > 1:
                h = sum(float(rows(g)[r] @ s["c"][r]) / s["n"][r] for r in range(len(n)))
                h = 0.5 * h if h > 0 else h
                s["m"], s["v"] = 0.9 * s["m"] + 0.1 * h, 0.999 * s["v"] + 0.001 * h * h
                s["gamma"] -= 1e-2 * (s["m"] / (1 - 0.9**t)) / (math.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)
                s["gamma"] = min(max(s["gamma"], 1e-8), max(n))
            s["c"], s["n"] = c.clone(), n
            projected = torch.stack([min(s["gamma"] / size, 1.0) * row for size, row in zip(n, c, strict=True)])
            p.data = w0 + projected.reshape(w0.shape)
    for name, p in params.items():
        assert torch.allclose(p, fit.trainable[name], atol=1e-10), name


def test_the_first_move_of_a_radius_is_the_papers_uncorrected_one():
    """Moments start at step two while the correction counts from one: 0.744 of the rate, not all of it."""
    method, fit = setup("full+ftp(lr=1e-9)", Toy())
    train(method, fit, 2)
    ftp = method.constraints[0]
    want = (0.1 / (1 - 0.9**2)) / math.sqrt(0.001 / (1 - 0.999**2))
    assert want == pytest.approx(0.744, abs=1e-3)
    grown = ftp.gamma > 1e-8
    assert bool(grown.any()) and torch.allclose(ftp.gamma[grown] - 1e-8, torch.tensor(1e-9 * want, dtype=torch.float64),
                                                rtol=1e-2)


def test_ftp_on_lora_shrinks_the_product():
    method, fit = setup("lora+ftp", tiny_vit().double(), 32)
    train(method, fit, 4, size=32)
    ftp = method.constraints[0]
    assert len(ftp.views) == 6
    for view, gamma in zip(ftp.views, ftp.gamma, strict=True):
        product = (view.scale * view.param @ view.factor).detach()
        assert float(product.abs().sum(1).max()) <= float(gamma) * (1 + 1e-6)


def test_two_runs_with_one_seed_are_the_same():
    runs = []
    for _ in range(2):
        method, fit = setup("full+ftp", Toy())
        torch.manual_seed(0)
        train(method, fit, 4)
        runs.append(weights(fit))
    assert same(*runs)
