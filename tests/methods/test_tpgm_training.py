"""TPGM in training: T10 to T13, the naive reference, post-hoc radii, TPGM-C, refusals and compositions."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from robust_kit import Endless, Toy, data, optimizer_of, same, setup, train, weights
from tiny_models import tiny_vit

from methods.constraints.tpgm import Radii
from methods.grammar import MethodError, parse
from methods.views import EPS, View, project


def radii_of(method) -> Radii:
    return method.constraints[0].radii


def test_T10_a_vector_is_one_row_or_one_row_per_entry():
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.1], dtype=torch.float64))
    anchor = torch.zeros(4, dtype=torch.float64)
    view = View("bias", p, anchor)
    project(view, 1.5, "mars", "element")
    assert torch.allclose(p, torch.tensor([1.0, -1.5, 1.5, 0.1], dtype=torch.float64), atol=1e-7)
    assert float(p[0]) == 1.0 and float(p[3]) == 0.1  # untouched where inside
    p.data = torch.tensor([1.0, -2.0, 3.0, 0.1], dtype=torch.float64)
    project(view, 1.5, "mars", "whole")
    assert torch.allclose(p, torch.tensor([1.0, -2.0, 3.0, 0.1], dtype=torch.float64) * 1.5 / 6.1, atol=1e-8)
    p.data = torch.tensor([1.0, -2.0, 3.0, 0.1], dtype=torch.float64)
    project(view, 1.5, "mars", "skip")
    assert p.tolist() == [1.0, -2.0, 3.0, 0.1]


def test_T11_scaling_rows_of_B_scales_rows_of_the_merged_product():
    backbone = tiny_vit().double()
    frozen = backbone.blocks[1].attn.qkv.weight.detach().clone()
    method, fit = setup("lora(targets='q,v', alpha=24.0)+tpgm", backbone, 32)
    torch.manual_seed(5)
    for view in fit.views:
        torch.nn.init.normal_(view.param, std=0.02)
    view = next(v for v in fit.views if "blocks.1." in v.name and v.name.endswith("q.up"))
    product = 3.0 * view.param.detach() @ view.factor.detach()
    gamma = float(product.abs().sum(1).median())
    ratio = (gamma / (product.abs().sum(1) + EPS)).clamp(max=1)
    project(view, gamma, "mars")
    merged = method.adapter.merge(fit.model).blocks[1].attn.qkv.weight
    assert torch.allclose(merged[:48], frozen[:48] + ratio[:, None] * product, atol=1e-6)
    assert torch.equal(merged[48:96], frozen[48:96])


def test_T11_the_l2_norm_of_a_product_needs_no_product():
    _, fit = setup("lora(targets='all', rank=3)", tiny_vit().double(), 32)
    for view in fit.views:
        torch.nn.init.normal_(view.param)
        assert float(view.norms("l2").detach()) == pytest.approx(float(view.effective().detach().norm()), rel=1e-10)
    assert len(fit.views) == 18


@pytest.mark.parametrize("text", ["full+tpgm(proj_every=2)", "full+ftp"])
def test_T12_a_resumed_run_goes_on_exactly(text):
    method, fit = setup(text, Toy())
    optimizer = train(method, fit, 4)
    saved = copy.deepcopy((fit.model.state_dict(), optimizer.state_dict(), method.state(), fit.holdout.position))
    torch.manual_seed(11)
    train(method, fit, 5, optimizer)

    other, again = setup(text, Toy())
    again.model.load_state_dict(saved[0])
    resumed = optimizer_of(again)
    resumed.load_state_dict(saved[1])
    other.restore(saved[2])
    again.holdout.position, again.step = saved[3], 4
    torch.manual_seed(11)
    train(other, again, 5, resumed)
    assert same(weights(fit), weights(again))
    assert same({"g": method.constraints[0].state()["gamma"]}, {"g": other.constraints[0].state()["gamma"]})


def test_T13_between_radius_steps_radii_are_only_clipped_and_weights_still_projected():
    method, fit = setup("full+tpgm(proj_every=3)", Toy())
    radii, optimizer = radii_of(method), None
    for step, learned in enumerate([True, False, False, True, True, False, False, True]):  # two epochs of four steps
        before, moments, count = radii.gamma.clone(), radii.m.clone(), radii.t
        optimizer = train(method, fit, 1, optimizer)
        if not learned:
            assert torch.equal(moments, radii.m)
            assert torch.equal(radii.gamma, torch.minimum(before.clamp_min(1e-8), radii.cap))
        assert (radii.t, fit.step) == (count + learned, step + 1)
        worst = max(float(v.norms("mars").detach().max() / g) for v, g in zip(radii.views, radii.gamma, strict=True))
        assert worst <= 1 + 1e-6


def test_a_tensor_that_has_not_moved_is_left_alone():
    method, fit = setup("full+tpgm", Toy())
    radii = radii_of(method)
    radii.measure()  # nothing has moved yet: P1
    before = weights(fit)
    radii.apply()
    assert same(before, weights(fit)) and bool((radii.rho() == 1).all())


def test_tpgm_equals_a_naive_copy_of_the_model_per_radius_step():
    """The reference's way: deep copies, one radius tensor per weight, torch's Adam."""
    method, fit = setup("full+tpgm", Toy())
    rival = copy.deepcopy(fit.model)
    torch.manual_seed(1)
    train(method, fit, 4)

    names = [n for n in fit.trainable if n not in fit.head]
    held, source = Endless(data(15, seed=6), 5), Endless(data(40), 10)
    gammas = {n: torch.zeros(1, dtype=torch.float64, requires_grad=True) for n in names}
    adam = torch.optim.Adam(gammas.values(), lr=1e-2)
    params = dict(rival.named_parameters())
    outer = torch.optim.AdamW(params.values(), lr=1e-2, weight_decay=0.0)
    rival.train()
    torch.manual_seed(1)
    for step in range(4):
        outer.zero_grad()
        batch = next(source)
        F.cross_entropy(rival(batch.x), batch.y).backward()
        outer.step()

        def ratio(name: str, first: bool) -> torch.Tensor:
            d = params[name].detach() - fit.anchor[name]
            n = d.abs().sum(dim=list(range(1, d.ndim))) if d.ndim > 1 else d.abs().sum().reshape(1)
            if first:
                gammas[name].data[:] = n.min() / 2
            gammas[name].data.clamp_(1e-8, float(n.max()))
            a = F.hardtanh(gammas[name] / (n + 1e-8), 0, 1)
            return (a.reshape(-1, *[1] * (d.ndim - 1)) if d.ndim > 1 else a.reshape(())) * d

        clone = copy.deepcopy(rival).eval()
        for name in names:
            owner = clone.get_submodule(name.rpartition(".")[0])
            del owner._parameters[name.rpartition(".")[2]]
            setattr(owner, name.rpartition(".")[2], fit.anchor[name] + ratio(name, step == 0))
        batch = next(held)
        adam.zero_grad()
        F.cross_entropy(clone(batch.x), batch.y).backward()
        adam.step()
        with torch.no_grad():
            for name in names:
                params[name].copy_(fit.anchor[name] + ratio(name, False))
    for name, value in weights(fit).items():
        if value.is_floating_point():
            assert torch.allclose(value, rival.state_dict()[name], atol=1e-9), name


def test_posthoc_projects_once_after_training_with_radii_learned_at_fixed_weights():
    method, fit = setup("full+tpgm(when='posthoc', posthoc_steps=30)", Toy())
    assert radii_of(method).norm == "l2"
    torch.manual_seed(3)
    train(method, fit, 8)
    tuned = weights(fit)
    method.finish(fit, lambda: 0.0)
    radii = radii_of(method)
    assert radii.t == 30 and not same(tuned, weights(fit))
    sizes = torch.cat([v.norms("l2").detach() for v in radii.views])
    assert bool((sizes <= radii.gamma * (1 + 1e-6)).all())
    assert 0 < method.constraints[0].report()["rho_mean"] <= 1


def test_split_qkv_has_three_radii():
    method, fit = setup("full+tpgm(qkv='split')", tiny_vit(), 32)
    radii = radii_of(method)
    train(method, fit, 2, size=32)
    groups = {v.name: v.groups for v in radii.views}
    assert groups["blocks.0.attn.qkv.weight"] == 3 and groups["blocks.0.attn.proj.weight"] == 1
    at = [v.name for v in radii.views].index("blocks.0.attn.qkv.weight")
    view, gammas = radii.views[at], radii._per_view(radii.gamma)[at]
    rows = view.norms("mars").view(3, -1).amax(1)
    assert len(gammas) == 3 and bool((rows <= gammas * (1 + 1e-4)).all())


def test_tpgm_c_pays_for_radii_and_for_steps_between_blocks():
    method, fit = setup("full+tpgm_c(mu_s=0.5, mu_tv=0.25)", tiny_vit().double(), 32)
    train(method, fit, 1, size=32)
    radii = radii_of(method)
    rho = radii.gamma / radii.cap
    names = [v.name for v in radii.views]
    steps = []
    for name, value in zip(names, rho, strict=True):
        if name.startswith("blocks.") and not name.startswith("blocks.2."):
            following = f"blocks.{int(name[7]) + 1}{name[8:]}"
            steps.append(abs(float(rho[names.index(following)] - value)))
    want = 0.5 * float(rho.mean()) + 0.25 * sum(steps) / len(steps)
    assert float(method.constraints[0].price(radii.gamma)) == pytest.approx(want, rel=1e-9)


def test_a_price_on_radii_shrinks_them():
    sizes = []
    for text in ("full+tpgm", "full+tpgm_c(mu_s=10.0)"):
        method, fit = setup(text, Toy())
        train(method, fit, 12)
        sizes.append(float(radii_of(method).rho().mean()))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(("text", "phrase"), [
    ("vpt_deep+tpgm", "which 'vpt_deep' does not offer"), ("sherl+tpgm", "which 'sherl' does not offer"),
    ("lst+wise", "which 'lst' does not offer"), ("full+tpgm+mars_pgm", "cannot be combined"),
    ("full+ftp+tpgm", "cannot be combined"), ("tpgm", "must begin with an adapter")])
def test_what_has_no_pretrained_state_or_acts_twice_is_refused(text, phrase):
    with pytest.raises(MethodError, match=phrase):
        parse(text)


def test_compositions_that_make_sense_run():
    for text in ("full+tpgm+wise", "lora+tpgm", "lora+l2_sp+tpgm", "ssf+tpgm", "lp_ft+tpgm"):
        method, fit = setup(text, tiny_vit(), 32)
        train(method, fit, 2, size=32)
        method.finish(fit, lambda: 0.5)
        assert all(bool(torch.isfinite(p).all()) for p in fit.trainable.values()), text
