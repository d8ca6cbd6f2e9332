"""L2-SP, MARS-SP and fixed radii against their specification: B1 to B5."""

from __future__ import annotations

import pytest
import torch
from robust_kit import CLASSES, Toy, data, same, setup, train, weights
from tiny_models import tiny_vit
from torch import Tensor, nn

from methods.base import Batch, Terms
from methods.compose import create
from methods.grammar import parse


def nothing(fit, batch: Batch) -> Terms:
    """A task without a loss."""
    return {"loss": torch.zeros((), dtype=torch.float64), "logits": torch.zeros(1, CLASSES)}


def penalty_of(fit, regularizer) -> Tensor:
    return regularizer.loss(fit, data(2), nothing)["loss"]


# L2-SP


@pytest.mark.parametrize("mode", ["weights", "all"])
def test_B1_l2_sp_is_zero_with_zero_gradient_at_the_pretrained_weights(mode):
    method, fit = setup(f"full+l2_sp(mode={mode!r})", Toy())
    for name in fit.head:
        fit.trainable[name].data.zero_()
    value = penalty_of(fit, method.regularizers[0])
    value.backward()
    assert float(value.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in fit.trainable.values())


def test_B1_l2_sp_pulls_with_alpha_times_the_displacement_and_leaves_biases_free():
    method, fit = setup("full+l2_sp(alpha=0.3, beta=0.2)", Toy())
    train(create(parse("full")), fit, 3)
    fit.model.zero_grad()
    penalty_of(fit, method.regularizers[0]).backward()
    anchored = {n for n, p in fit.trainable.items() if p.grad is not None}
    assert anchored == {"conv.weight", "fc.weight", "head.weight"}
    for name in ("conv.weight", "fc.weight"):
        p = fit.trainable[name]
        assert torch.allclose(p.grad, 0.3 * (p - fit.anchor[name]), rtol=1e-14)
    assert torch.allclose(fit.trainable["head.weight"].grad, 0.2 * fit.trainable["head.weight"], rtol=1e-14)


def test_B1_l2_sp_all_anchors_biases_and_norms_too():
    method, fit = setup("full+l2_sp(mode='all')", Toy())
    penalty_of(fit, method.regularizers[0]).backward()
    assert all(p.grad is not None for p in fit.trainable.values())


def test_B1_a_large_alpha_holds_the_weights():
    method, fit = setup("full+l2_sp(alpha=100.0, beta=0.0)", Toy(), lr=1e-3)
    train(method, fit, 200, torch.optim.SGD(fit.trainable.values(), lr=1e-3))
    _, free = setup("full", Toy(), lr=1e-3)
    train(create(parse("full")), free, 200, torch.optim.SGD(free.trainable.values(), lr=1e-3))
    far = [float((f.trainable["fc.weight"] - f.anchor["fc.weight"]).detach().norm()) for f in (fit, free)]
    assert far[0] < 0.1 * far[1]


def test_B2_a_step_without_a_task_shrinks_the_displacement_by_one_minus_lr_alpha():
    method, fit = setup("full+l2_sp(alpha=0.4)", Toy())
    train(create(parse("full")), fit, 2)
    before = (fit.trainable["fc.weight"] - fit.anchor["fc.weight"]).detach()
    fit.model.zero_grad()
    penalty_of(fit, method.regularizers[0]).backward()
    torch.optim.SGD(fit.trainable.values(), lr=0.05).step()
    after = (fit.trainable["fc.weight"] - fit.anchor["fc.weight"]).detach()
    assert torch.allclose(after, (1 - 0.05 * 0.4) * before, rtol=1e-12)


def test_l2_sp_on_lora_penalises_the_product():
    method, fit = setup("lora(targets='all', alpha=16.0)+l2_sp(alpha=1.0, beta=0.0)", tiny_vit().double(), 32)
    total = 0.0
    for view in fit.views:
        nn.init.normal_(view.param, std=0.1)
        total += float((2.0 * view.param @ view.factor).detach().square().sum()) / 2
    value = penalty_of(fit, method.regularizers[0])
    value.backward()
    assert float(value.detach()) == pytest.approx(total, rel=1e-10)
    assert all(v.param.grad.any() and v.factor.grad.any() for v in fit.views)


@pytest.mark.parametrize("adapter", ["bitfit", "ln_tune", "ssf"])
def test_penalties_anchor_vectors_where_no_matrix_trains(adapter):
    for part in ("l2_sp", "mars_sp"):
        method, fit = setup(f"{adapter}+{part}", tiny_vit(), 32)
        assert len(method.regularizers[0].views) == len(fit.peft)


# MARS


