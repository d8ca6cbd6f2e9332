"""UniPT, LST and side-tuning against their specification: B11 to B15, and each formula once more, naively."""

from __future__ import annotations

import copy

import pytest
import torch
from robust_kit import CLASSES, setup, train
from side_kit import SIDE, batch, frozen, on_vit, saved_bytes
from tiny_models import features, images, tiny_vit
from torch import nn

from methods.adapters.lst import fisher, shared_rows, top_rows
from methods.adapters.unipt import attention
from methods.insertion import patch_tokens
from methods.side import IMAGE, real_tokens

LATE = ["unipt", "unipt(residual=True)", "unipt(form='cls')", "lst", "lst(drop_every=2)", "lst(merge_last=True)",
        "side_tuning(width=8)"]


@pytest.mark.parametrize("text", LATE)
def test_B11_S1_the_early_route_gives_constants_in_eval_mode(text):
    _, fit = on_vit(text)
    for training in (True, False):
        fit.model.train(training)
        for autocast in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                states = fit.model.early(images())
            assert all(not t.requires_grad and t.grad_fn is None for t in states.values())
            assert not any(m.training for m in fit.model.backbone.modules())


@pytest.mark.parametrize("text", LATE)
def test_B11_S2_frozen_weights_get_no_gradient_and_side_weights_all_do(text):
    method, fit = on_vit(text)
    fit.model.train()
    probe = torch.zeros(48, requires_grad=True)
    fit.model.backbone.blocks[-1].register_forward_hook(lambda _, args, out: out + probe)
    method.grads(fit, batch())
    assert probe.grad is None and all(p.grad is None for p in frozen(fit).values())
    assert all(bool(p.grad.abs().sum() > 0) for p in fit.trainable.values())


