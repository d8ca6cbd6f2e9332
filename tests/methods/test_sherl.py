"""SHERL against its specification: S1 to S14, on a small vision transformer and a tiny ResNet."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from robust_kit import CLASSES, setup, tiny_resnet, train, weights
from side_kit import SIDE, batch, frozen, on_resnet, on_vit, saved_bytes
from tiny_models import features, images, tiny_vit
from torch import nn

from methods.adapters.sherl import EPS, MTSA, GridExpand, redundancy
from methods.grammar import MethodError, parse

VIT = ["sherl", "sherl(n_late=0)", "sherl(n_late=2)", "sherl(squeeze='glu')", "sherl(tap_every=2)"]
ABLATIONS = ["sherl(weighting='no_redundancy')", "sherl(weighting='uniform')", "sherl(weighting='guide')",
             "sherl(gate='zero')", "sherl(start='identity')", "sherl(class_query=True)"]


def build(text: str):
    return on_resnet(text.removesuffix("@resnet")) if text.endswith("@resnet") else on_vit(text)


EVERYWHERE = [*VIT, *ABLATIONS, "sherl@resnet", "sherl(n_late=2, reduction=4)@resnet", "sherl(start='identity')@resnet"]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("text", ["sherl", "sherl(n_late=2)", "sherl@resnet"])
def test_S1_the_early_route_gives_constants(text, training, autocast):
    _, fit = build(text)
    fit.model.train(training)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        states = fit.model.early(images())
    assert tuple(states) == fit.model.taps
    assert all(not t.requires_grad and t.grad_fn is None for t in states.values())


@pytest.mark.parametrize("text", EVERYWHERE)
def test_S2_frozen_weights_get_no_gradient_and_side_weights_all_do(text):
    method, fit = build(text)
    dead = set()
    if "identity" in text:
        dead = {n for n in fit.peft if not n.startswith(("expand.2", "expand.norm", "head"))}
    fit.model.train()
    method.grads(fit, batch())
    assert frozen(fit) and all(p.grad is None for p in frozen(fit).values())
    alive = {n for n, p in fit.trainable.items() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    if "resnet" in text:  # a convolution's bias in front of BatchNorm has none
        dead |= {n for n in fit.trainable if n.endswith("conv.bias")}
        alive |= {n for n in dead if float(fit.trainable[n].grad.abs().max()) < 1e-6}
    assert alive - dead == set(fit.trainable) - dead
    if "identity" in text:
        train(method, fit, 1, size=32)
        method.grads(fit, batch())
        assert all(bool(p.grad.abs().sum() > 0) for p in fit.trainable.values())


def test_S2_no_gradient_reaches_a_probe_in_front_of_the_early_blocks():
    method, fit = on_vit("sherl")
    probe = torch.zeros(48, requires_grad=True)
    handle = fit.model.backbone.blocks[1].register_forward_pre_hook(lambda _, args: (args[0] + probe,))
    method.grads(fit, batch())
    handle.remove()
    assert probe.grad is None
    late = fit.model.backbone.blocks[2].register_forward_pre_hook(lambda _, args: (args[0] + probe,))
    method.grads(fit, batch())
    late.remove()
    assert probe.grad is not None and bool(probe.grad.any())


@pytest.mark.parametrize("text", ["sherl", "sherl(n_late=2)", "sherl(tap_every=2)"])
def test_S3_stored_states_give_the_same_loss_and_gradients_bit_for_bit(text):
    method, fit = on_vit(text)
    fit.model.train()
    x, y, index = batch()
    losses, grads = [], []
    stored = {i: t.clone() for i, t in fit.model.early(x).items()}
    for given in (x, stored):
        fit.model.zero_grad()
        losses.append(method.grads(fit, type(batch())(given, y, index))["loss"])
        grads.append({n: p.grad.clone() for n, p in fit.trainable.items()})
    assert torch.equal(*losses) and all(torch.equal(grads[0][n], grads[1][n]) for n in grads[0])
    half = {i: t.half().float() for i, t in stored.items()}
    change = (F.cross_entropy(fit.forward(half), y) - losses[0]).detach().abs()
    assert float(change) < 1e-3 * float(losses[0].detach())


def test_S4_sherl_keeps_a_fraction_of_what_lora_keeps():
    """The table of ViT-B/16 (18.0 against 77.0 MiB per image) on a narrow net as deep; ratios, not bytes."""
    sizes = {}
    for text in ("full", "lora", "sherl", "unipt", "lst", "linear"):
        _, fit = setup(text, tiny_vit(img_size=64, embed_dim=96, depth=12), 64)
        sizes[text] = saved_bytes(fit.model, images(2, 64))
    assert sizes["sherl"] < 0.35 * sizes["lora"]
    assert sizes["linear"] < min(sizes["unipt"], sizes["sherl"], sizes["lst"])
    assert max(sizes["unipt"], sizes["sherl"], sizes["lst"]) < sizes["lora"] < sizes["full"]


def test_S5_each_late_block_costs_the_same_and_untapped_blocks_cost_nothing():
    def kept(text: str, depth: int) -> int:
        _, fit = setup(text, tiny_vit(img_size=64, depth=depth), 64)
        return saved_bytes(fit.model, images(2, 64))

    late = [kept(f"sherl(n_late={n}, weighting='guide')", 6) for n in (0, 1, 2, 3)]
    steps = [b - a for a, b in itertools.pairwise(late)]
    assert max(steps[1:]) <= 1.1 * min(steps[1:]) and min(steps) > 0
    assert kept("sherl(tap_every=4)", 8) == kept("sherl(tap_every=2)", 4)  # two taps each, four more frozen blocks
    assert kept("sherl(tap_every=2)", 8) > kept("sherl(tap_every=4)", 8)


def sensed(count: int, seed: int = 0) -> tuple[MTSA, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return MTSA(16, "mtsa").double(), torch.randn(2, 5, count, 16).double(), torch.randn(2, 5, 16).double()


def test_S6_weights_are_non_negative_and_sum_to_one_or_zero():
    mtsa, shallow, guide = sensed(6)
    alpha = mtsa.weights(shallow, guide)
    m = mtsa.relevance(shallow * guide[:, :, None])[..., 0].clamp_min(0) / redundancy(shallow)
    assert bool((alpha >= 0).all())
    assert torch.allclose(alpha.sum(2), m.sum(2) / (m.sum(2) + EPS), atol=1e-12)
    nn.init.constant_(mtsa.relevance.bias, -1e3)
    assert not mtsa.weights(shallow, guide).any()
    assert torch.equal(mtsa(shallow, guide), guide)


def test_S6_permuting_layers_permutes_their_weights():
    mtsa, shallow, guide = sensed(6)
    order = torch.randperm(6)
    assert torch.allclose(mtsa.weights(shallow[:, :, order], guide), mtsa.weights(shallow, guide)[:, :, order])


def test_S6_the_merge_equals_its_formula_token_by_token():
    mtsa, shallow, guide = sensed(4)
    got = mtsa(shallow, guide)
    w, beta = mtsa.relevance.weight[0], mtsa.relevance.bias[0]
    for b in range(2):
        for k in range(5):
            big_e, e = shallow[b, k], guide[b, k]
            u = []
            for i in range(4):
                rho = 0.0
                for j in range(4):
                    a, c = big_e[i] / (big_e[i].norm() + 1e-6), big_e[j] / (big_e[j].norm() + 1e-6)
                    rho += max(0.0, float(a @ c))
                u.append(max(0.0, float((w * big_e[i] * e).sum() + beta)) / rho)
            z = sum(u[i] / (sum(u) + 1e-6) * big_e[i] for i in range(4)) + e
            assert torch.allclose(got[b, k], z, atol=1e-9)


def test_S7_redundancy_counts_equal_features():
    same = torch.randn(1, 3, 1, 16).expand(1, 3, 11, 16).double()
    assert torch.allclose(redundancy(same), torch.tensor(11.0).double(), atol=1e-4)
    assert torch.allclose(redundancy(torch.eye(8).double()[None, None]), torch.tensor(1.0).double(), atol=1e-4)
    a = torch.randn(1, 1, 1, 16).double()
    assert bool((redundancy(torch.cat([a, -a, -a], dim=2)) >= 1 - 1e-5).all())


def test_S7_a_duplicated_layer_shares_its_weight():
    mtsa = MTSA(4, "mtsa").double()
    nn.init.zeros_(mtsa.relevance.weight)
    nn.init.ones_(mtsa.relevance.bias)
    a, b = torch.tensor([1.0, 0, 0, 0]).double(), torch.tensor([0, 2.0, 0, 0]).double()
    alpha = mtsa.weights(torch.stack([a, a, b])[None, None], torch.ones(1, 1, 4).double())[0, 0]
    assert torch.allclose(alpha, torch.tensor([0.25, 0.25, 0.5]).double(), atol=1e-3)


@pytest.mark.parametrize("text", ["sherl", "sherl(n_late=2)", "sherl(gate='zero')", "sherl@resnet"])
def test_S8_a_closed_gate_hides_the_skipped_stream(text):
    _, fit = build(text)
    model = fit.model.eval()
    states = model.early(images())
    y = model.update(states)
    model.update = lambda states: y  # the same merge, whatever the stream holds
    noise = states | {model.guide: torch.randn_like(states[model.guide])}
    assert torch.equal(model.late(states), model.late(noise))
    if "gate" not in text:
        model.g.data.fill_(0.05)
        assert not torch.equal(model.late(states), model.late(noise))


@pytest.mark.parametrize("text", ["sherl(start='identity')", "sherl(start='identity', n_late=0)",
                                  "sherl(start='identity', squeeze='glu')", "sherl(start='identity')@resnet"])
def test_S8_the_identity_start_is_the_frozen_network(text):
    _, fit = build(text)
    plain = tiny_resnet() if "resnet" in text else tiny_vit()
    want = setup("linear", plain, 32)[1].model
    assert torch.allclose(features(fit.model, images()), features(want, images()), atol=1e-5)
    assert torch.allclose(fit.forward(images()), fit.model.head(features(want, images())), atol=1e-5)
    other = build(text.replace("start='identity', ", "").replace("(start='identity')", ""))[1]
    assert not torch.allclose(features(other.model, images()), features(want, images()), atol=1e-2)


def test_S8_the_identity_start_on_a_resnet_learns():
    method, fit = on_resnet("sherl(start='identity')")
    before = weights(fit)
    train(method, fit, 3, size=32)
    moved = {n for n in fit.peft if not torch.equal(before[n], fit.trainable[n])}
    assert "expand.norm.bias" in moved and "squeeze.0.norm.weight" in moved


@pytest.mark.parametrize(("reduction", "n_late", "step"), [(2, 1, 1), (4, 1, 1), (8, 2, 1), (8, 0, 1), (4, 1, 2)])
def test_S9_trained_weights_follow_the_formula(reduction, n_late, step):
    _, fit = on_vit(f"sherl(reduction={reduction}, n_late={n_late}, tap_every={step})", depth=5)
    d, h = 48, 48 // reduction
    taps = len(range(5 - n_late, -1, -step))
    want = taps * (d * h + 3 * h) + (h + 1) + (h * d + d) + 2 * d + 1
    assert sum(p.numel() for p in fit.peft.values()) == want


def test_S9_trained_weights_of_vit_b_and_resnet_50_are_the_tables():
    import timm

    from methods.compose import create

    vit = "vit_base_patch16_224"
    for name, text, want in ((vit, "sherl", 964_322), (vit, "sherl(reduction=2)", 3_850_370),
                             ("resnet50", "sherl(reduction=4)", 3_027_458)):
        with torch.device("meta"):
            model = create(parse(text)).adapter.build(timm.create_model(name, num_classes=0), CLASSES)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head.")}
        assert sum(p.numel() for p in trained.values()) == want, text


@pytest.mark.parametrize("text", EVERYWHERE)
def test_S10_train_reaches_the_side_network_only(text):
    _, fit = build(text)
    fit.model.train(True)
    assert fit.model.training and not any(m.training for m in fit.model.backbone.modules())
    side = [m for n, m in fit.model.named_modules() if n and not n.startswith("backbone")]
    assert all(m.training for m in side)
    fit.model.eval()
    assert not any(m.training for m in fit.model.modules())


def test_S10_running_statistics_of_the_frozen_resnet_stay():
    method, fit = on_resnet("sherl(n_late=2)")
    before = {n: b.clone() for n, b in fit.model.backbone.named_buffers()}
    train(method, fit, 3, size=32)
    assert all(torch.equal(b, before[n]) for n, b in fit.model.backbone.named_buffers())
    assert int(fit.model.expand.norm.num_batches_tracked) == 3


def test_the_way_up_of_a_resnet_has_no_relu_in_front_as_in_the_authors_image_branch():
    expand = GridExpand(1, 1, rectify=True).eval()  # running mean 0, variance 1
    with torch.no_grad():
        expand.conv.weight.fill_(-1.0)
        expand.conv.bias.zero_()
    z = torch.tensor([[[-2.0], [3.0]]])  # two cells
    assert torch.allclose(expand(z, torch.Size([1, 2])), torch.tensor([[[[2.0, 0.0]]]]), rtol=1e-4)


@pytest.mark.parametrize("n_late", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 2}, {"init_values": 0.3}, {"qk_norm": True}])
def test_S11_the_class_query_alone_gives_the_same_logits(n_late, settings):
    models = []
    for flag in (False, True):
        _, fit = on_vit(f"sherl(n_late={n_late}, class_query={flag})", **settings)
        models.append(fit.model.eval())
    assert torch.allclose(models[0](images()), models[1](images()), atol=1e-5)
    assert models[1].forward_features(images()).shape == models[0].forward_features(images()).shape


def test_S11_the_class_query_needs_class_token_pooling():
    with pytest.raises(MethodError, match="pools the class token"):
        on_vit("sherl(class_query=True)", global_pool="avg")


@pytest.mark.parametrize("text", VIT)
def test_S12_a_sample_does_not_depend_on_its_batch(text):
    _, fit = on_vit(text)
    fit.model.eval()
    alone, together = fit.forward(images()[:1]), fit.forward(images())[:1]
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("text", ["sherl", "sherl@resnet"])
def test_S13_the_state_dict_holds_side_and_head_and_restores_the_logits(text):
    method, fit = build(text)
    train(method, fit, 2, size=32)
    stored = copy.deepcopy(fit.model.state_dict())
    assert stored and not any(k.startswith("backbone") for k in stored)
    assert set(fit.trainable) <= set(stored)
    _, fresh = build(text)
    fresh.model.load_state_dict(stored)
    fit.model.eval(), fresh.model.eval()
    assert torch.equal(fit.forward(images()), fresh.forward(images()))


def test_S14_a_zero_feature_gives_finite_output_and_gradients():
    mtsa, shallow, guide = sensed(4)
    shallow[0, 0, 1] = 0
    shallow[1, 2] = 0
    shallow.requires_grad_()
    z = mtsa(shallow, guide)
    z.sum().backward()
    assert bool(torch.isfinite(z).all()) and bool(torch.isfinite(shallow.grad).all())


def test_the_early_states_to_read_may_be_named():
    _, fit = on_vit("sherl(taps='0 1')", depth=4)
    assert fit.model.taps == (0, 1, 3) and set(fit.model.squeeze) == {"0", "1", "3"}
    assert on_vit("sherl(taps='3 0')", depth=4)[1].model.taps == (0, 3)
    for text in ("sherl(taps='4')", "sherl(taps='first')", "sherl(taps='-1')"):
        with pytest.raises(MethodError, match="the early states are 0 to 3"):
            on_vit(text, depth=4)
    with pytest.raises(MethodError, match="leave tap_every"):
        parse("sherl(taps='0 1', tap_every=2)")


def test_images_and_their_stored_states_have_the_announced_shapes():
    _, fit = on_vit("sherl(tap_every=2)")
    assert fit.model.cache_spec((3, 32, 32)) == {0: (17, 48), 2: (17, 48)}
    _, fit = on_resnet("sherl")
    assert fit.model.cache_spec((3, 32, 32)) == {0: (32, 8, 8), 1: (64, 4, 4), 2: (96, 2, 2), 3: (128, 1, 1)}


@pytest.mark.parametrize(("text", "want"), [("sherl", 2), ("sherl(n_late=0)", 3), ("unipt", 3), ("lst", 3),
                                            ("side_tuning", 3)])
def test_the_frozen_prefix_ends_at_the_deepest_tap(text, want):
    method, fit = on_vit(text)
    assert method.adapter.frozen_blocks(fit.model) == want == max(fit.model.taps)


@pytest.mark.parametrize(("text", "phrase"), [
    ("sherl(n_late=4)", "cannot keep n_late=4"), ("sherl(reduction=7)", "does not divide"),
    ("lst(reduction=5)", "these do: 1, 2, 4, 8, 16"), ("lst(drop_every=1)", "leaves no side block"),
    ("unipt(reduction=7)", "does not divide")])
def test_what_does_not_fit_the_backbone_is_said_in_one_sentence(text, phrase):
    with pytest.raises(MethodError, match=phrase):
        on_vit(text)


@pytest.mark.parametrize("text", ["sherl(start='identity', gate='zero')", "sherl(n_late=0, class_query=True)",
                                  "unipt(form='cls', residual=True)", "sherl+pace"])
def test_options_that_contradict_each_other_are_refused_while_planning(text):
    with pytest.raises(MethodError):
        parse(text)


@pytest.mark.parametrize("text", SIDE)
def test_side_networks_learn(text):
    method, fit = on_vit(text)
    losses: list[float] = []
    x, y, _ = batch(10)

    def note() -> None:
        losses.append(float(F.cross_entropy(fit.forward(x), y).detach()))

    optimizer = torch.optim.AdamW(fit.trainable.values(), lr=5e-3)
    for _ in range(15):
        note()
        optimizer.zero_grad()
        method.grads(fit, batch(10))
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("text", ["sherl+ugr(objective='ent')", "sherl+ugr(objective='rec')",
                                  "unipt+ugr(objective='rec')", "lst+ugr(objective='ent')"])
def test_side_networks_compose_with_ugr_and_keep_the_frozen_part_frozen(text):
    method, fit = on_vit(text)
    before = {n: p.clone() for n, p in frozen(fit).items()}
    train(method, fit, 2, size=32)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in frozen(fit).items())
    assert all(bool(torch.isfinite(p).all()) for p in fit.trainable.values())


@pytest.mark.parametrize("text", ["sherl", "unipt", "lst", "side_tuning", "full+tpgm", "full+ftp", "lora+l2_sp+wise"])
def test_bfloat16_runs_stay_finite_in_float32_weights(text):
    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    method, fit = setup(text, tiny_vit(), 32, precision=autocast)
    train(method, fit, 2, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in fit.trainable.values())
