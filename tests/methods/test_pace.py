"""PACE against the numbered invariants of its specification; the number stands in each test's name."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from robust_kit import CLASSES, data, optimizer_of, same, setup, train, weights
from tiny_models import features, images, scramble, tiny_swin, tiny_vit
from torch import Tensor

from bench.engine.optim import learning_rate
from methods.base import Batch, Fit
from methods.compose import Method
from methods.droppath import SharedDropPath, sharing
from methods.grammar import MethodError, parse
from methods.insertion import deltas
from methods.regularizers.diagnostics import consistency, distances
from methods.regularizers.noise import draw, sigmas
from methods.regularizers.pace import Pace
from methods.weights import merged_copy

DROP = 0.3


def made(text: str, double: bool = True, **settings: Any) -> tuple[Method, Fit, Pace]:
    net = tiny_vit(drop_path_rate=settings.pop("drop_path", 0.0))
    method, fit = setup(text, net.double() if double else net, size=32, **settings)
    scramble(fit.model)
    fit.model.train()
    part = method.regularizers[0]
    assert isinstance(part, Pace)
    return method, fit, part


def batch(count: int = 6, double: bool = True) -> Batch:
    return data(count, 32, dtype=torch.float64 if double else torch.float32)


def grad_of(fit: Fit) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in fit.trainable.items() if p.grad is not None}


@pytest.mark.parametrize("name", ["lora", "adapter", "adaptformer", "lora_mul_vpt_add"])
def test_pace_01_a_fresh_model_in_eval_mode_is_the_frozen_backbone(name: str) -> None:
    net = tiny_vit()
    plain = features(copy.deepcopy(net), images())
    _, fit = setup(f"{name}+pace", net, size=32)
    assert torch.equal(features(fit.model, images()), plain)


@pytest.mark.parametrize("variant", ["pace", "lazy_half", "fast"])
def test_pace_02_without_sigma_a_training_pass_is_the_plain_one(variant: str) -> None:
    _, fit, part = made(f"lora+pace(sigma=0.0, variant='{variant}')")
    b = batch()
    torch.testing.assert_close(part.passes(fit, b.x, 1), fit.forward(b.x), rtol=0, atol=0)
    assert consistency(fit, b.x, part) < 1e-12


def test_pace_02_without_sigma_the_penalty_vanishes_in_float32_under_droppath() -> None:
    method, fit, _ = made("lora+pace(sigma=0.0)", double=False, drop_path=DROP)
    terms = method.grads(fit, batch(double=False))
    assert terms["consistency"] < 1e-6 * terms["logits"].square().sum(1).mean()


def test_pace_02_without_sigma_and_weight_training_is_plain_training_bit_for_bit() -> None:
    finals = []
    for text in ("adapter", "adapter+pace(sigma=0.0, weight=0.0, droppath_norm='keep_prob')"):
        method, fit = setup(text, tiny_vit(drop_path_rate=DROP), size=32)
        torch.manual_seed(7)
        train(method, fit, 4, size=32)
        finals.append((weights(fit), torch.rand(1)))
    assert same(finals[0][0], finals[1][0]) and torch.equal(finals[0][1], finals[1][1])


def test_pace_03_eval_mode_is_noiseless_and_draws_nothing() -> None:
    method, fit, part = made("lora+pace", drop_path=DROP)
    fit.model.eval()
    before = (torch.get_rng_state(), part.noisy.generator.get_state())
    b = batch()
    first, second = method.predict(fit, b.x), method.predict(fit, b.x)
    with part.noisy.noisy():
        third = fit.forward(b.x)
    assert torch.equal(first, second) and torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.equal(part.noisy.generator.get_state(), before[1])


def test_pace_03_only_paces_own_passes_are_noisy() -> None:
    _, fit, part = made("lora+pace")
    b = batch()
    assert torch.equal(fit.forward(b.x), fit.forward(b.x))
    assert not torch.equal(part.passes(fit, b.x, 1), part.passes(fit, b.x, 1))


def test_pace_04_noise_has_one_value_per_image_and_channel() -> None:
    g = torch.Generator().manual_seed(0)
    tokens, logits = torch.zeros(3, 16, 48), torch.zeros(3, 5)
    assert draw(tokens, 0.7, "BC", "scale", g).shape == (3, 1, 48)
    assert draw(torch.zeros(3, 4, 4, 48), 0.7, "BC", "scale", g).shape == (3, 1, 1, 48)
    assert draw(logits, 0.7, "BC", "scale", g).shape == (3, 5)
    assert draw(tokens, 0.7, "BTC", "scale", g).shape == (3, 16, 48)
    z = draw(torch.zeros(6, 16, 48), 0.7, "BC", "scale", g)
    assert not torch.equal(z[:3], z[3:])


@pytest.mark.parametrize("kind", ["scale", "dropout"])
def test_pace_04_noise_has_mean_one_and_the_layers_deviation_within_one_percent(kind: Any) -> None:
    z = draw(torch.zeros(400, 2, 500), 0.6, "BC", kind, torch.Generator().manual_seed(0))
    assert abs(z.std().item() / 0.6 - 1) < 0.01 and abs(z.mean().item() - 1) < 0.01


def test_pace_04_every_branch_and_the_head_are_noised_by_their_own_draw() -> None:
    _, fit, part = made("lora+pace(exclude_first=False)", seed=4)
    for _, d in deltas(fit.model):
        d.register_forward_hook(lambda module, inputs, added: torch.ones_like(added), prepend=True)
    fit.model.head.register_forward_hook(lambda module, inputs, added: torch.ones_like(added), prepend=True)
    seen: dict[str, Tensor] = {}
    for name, module in [*deltas(fit.model), ("head", fit.model.head)]:
        module.register_forward_hook(lambda m, i, out, name=name: seen.__setitem__(name, out.detach()))
    part.passes(fit, batch(200).x, 1)
    depth = {name: d.depth for name, d in deltas(fit.model)} | {"head": 3}
    for name, z in seen.items():
        assert abs(z.std().item() / part.noisy.sigmas[depth[name]] - 1) < 0.1, name
    values = [z.flatten()[:200] for z in seen.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_pace_05_tokens_of_an_image_share_the_noise() -> None:
    _, fit, part = made("lora+pace(exclude_first=False)")
    _path, first = next(iter(deltas(fit.model)))
    first.register_forward_hook(lambda module, inputs, added: torch.ones_like(added), prepend=True)
    added: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, out: added.append(out.detach()))
    part.passes(fit, batch().x, 1)
    torch.testing.assert_close(added[0], added[0][:, :1].expand_as(added[0]), rtol=0, atol=0)
    assert added[0].std() > 0.1


def test_pace_06_the_schedule_falls_to_the_head() -> None:
    vit, swin = sigmas(13, 1.2, True), sigmas(25, 1.2, False)
    assert vit == pytest.approx([0, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert swin == pytest.approx([1.2 * (25 - i) / 25 for i in range(25)])
    assert vit[-1] == pytest.approx(1.2 / 12) and swin[-1] == pytest.approx(1.2 / 25)
    assert sigmas(4, 1.0, True, "rising") == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert sigmas(4, 1.0, True, "constant") == [0, 1, 1, 1]


def test_pace_06_vit_spares_its_first_block_and_swin_none() -> None:
    _, _, part = made("lora+pace")
    assert part.noisy.sigmas == pytest.approx([0, 1, 2 / 3, 1 / 3])
    method, _ = setup("lora+pace", tiny_swin(), size=32)
    assert method.regularizers[0].noisy.sigmas == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("norm", ["batch_mean", "keep_prob"])
def test_pace_07_copies_share_droppath(norm: Any) -> None:
    drop = SharedDropPath(0.4).train()
    with sharing([drop], 2, norm):
        y = drop(torch.ones(2000, 3, 4))
    first, second = y.chunk(2)
    assert torch.equal(first, second)
    kept = {round(v, 5) for v in first.unique().tolist()} - {0.0}
    share = (first[:, 0, 0] > 0).float().mean().item()
    assert kept == ({round(1 / share, 5)} if norm == "batch_mean" else {round(1 / 0.6, 5)})
    if norm == "batch_mean":
        assert first.mean().item() == pytest.approx(1, abs=1e-5)


def test_pace_07_when_every_row_drops_the_branch_is_zero() -> None:
    drop = SharedDropPath(1.0).train()
    with sharing([drop], 2, "batch_mean"):
        assert torch.equal(drop(torch.ones(4, 3, 4)), torch.zeros(4, 3, 4))


def test_pace_08_the_loss_is_the_hand_computed_one() -> None:
    method, fit, part = made("lora+pace(weight=0.3)", drop_path=DROP)
    b, generator = batch(), part.noisy.generator.get_state()
    torch.manual_seed(5)
    terms = method.grads(fit, b)
    part.noisy.generator.set_state(generator)
    torch.manual_seed(5)
    both = part.passes(fit, b.x, 2).detach()
    ce = gap = 0.0
    for i, y in enumerate(b.y.tolist()):
        f1, f2 = both[i], both[len(b.y) + i]
        ce += -(f1[y] - torch.logsumexp(f1, 0)).item() / len(b.y)
        gap += sum((f1[c] - f2[c]).item() ** 2 for c in range(CLASSES)) / len(b.y)
    assert terms["loss"].item() == pytest.approx(ce + 0.3 * gap, rel=1e-12)
    assert terms["consistency"].item() == pytest.approx(gap, rel=1e-12)
    assert torch.equal(terms["logits"].detach(), both[:len(b.y)])


def test_pace_08_without_weight_the_loss_is_the_cross_entropy_of_a_noisy_pass() -> None:
    method, fit, part = made("lora+pace(weight=0.0)")
    b, generator = batch(), part.noisy.generator.get_state()
    terms = method.grads(fit, b)
    part.noisy.generator.set_state(generator)
    noisy = part.passes(fit, b.x, 1)
    assert torch.equal(terms["loss"], F.cross_entropy(noisy, b.y))
    assert not torch.allclose(noisy, fit.forward(b.x))


def test_pace_09_the_gradient_reaches_both_copies() -> None:
    _method, fit, part = made("lora+pace(weight=0.3)")
    b = batch()
    caught: list[Tensor] = []
    passes = part.passes
    part.passes = lambda *a: caught.append(passes(*a)) or caught[-1]  # type: ignore[method-assign, func-returns-value]
    loss = part.loss(fit, b, lambda *_: {})["loss"]
    g = torch.autograd.grad(loss, caught[0])[0]
    f1, f2 = caught[0].detach().chunk(2)
    n = len(b.y)
    torch.testing.assert_close(g[n:], 2 * 0.3 * (f2 - f1) / n)
    p = f1.softmax(1) - F.one_hot(b.y, CLASSES)
    torch.testing.assert_close(g[:n], p / n + 2 * 0.3 * (f1 - f2) / n)


@pytest.mark.parametrize(("double", "bound"), [(False, 1e-5), (True, 1e-12)])
def test_pace_10_merging_changes_no_prediction(double: bool, bound: float) -> None:
    method, fit, _ = made("lora_mul_vpt_add+pace", double=double)
    train(method, fit, 2, size=32)
    fit.model.eval()
    b = batch(double=double)
    merged = merged_copy(method.adapter, fit.model).eval()
    assert not list(deltas(merged))
    torch.testing.assert_close(merged(b.x), fit.model(b.x), rtol=bound, atol=bound)


@pytest.mark.parametrize("variant", ["pace", "lazy_half", "fast"])
def test_pace_11_frozen_weights_stay_and_the_trained_count_is_the_adapters(variant: str) -> None:
    net = tiny_vit(drop_path_rate=DROP)
    plain, _ = setup("lora_mul_vpt_add", copy.deepcopy(net), size=32)
    method, fit = setup(f"lora_mul_vpt_add+pace(variant='{variant}')", net, size=32)
    before = weights(fit)
    train(method, fit, 4, size=32)
    after = weights(fit)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and moved <= fit.trainable.keys()
    assert sum(p.numel() for p in fit.trainable.values()) == sum(
        p.numel() for p in setup(plain.text.text(), tiny_vit(), size=32)[1].trainable.values())


@pytest.mark.parametrize("start", ["zeros", "skip"])
def test_pace_12_fast_remembers_the_batchs_rows_and_no_others(start: str) -> None:
    method, fit, part = made(f"lora+pace(variant='fast', fast_init='{start}', weight=0.3)")
    b = batch().replace(index=torch.tensor([3, 9, 0, 7, 20, 4]))
    terms = method.grads(fit, b)
    logits = terms["logits"].detach()
    expected = logits.square().sum(1).mean() if start == "zeros" else torch.zeros(())
    torch.testing.assert_close(terms["consistency"], expected.to(logits), rtol=1e-12, atol=0)
    assert torch.equal(part.memory[b.index], logits) and not part.memory.requires_grad
    others = [i for i in range(fit.train_size) if i not in b.index.tolist()]
    assert not part.memory[others].any() and not part.seen[others].any()
    fit.step += 1
    again = method.grads(fit, b)
    gap = (again["logits"].detach() - logits).square().sum(1).mean()
    torch.testing.assert_close(again["consistency"], gap, rtol=1e-12, atol=0)
    torch.testing.assert_close(again["loss"].detach(), again["task"] + 0.3 * gap)


def test_pace_12_a_second_look_within_a_step_compares_with_the_earlier_visit() -> None:
    method, fit, part = made("lora+pace(variant='fast')+sam")
    b = batch()
    method.grads(fit, b)
    old = part.memory[b.index].clone()
    fit.step += 1
    terms = method.grads(fit, b)
    gap = (terms["logits"].detach() - old).square().sum(1).mean()
    torch.testing.assert_close(terms["consistency"], gap)


def test_pace_13_a_lazy_step_trains_on_the_first_half() -> None:
    method, fit, part = made("lora+pace(variant='lazy_half', interval=3)")
    b = batch(7)
    rows: list[int] = []
    fit.model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    sizes = []
    for step in range(4):
        fit.step = step
        sizes.append(len(method.grads(fit, b)["logits"]))
    assert rows == [6, 7, 7, 6] and sizes == [3, 7, 7, 3]
    fit.step = 0
    generator = part.noisy.generator.get_state()
    terms = method.grads(fit, b)
    part.noisy.generator.set_state(generator)
    half = part.passes(fit, b.x[:3], 2)
    assert torch.equal(terms["task"], F.cross_entropy(half[:3], b.y[:3]))


def test_pace_13_half_of_a_single_image_is_refused() -> None:
    method, fit, _ = made("lora+pace(variant='lazy_half')")
    with pytest.raises(ValueError, match="at least two images"):
        method.grads(fit, batch(1))


def test_pace_16_the_papers_learning_rates_come_from_the_peers_schedule() -> None:
    spec: Any = SimpleNamespace(warmup_epochs=10, warmup_steps=0, epochs=300, lr=1e-3, schedule="cosine_timm")
    rates = {epoch: learning_rate(spec, epoch * 12 + 5, 12) for epoch in (0, 1, 2, 10, 11, 299)}
    golden = {0: 1e-6, 1: 1e-6, 2: 1.009e-4, 10: 9.001e-4, 11: 9.973e-4, 299: 1.0109e-5}
    assert rates == pytest.approx(golden, rel=1e-4)


def test_pace_18_training_with_pace_ends_nearer_to_the_pretrained_function() -> None:
    ends = []
    for weight in (0.0, 1.0):
        method, fit = setup(f"lora+pace(weight={weight})", tiny_vit(), size=32, lr=5e-3)
        train(method, fit, 40, size=32)
        ends.append(distances(fit, data(20, 32, dtype=torch.float32).x)["fp_dist"])
    assert ends[1] < ends[0]


@pytest.mark.parametrize("anchored", [True, False])
def test_distances_are_those_to_the_backbone_under_the_present_head(anchored: bool) -> None:
    net = tiny_vit().double()
    plain = copy.deepcopy(net)
    _, fit = setup("ssf+pace", net, size=32)
    scramble(fit.model)
    fit.anchor = fit.anchor if anchored else {}  # switching the branches off is enough
    x = batch().x
    found = distances(fit, x)
    plain.head = fit.model.head
    with torch.no_grad():
        gap = fit.model.eval()(x) - plain.eval()(x)
    assert found["fp_dist"] == pytest.approx(gap.square().sum(1).mean().item(), rel=1e-9)
    assert found["fp_feat"] > 0


def test_probing_leaves_no_trace() -> None:
    method, fit, part = made("lora+pace", drop_path=DROP)
    before, modes = weights(fit), [m.training for m in fit.model.modules()]
    states = torch.get_rng_state(), part.noisy.generator.get_state()
    first, second = method.probe(fit, batch()), method.probe(fit, batch())
    assert first == second and first.keys() == {
        f"pace.{k}" for k in ("fp_dist", "fp_feat", "grad_norm_ce", "grad_norm_out", "consistency")}
    assert all(v > 0 for v in first.values())
    assert same(before, weights(fit)) and modes == [m.training for m in fit.model.modules()]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(part.noisy.generator.get_state(), states[1])
    assert all(p.grad is None for p in fit.trainable.values())


@pytest.mark.parametrize("variant", ["pace", "fast"])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(variant: str) -> None:
    text = f"adapter(dropout=0.0)+pace(variant='{variant}')"
    method, fit = setup(text, tiny_vit(), size=32)
    optimizer = train(method, fit, 5, size=32)
    middle = copy.deepcopy((fit.model.state_dict(), optimizer.state_dict(), method.state()))
    train(method, fit, 3, optimizer, size=32)
    resumed, again = setup(text, tiny_vit(), size=32)
    again.model.load_state_dict(middle[0])
    other = optimizer_of(again)
    other.load_state_dict(middle[1])
    resumed.restore(middle[2])
    again.step = 5
    train(resumed, again, 3, other, size=32)
    assert same(weights(fit), weights(again))


def test_noise_stays_in_float32_under_bf16_and_the_loss_is_finite() -> None:
    method, fit, _ = made("lora+pace", double=False)
    fit.precision = lambda: torch.autocast("cpu", torch.bfloat16)
    terms = method.grads(fit, batch(double=False))
    assert terms["loss"].dtype == torch.float32 and terms["loss"].isfinite()
    assert all(g.isfinite().all() for g in grad_of(fit).values())


def test_prompts_are_scaled_and_the_part_says_that_this_is_ours() -> None:
    method, fit, part = made("vpt+pace(exclude_first=False, noise_head=False)")
    assert "prompt" in Pace.ours and parse("vpt+pace").name == "vpt_deep+pace"
    b = batch()
    assert not torch.allclose(part.passes(fit, b.x, 1), fit.forward(b.x))
    assert method.grads(fit, b)["consistency"] > 0


def test_without_head_noise_the_head_is_plain() -> None:
    _, fit, part = made("lora+pace(noise_head=False)")
    for _, d in deltas(fit.model):
        d.register_forward_hook(lambda module, inputs, added: torch.zeros_like(added), prepend=True)
    b = batch()
    assert torch.equal(part.passes(fit, b.x, 1), fit.forward(b.x))


@pytest.mark.parametrize(("text", "sentence"), [
    ("bitfit+pace", "'pace' needs 'delta'"), ("sherl+pace", "'pace' needs 'delta'"),
    ("lora+pace(sigma=-0.1)", "'sigma' of 'pace' must be >= 0"), ("lora+pace(weight=-1)", "must be >= 0"),
    ("lora+pace(variant='full')", "must be one of 'pace', 'lazy_half', 'fast'"),
    ("lora+pace(interval=0)", "must be >= 1"), ("lora+pace(interval=4)", "interval belongs to variant='lazy_half'"),
    ("lora+pace(fast_init='skip')", "fast_init belongs to variant='fast'")])
def test_bad_options_are_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(MethodError, match=sentence):
        parse(text)
