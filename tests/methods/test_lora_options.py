"""LoRA's later options: by default nothing of it changes, name included; PiSSA, rsLoRA, LoRA+ and MLAE by formula."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from robust_kit import setup, train
from tiny_models import adapted, features, images, scramble, step, tiny_vit, trainable
from torch import Tensor, nn

from bench.engine.optim import make_optimizer
from methods.grammar import MethodError, from_record, parse
from methods.insertion import deltas
from methods.views import project
from methods.weights import Header, load, save

D = 48
FIRST = (("lora.alpha", 8.0), ("lora.dropout", 0.0), ("lora.rank", 8), ("lora.shared_a", False),
         ("lora.targets", "q,v"))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def tokens() -> Tensor:
    return torch.randn(3, 17, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def qkv(model: nn.Module) -> Any:
    return model.blocks[1].attn.qkv  # type: ignore[index, union-attr]


# ---- names


@pytest.mark.parametrize("text", ["lora", "lora(init='kaiming', scale='lora', lr_ratio=1, experts=False)"])
def test_records_and_stored_adapters_of_plain_lora_keep_their_names(text: str) -> None:
    method = parse(text)
    assert method.options == FIRST and method.text() == "lora"
    assert method.text(full=True) == "lora(rank=8, alpha=8.0, targets='q,v', dropout=0.0, shared_a=False)"
    assert from_record(method.name, method.options) == parse("lora")


def test_an_option_that_is_set_is_in_the_name() -> None:
    method = parse("lora(lr_ratio=16, init='pissa')")
    assert method.options == tuple(sorted((*FIRST, ("lora.init", "pissa"), ("lora.lr_ratio", 16.0))))
    assert method.text() == "lora(init='pissa', lr_ratio=16.0)"
    assert from_record(method.name, method.options) == method


@pytest.mark.parametrize("text, why", [
    ("lora(experts=True, init='pissa')", "begin at zero"), ("lora(experts=True, scale='rslora')", "does not act"),
    ("lora(expert_dropout=0.1)", "needs experts"), ("lora(lr_ratio=0)", "> 0")])
def test_options_that_do_not_go_together_are_refused(text: str, why: str) -> None:
    with pytest.raises(MethodError, match=why):
        parse(text)


# ---- PiSSA and rsLoRA


def test_pissa_begins_as_the_best_approximation_of_its_rows_and_changes_nothing() -> None:
    net = tiny_vit().double()
    plain = copy.deepcopy(net)
    expected = features(plain, images(dtype=torch.float64))
    _, model = adapted("lora(init='pissa', rank=5, alpha=3, targets='q,v')", net)
    assert torch.equal(features(model, images(dtype=torch.float64)), expected)
    weight = qkv(plain).weight.detach()
    for name, first in (("q", 0), ("v", 2 * D)):
        pair = qkv(model).lora[name]
        rest = weight[first:first + D] - 3 / 5 * pair.up @ pair.down
        singular = torch.linalg.svdvals(weight[first:first + D])
        close(torch.linalg.svdvals(rest.detach())[:D - 5], singular[5:])  # the largest five are gone
        close(pair.up.square().sum(0), pair.down.square().sum(1))  # both hold a root of them
    assert torch.equal(qkv(model).weight, weight)


def test_pissa_is_lora_on_the_residual() -> None:
    plain = tiny_vit().double()
    _, model = adapted("lora(init='pissa', rank=5, targets='o')", copy.deepcopy(plain))
    layer, old = model.blocks[1].attn.proj, plain.blocks[1].attn.proj  # type: ignore[index, union-attr]
    pair = layer.lora["o"]
    rest = old.weight.detach() - 8 / 5 * (pair.up @ pair.down).detach()
    scramble(model)
    x = tokens().requires_grad_()
    close(layer(x), x @ (rest + 8 / 5 * pair.up @ pair.down).T + old.bias)
    layer(x).square().sum().backward()
    up, down = (p.detach().clone().requires_grad_() for p in (pair.up, pair.down))
    (x.detach() @ (rest + 8 / 5 * up @ down).T + old.bias).square().sum().backward()
    close(pair.up.grad, up.grad)
    close(pair.down.grad, down.grad)


def test_a_stored_pissa_brings_its_own_start(tmp_path: Path) -> None:
    header = Header(backbone="tiny_vit.test", backbone_hash="a" * 64, method="lora", card="digits", classes=5)
    _, model = adapted("lora(init='pissa')", tiny_vit())
    step(model)
    save(tmp_path / "a.safetensors", model, header)
    _, fresh = adapted("lora(init='pissa')", tiny_vit())
    with torch.no_grad():
        for _, delta in deltas(fresh):
            delta.up0.neg_(), delta.down0.neg_()  # another machine's signs
    load(tmp_path / "a.safetensors", fresh, backbone="tiny_vit.test", backbone_hash="a" * 64, method="lora")
    assert torch.equal(fresh.eval()(images()), model.eval()(images()))


def test_a_rank_above_the_weights_own_leaves_zeros() -> None:
    _, model = adapted("lora(init='pissa', rank=60)", tiny_vit())
    pair = qkv(model).lora["q"]
    assert not pair.up[:, D:].any() and bool(pair.up[:, :D].any(0).all()) and bool(pair.up.isfinite().all())


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    plain = tiny_vit().double()
    _, model = adapted("lora(scale='rslora', rank=9, alpha=6, targets='k')", copy.deepcopy(plain))
    scramble(model)
    pair = qkv(model).lora["k"]
    weight = qkv(plain).weight.detach().clone()
    weight[D:2 * D] += 2.0 * pair.up @ pair.down  # 6 / sqrt 9
    close(qkv(model)(tokens()), tokens() @ weight.T + qkv(plain).bias)


# ---- LoRA+


def optimizer_of(text: str, **changes: Any) -> tuple[dict[str, float], int]:
    """(name -> factor of the rate, number of groups) of the run's optimizer."""
    _, fit = setup(text, tiny_vit(), size=32)
    spec: Any = SimpleNamespace(**{"decay": "matrices", "head_lr_scale": 1.0, "weight_decay": 0.1, "lr": 1e-3,
                                   "optimizer": "adamw"} | changes)
    groups = make_optimizer(fit, spec).param_groups
    name_of = {id(p): n for n, p in fit.trainable.items()}
    return {name_of[id(p)]: g["scale"] for g in groups for p in g["params"]}, len(groups)