def test_B3_mars_sp_is_the_sum_of_largest_rows():
    method, fit = setup("full+mars_sp(weight=0.5, head_weight=0.25)", Toy())
    train(create(parse("full")), fit, 3)
    want = sum(0.5 * float((fit.trainable[n] - fit.anchor[n]).detach().flatten(1).abs().sum(1).max())
               for n in ("conv.weight", "fc.weight"))
    want += 0.25 * float(fit.trainable["head.weight"].detach().abs().sum(1).max())
    assert float(penalty_of(fit, method.regularizers[0]).detach()) == pytest.approx(want, rel=1e-12)


def test_B3_its_gradient_is_the_sign_of_one_row_per_tensor():
    method, fit = setup("full+mars_sp(weight=0.5)", Toy())
    train(create(parse("full")), fit, 3)
    fit.model.zero_grad()
    penalty_of(fit, method.regularizers[0]).backward()
    for name in ("conv.weight", "fc.weight"):
        d = (fit.trainable[name] - fit.anchor[name]).detach().flatten(1)
        g = fit.trainable[name].grad.flatten(1)
        r = int(d.abs().sum(1).argmax())
        assert torch.equal(g[r], 0.5 * d[r].sign()) and not g[torch.arange(len(g)) != r].any()


def test_B3_a_tie_goes_to_one_row():
    method, fit = setup("full+mars_sp(weight=1.0)", Toy())
    p, anchor = fit.trainable["fc.weight"], fit.anchor["fc.weight"]
    p.data = anchor + 1.0  # every row has moved by as much
    penalty_of(fit, method.regularizers[0]).backward()
    assert int((p.grad.abs().sum(1) > 0).sum()) == 1


@pytest.mark.parametrize(("part", "size"), [("mars_pgm", lambda d: d.flatten(1).abs().sum(1)),
                                            ("l2_pgm", lambda d: d.norm().reshape(1))])
def test_B4_after_a_step_no_row_is_beyond_the_radius(part, size):
    method, fit = setup(f"full+{part}(gamma=0.05, gamma_head=0.1)", Toy())
    train(method, fit, 5)
    for name in ("conv.weight", "fc.weight"):
        moved = size((fit.trainable[name] - fit.anchor[name]).detach())
        assert 0 < float(moved.max()) <= 0.05 * (1 + 1e-6)
    assert float(size(fit.trainable["head.weight"].detach()).max()) <= 0.1 * (1 + 1e-6)
    bias = (fit.trainable["fc.bias"] - fit.anchor["fc.bias"]).detach()
    assert float(bias.abs().max()) > 0


def test_B4_rows_inside_keep_every_bit():
    method, fit = setup("full+mars_pgm(gamma=0.3)", Toy())
    p, anchor = fit.trainable["fc.weight"], fit.anchor["fc.weight"]
    torch.manual_seed(0)
    d = torch.randn_like(p)
    d = d / d.abs().sum(1, keepdim=True) * torch.tensor([0.1, 0.2, 0.29, 0.31, 1.0, 2.0, 3.0])[:, None]
    p.data = anchor + d
    before = p.detach().clone()
    method.after_step(fit)
    assert torch.equal(p[:3], before[:3]) and bool((p[3:] != before[3:]).any(1).all())


@pytest.mark.parametrize("part", ["mars_pgm", "l2_pgm"])
def test_B4_radius_zero_is_the_start_and_a_huge_one_is_vanilla_bit_for_bit(part):
    runs = []
    for text in (f"full+{part}(gamma=0, gamma_head=0)", f"full+{part}(gamma=1e30, gamma_head=1e30)", "full"):
        method, fit = setup(text, Toy())
        torch.manual_seed(2)
        train(method, fit, 20)
        runs.append((weights(fit), fit))
    assert all(torch.equal(runs[0][0][n], runs[0][1].anchor[n]) for n in ("conv.weight", "fc.weight"))
    assert not runs[0][0]["head.weight"].any()
    assert same(runs[1][0], runs[2][0])


@pytest.mark.parametrize(("pgm", "norm"), [("mars_pgm", "mars"), ("l2_pgm", "l2")])
def test_B5_a_fixed_radius_is_tpgm_with_its_radii_frozen(pgm, norm):
    runs = []
    for text in (f"full+{pgm}(gamma=0.05, gamma_head=1e30)",
                 f"full+tpgm(norm={norm!r}, gamma=0.05, vec_mode='skip')"):
        method, fit = setup(text, Toy())
        if "tpgm(" in text:  # token embeddings are no kernels: free in both
            radii = method.constraints[0].radii
            radii.views = [v for v in radii.views if v.kernel]
        torch.manual_seed(2)
        train(method, fit, 4)
        runs.append(weights(fit))
    assert same(*runs)