@pytest.mark.parametrize("text", LATE)
def test_B11_S3_stored_states_give_the_same_gradients_bit_for_bit(text):
    method, fit = on_vit(text)
    fit.model.train()
    x, y, index = batch()
    grads = []
    for given in (x, {i: t.clone() for i, t in fit.model.early(x).items()}):
        fit.model.zero_grad()
        method.grads(fit, type(batch())(given, y, index))
        grads.append([p.grad.clone() for p in fit.trainable.values()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("text", LATE)
def test_B11_S12_S13_samples_are_independent_and_the_side_state_restores_the_logits(text):
    method, fit = on_vit(text)
    train(method, fit, 2, size=32)
    fit.model.eval()
    assert torch.allclose(fit.forward(images())[:1], fit.forward(images()[:1]), atol=1e-5)
    stored = copy.deepcopy(fit.model.state_dict())
    assert not any(k.startswith("backbone") for k in stored) and set(fit.trainable) <= set(stored)
    _, fresh = on_vit(text)
    fresh.model.load_state_dict(stored)
    assert torch.equal(fresh.model.eval()(images()), fit.forward(images()))


@pytest.mark.parametrize(("text", "settings"), [(text, {"reg_tokens": 2}) for text in LATE] + [
    (text, {"global_pool": "avg"}) for text in LATE if "cls" not in text])  # form='cls' needs the class token
def test_other_poolings_and_register_tokens_work(text, settings):
    method, fit = on_vit(text, **settings)
    method.grads(fit, batch())
    assert fit.forward(images()).shape == (4, CLASSES)
    assert patch_tokens(fit.model, images()).shape == (4, 16, 48)


# UniPT


def test_B12_attention_rows_sum_to_one_or_to_zero():
    torch.manual_seed(0)
    q, x = torch.randn(2, 4, 3).double(), torch.randn(2, 6, 3).double()
    q[0, 0] = 0
    sums = attention(q, x).sum(2)
    assert torch.allclose(sums[sums > 0.5], torch.ones(()).double(), atol=1e-4) and float(sums[0, 0]) == 0
    assert bool((attention(q, x) >= 0).all())


def test_B12_confidences_sum_to_one():
    _, fit = on_vit("unipt")
    *layers, guide = fit.model.squeezed(fit.model.early(images()))
    share = fit.model.confidences(guide.mean(1), layers)
    assert share.shape == (4, 3) and torch.allclose(share.sum(1), torch.ones(4)) and bool((share > 0).all())


def test_B12_permuting_layers_with_their_squeezers_changes_nothing():
    _, fit = on_vit("unipt")
    model = fit.model.eval()
    states = model.early(images())
    want = model.late(states)
    order = [2, 0, 1]
    model.squeeze = nn.ModuleList([*[model.squeeze[i] for i in order], model.squeeze[3]])
    got = model.late({new: states[old] for new, old in enumerate(order)} | {3: states[3]})
    assert torch.allclose(got, want, atol=1e-6)


def test_unipt_equals_its_formula_written_layer_by_layer():
    _, fit = setup("unipt", tiny_vit().double(), 32)
    model = fit.model.eval()
    f = model.early(images(dtype=torch.float64))
    f[3] = model.backbone.norm(f[3])
    got = model.tokens(model.early(images(dtype=torch.float64)))
    x = [model.squeeze[i][1](f[i] @ model.squeeze[i][0].weight.T + model.squeeze[i][0].bias) for i in range(4)]
    for b in range(4):
        a = x[3][b]
        y, c = [], []
        for i in range(3):
            m = torch.relu(a @ x[i][b].T)
            m = m / (m.sum(1, keepdim=True) + 1e-6) + torch.eye(17).double()
            y.append(m @ x[i][b])
            c.append(((a.mean(0) * x[i][b].mean(0)) * model.confidence.weight[0]).sum())
        share = torch.stack(c).softmax(0)
        z = sum(share[i] * y[i] for i in range(3))
        want = model.up(torch.relu(a + model.project[1](model.project[0](z))))
        assert torch.allclose(got[b], want, atol=1e-10)


def test_unipt_of_the_class_token_squeezes_its_query_apart():
    _, fit = setup("unipt(form='cls')", tiny_vit().double(), 32)
    model = fit.model.eval()
    f = model.early(images(dtype=torch.float64))
    got = model.pooled(f)
    f = {**f, 3: model.backbone.norm(f[3])}
    x = [torch.relu(f[i]) @ s[1].weight.T + s[1].bias for i, s in enumerate(model.squeeze)]
    for b in range(4):
        a = torch.relu(f[3][b, 0]) @ model.query[1].weight.T + model.query[1].bias
        c, y = [], []
        for i in range(4):
            m = torch.relu(x[i][b] @ a)
            y.append((m / (m.sum() + 1e-6)) @ x[i][b] + x[i][b, 0])
            c.append((a * x[i][b].mean(0) * model.confidence.weight[0]).sum())
        z = sum(w * part for w, part in zip(torch.stack(c).softmax(0), y, strict=True))
        assert torch.allclose(got[b], f[3][b, 0] + model.up(torch.relu(z)), atol=1e-10)


def test_token_means_leave_register_tokens_out():
    t = torch.arange(7.0)[None, :, None].expand(2, 7, 3)
    backbone = tiny_vit(reg_tokens=2)
    assert real_tokens(backbone, t)[0, :, 0].tolist() == [0, 3, 4, 5, 6]
    assert real_tokens(tiny_vit(), t).shape == t.shape


def test_unipt_residual_adds_the_backbones_own_tokens():
    plain, added = on_vit("unipt")[1].model.eval(), on_vit("unipt(residual=True)")[1].model.eval()
    added.load_state_dict(plain.state_dict())
    states = plain.early(images())
    assert torch.allclose(added.tokens(states), plain.tokens(states) + plain.backbone.norm(states[3]), atol=1e-6)


@pytest.mark.parametrize(("text", "want"), [
    ("unipt(reduction=4)", lambda d, h, n: (n + 1) * (d * h + 3 * h) + h * h + 3 * h + h + h * d + d),
    ("unipt(reduction=4, form='cls')", lambda d, h, n: (n + 2) * (d * h + h) + h + h * d + d),
    ("lst(reduction=4)", lambda d, h, n: (1 + n) * (d * h + h) + n * (12 * h * h + 13 * h) + 2 * h + h * d + d + n),
    ("side_tuning(width=12)", lambda d, h, n: 27 * 144 + 60 * 12 + 12 * d + d + 1)])
def test_trained_weights_follow_the_formula(text, want):
    _, fit = on_vit(text)
    assert sum(p.numel() for p in fit.peft.values()) == want(48, 12, 3)


def test_trained_weights_of_vit_b_are_the_tables():
    import timm

    from methods.compose import create
    from methods.grammar import parse

    for text, want in (("unipt", 1_046_304), ("unipt(reduction=2)", 4_293_504), ("lst(init='random')", 2_376_492)):
        with torch.device("meta"):
            model = create(parse(text)).adapter.build(timm.create_model("vit_base_patch16_224", num_classes=0), CLASSES)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head.")}
        assert sum(p.numel() for p in trained.values()) == want, text


# LST


def test_B13_open_gates_forget_the_layers_and_closed_ones_the_ladder():
    _, fit = on_vit("lst")
    model = fit.model.eval()
    states, other = model.early(images()), model.early(images(seed=9))
    model.gates.data.fill_(1e3)
    assert torch.equal(model.late(states), model.late(other | {0: states[0]}))
    assert not torch.equal(model.late(states), model.late(other))
    model.gates.data.fill_(-1e3)
    assert torch.equal(model.late(states), model.late(other | {3: states[3]}))


def test_B13_dropping_layers_removes_their_blocks_downs_and_gates():
    full, cut = on_vit("lst", depth=8)[1].model, on_vit("lst(drop_every=4)", depth=8)[1].model
    assert cut.kept == [1, 2, 3, 5, 6, 7] and cut.taps == (0, 1, 2, 3, 5, 6, 7)
    per_layer = 1 + sum(p.numel() for m in (full.rungs[0], full.down[0]) for p in m.parameters())
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (full, cut)]
    assert counts[0] - counts[1] == 2 * per_layer


def test_gates_start_at_one_half_and_lst_equals_its_formula():
    _, fit = on_vit("lst(init='random')")
    model = fit.model.eval()
    f = model.early(images())
    s = model.first(f[0])
    for i in range(3):
        s = model.rungs[i](0.5 * s + 0.5 * model.down[i](f[i + 1]))
    assert torch.allclose(model.tokens(f), model.up(model.norm(s)), atol=1e-6)


@pytest.mark.parametrize("init", ["fisher", "magnitude"])
@pytest.mark.parametrize("settings", [{}, {"init_values": 0.2}])
def test_B14_a_ladder_as_wide_as_the_backbone_is_the_backbone(init, settings):
    _, fit = on_vit(f"lst(reduction=1, init={init!r})", **settings)
    for block, rung in zip(fit.model.backbone.blocks, fit.model.rungs, strict=True):
        ours, theirs = dict(rung.named_parameters()), dict(block.named_parameters())
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_B14_kept_rows_are_sorted_and_the_most_important():
    rows = top_rows(torch.tensor([[1.0, 1], [5, 0], [0, 0], [9, 9]]), 2)
    assert rows.tolist() == [1, 3]


def test_B14_the_rows_of_q_k_and_v_are_those_whose_entries_multiply_to_most_in_the_columns_kept():
    q, k = torch.tensor([[3.0, 0], [1, 1]]), torch.tensor([[0.0, 3], [1, 1]])
    assert shared_rows([q, k, q], torch.tensor([0, 1]), 1).tolist() == [1]  # 0 and 2; sums: 27 and 8
    far = torch.tensor([[0.0, 9], [1, 1]])
    assert shared_rows([far] * 3, torch.tensor([0]), 1).tolist() == [1]  # what is cut away counts no more
    small = torch.tensor([[1e-16], [2e-16]])
    assert shared_rows([small] * 3, torch.tensor([0]), 1).tolist() == [1]


def test_B14_pruning_equals_a_naive_walk():
    _, fit = on_vit("lst(reduction=4, init='magnitude')")
    net, d, h = fit.model.backbone, 48, 12

    def best(score: list[float], count: int) -> list[int]:
        return sorted(sorted(range(len(score)), key=lambda i: -float(score[i]))[:count])

    def size(weight: torch.Tensor, columns: list[int]) -> list[float]:
        return [sum(abs(float(row[c])) for c in columns) for row in weight.detach().flatten(1)]

    columns = best(size(net.patch_embed.proj.weight, list(range(192))), h)
    for block, rung in zip(net.blocks, fit.model.rungs, strict=True):
        assert torch.equal(rung.norm1.weight, block.norm1.weight[columns])
        q, k, v = (block.attn.qkv.weight[i * d:(i + 1) * d] for i in range(3))
        shared = best([sum(abs(float(q[r, c] * k[r, c] * v[r, c])) for c in columns) for r in range(d)], h)
        want = torch.cat([m[shared][:, columns] for m in (q, k, v)])
        assert torch.equal(rung.attn.qkv.weight, want)
        proj = best(size(block.attn.proj.weight, shared), h)
        assert torch.equal(rung.attn.proj.weight, block.attn.proj.weight[proj][:, shared])
        assert torch.equal(rung.attn.proj.bias, block.attn.proj.bias[proj])
        assert torch.equal(rung.norm2.bias, block.norm2.bias[proj])
        hidden = best(size(block.mlp.fc1.weight, proj), 4 * h)
        assert torch.equal(rung.mlp.fc1.weight, block.mlp.fc1.weight[hidden][:, proj])
        columns = best(size(block.mlp.fc2.weight, hidden), h)
        assert torch.equal(rung.mlp.fc2.weight, block.mlp.fc2.weight[columns][:, hidden])


def test_B14_the_fisher_pass_leaves_nothing_behind():
    method, fit = on_vit("lst(fisher_images=5)")
    before = {n: p.clone() for n, p in fit.model.named_parameters()}
    rng = torch.get_rng_state()
    importance = fisher(fit.model, [batch(8)], 5)
    assert torch.equal(rng, torch.get_rng_state())
    assert all(p.grad is None for p in fit.model.parameters())
    assert all(torch.equal(p, before[n]) for n, p in fit.model.named_parameters())
    assert not any(p.requires_grad for p in fit.model.backbone.parameters())
    assert all(bool((v >= 0).all()) for v in importance.values())
    wide, narrow = batch(8), batch(5)
    again = fisher(fit.model, [type(wide)(*(t[:5] for t in wide))], 100)
    assert all(torch.equal(importance[n], again[n]) for n in again)
    assert method.text.name == "lst" and len(narrow.y) == 5


def test_B14_fisher_importance_is_the_sum_of_squared_single_image_gradients():
    _, fit = on_vit("lst")
    x, y, _ = batch(3)
    got = fisher(fit.model, [batch(3)], 3)["blocks.1.mlp.fc1.bias"]
    copy_of = copy.deepcopy(fit.model.backbone).eval().requires_grad_(True)
    want = torch.zeros_like(got)
    for i in range(3):
        copy_of.zero_grad()
        logits = fit.model.head(copy_of.forward_head(copy_of.forward_features(x[i:i + 1]), pre_logits=True))
        nn.functional.cross_entropy(logits, y[i:i + 1]).backward()
        want += copy_of.blocks[1].mlp.fc1.bias.grad ** 2
    assert torch.allclose(got, want, rtol=1e-5)


# Memory, side-tuning


@pytest.mark.parametrize(("text", "want"), [("linear", 0.6), ("lora", 77.0), ("sherl", 18.0), ("unipt", 14.6),
                                            ("lst(init='random')", 24.0)])
def test_B15_bytes_kept_per_image_on_vit_b_are_the_specs_within_a_tenth(text, want, vit_b):
    from methods.compose import create
    from methods.grammar import parse

    model = create(parse(text)).adapter.build(copy.deepcopy(vit_b), 100)
    assert saved_bytes(model, images(1, 224)) / 2**20 == pytest.approx(want, rel=0.1)


@pytest.fixture(scope="module")
def vit_b():
    import timm

    return timm.create_model("vit_base_patch16_224", num_classes=0)


def test_side_tuning_blends_the_frozen_feature_with_its_own():
    _, fit = on_vit("side_tuning(width=8)")
    model = fit.model.eval()
    own = features(setup("linear", tiny_vit(), 32)[1].model, images())
    model.gate.data.fill_(30.0)
    assert torch.allclose(features(model, images()), own, atol=1e-5)
    model.gate.data.zero_()
    assert torch.allclose(features(model, images()), 0.5 * own + 0.5 * model.side(images()), atol=1e-5)
    assert IMAGE in model.early(images())


def test_every_side_method_is_listed():
    assert {t.partition("(")[0] for t in SIDE} == {"sherl", "unipt", "lst", "side_tuning"}