def test_loraplus_gives_every_b_its_rate_and_the_head_keeps_its_own() -> None:
    scales, _ = optimizer_of("lora(lr_ratio=16)", head_lr_scale=3.0)
    assert {s for n, s in scales.items() if n.endswith(".up")} == {16.0}
    assert {s for n, s in scales.items() if n.endswith(".down")} == {1.0}
    assert {s for n, s in scales.items() if n.startswith("head")} == {3.0}
    assert len(scales) == 3 * 2 * 2 + 2


def test_without_a_ratio_the_optimizer_has_the_groups_it_had() -> None:
    scales, groups = optimizer_of("lora")
    assert set(scales.values()) == {1.0} and groups == 2  # decayed or not


# ---- MLAE


def test_experts_are_ranks_with_a_trained_weight() -> None:
    plain = tiny_vit().double()
    _, model = adapted("lora(experts=True, rank=3, alpha=6, targets='v')", copy.deepcopy(plain))
    pair = qkv(model).lora["v"]
    assert torch.equal(pair.expert, torch.full((3,), 6.0, dtype=torch.float64)) and not pair.up.any()
    scramble(model)
    model.eval()
    weight = qkv(plain).weight.detach().clone()
    for k in range(3):
        weight[2 * D:] += pair.expert[k] * torch.outer(pair.up[:, k], pair.down[k])
    close(qkv(model)(tokens()), tokens() @ weight.T + qkv(plain).bias)


def test_an_expert_is_masked_for_the_whole_batch_and_the_mean_over_masks_is_the_update() -> None:
    _, model = adapted("lora(experts=True, rank=3, expert_dropout=0.25, targets='v')", tiny_vit().double())
    scramble(model)
    pair, x = qkv(model).lora["v"].eval(), tokens()
    whole = pair(x)
    parts = [pair.expert[k] * x @ pair.down[k][:, None] @ pair.up[:, k][None] for k in range(3)]
    pair.train()
    torch.manual_seed(0)
    seen: dict[int, int] = {}
    sums = {m: sum((parts[k] for k in range(3) if m >> k & 1), torch.zeros_like(whole)) / 0.75 for m in range(8)}
    for _ in range(400):
        y = pair(x)
        mask = next(m for m, s in sums.items() if torch.allclose(y, s, atol=1e-9))
        seen[mask] = seen.get(mask, 0) + 1
    mean = sum((count / 400 * sums[m] for m, count in seen.items()), torch.zeros_like(whole))
    assert len(seen) >= 6 and (mean - whole).norm() < 0.15 * whole.norm()
    exact = sum((0.75 ** bin(m).count("1") * 0.25 ** (3 - bin(m).count("1")) * s for m, s in sums.items()),
                torch.zeros_like(whole))
    close(exact, whole)


# ---- constraints, precision, every option alive


OPTIONS = ["lora(init='pissa')", "lora(scale='rslora')", "lora(experts=True)", "lora(lr_ratio=4, init='pissa')"]


@pytest.mark.parametrize("text", OPTIONS)
def test_ratio_zero_leads_back_and_a_radius_holds(text: str) -> None:
    net = tiny_vit()
    expected = features(copy.deepcopy(net), images())
    _, fit = setup(text, net, size=32)
    scramble(fit.model)
    views = fit.views
    for view in views:
        project(view, 0.01, "l2")
        assert view.norms("l2").item() <= 0.01 * 1.001
        assert math.isclose(view.squared().item(), view.effective().square().sum().item(), rel_tol=1e-4)
    assert (features(fit.model, images()) - expected).norm() > 1e-4
    for view in views:
        view.write(torch.zeros(1))
    torch.testing.assert_close(features(fit.model, images()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("text", [*OPTIONS, "lora(init='pissa')+tpgm", "lora(experts=True)+pace",
                                  "lora(lr_ratio=2)+wise"])
def test_every_trained_tensor_moves_and_every_frozen_one_stays(text: str) -> None:
    method, fit = setup(text, tiny_vit(), size=32, train_size=20)
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    train(method, fit, 3, size=32, optimizer=torch.optim.AdamW(fit.trainable.values(), lr=1e-2))
    for n, p in fit.model.named_parameters():
        assert torch.equal(p.detach(), before[n]) != (n in trainable(fit.model)), n
