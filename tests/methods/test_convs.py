"""The battery on convolutional networks: every family, every adapter that claims it; and the rule of batch norms."""

from __future__ import annotations

import copy

import pytest
import torch
from robust_kit import data, setup, train
from tiny_convs import EVERY, FAMILIES, MAKERS, carried, tiny
from tiny_models import CLASSES, adapted, features, images, scramble, step, tiny_vit, trainable
from torch import Tensor, nn

from methods.batch_norm import batch_norms, hold_statistics, release_statistics
from methods.catalog import catalog
from methods.convs import conv_face
from methods.face import Context
from methods.grammar import MethodError, parse
from methods.insertion import deltas, family, patch_tokens
from methods.vit import head_names
from methods.weights import account, merged_copy, pretrained_sizes

each = pytest.mark.parametrize("name, kind", EVERY, ids=[f"{n}-{f}" for n, f in EVERY])
MERGED = [(n, f) for n, f in EVERY if catalog()[n].facts.get("mergeable")]
MERGED += [(n, k) for k in ("basic", "convolved", "pooled_norm")
           for n in ("lora(targets='all')", "ssf", "lora", "partial_k", *(["residual_adapter"] * (k != "convolved")))]
MERGED += [("lora(rank=3, alpha=7, targets='all')", f) for f in FAMILIES]


def pooled(net: nn.Module, x: Tensor) -> Tensor:
    """What the pre-trained network gives its head."""
    with torch.no_grad():
        return net.eval()(x)  # type: ignore[no-any-return]  # headless


def still(model: nn.Module) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n}


# ---- the face


@pytest.mark.parametrize("kind", MAKERS)
def test_stem_levels_and_what_follows_are_timms_own_forward_pass(kind: str) -> None:
    net = tiny(kind).eval()
    face, x = conv_face(net), images()
    with torch.no_grad():
        t, channels = face.stem(x), []
        for level in face.levels():
            for module in level:
                t = module(t)
            channels.append(t.shape[1])
        assert torch.equal(face.final(t), net.forward_features(x))
        assert torch.equal(face.features(face.final(t), Context()), net(x))
    assert tuple(channels) == face.channels()
    blocks = face.blocks()
    assert {s.depth for s in face.convs()} == set(range(len(blocks)))
    assert all(net.get_submodule(s.path) is s.conv for s in face.convs())
    assert len({s.path for s in face.convs()}) == len(face.convs())


@pytest.mark.parametrize("kind", MAKERS)
def test_every_convolution_of_a_network_without_strange_ones_has_a_role(kind: str) -> None:
    net = tiny(kind)
    assert {s.path for s in conv_face(net).convs()} == {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}


# ---- the battery


@each
def test_start_is_what_the_adapter_promises(name: str, kind: str) -> None:
    net = tiny(kind)
    plain = pooled(copy.deepcopy(net), images())
    adapter, model = adapted(name, net)
    assert family(tiny(kind)) == kind
    got = features(model, images())
    if adapter.at_start == "exact":
        assert torch.equal(got, plain)
        model.train()  # in training too, unless its own batch norms follow the batch
        if name not in ("full", "partial_k"):
            with torch.no_grad():
                torch.testing.assert_close(model(images()), model.get_classifier()(plain))
    else:
        assert not torch.allclose(got, plain)


@each
def test_five_steps_move_every_trained_weight_and_nothing_else(name: str, kind: str) -> None:
    _adapter, model = adapted(name, tiny(kind))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    statistics = still(model)
    model.train()
    losses = step(model, steps=5, lr=3e-3)
    trains = trainable(model)
    assert head_names(model) <= trains.keys()
    dead = [n for n, p in trains.items() if torch.equal(p.detach(), before[n]) and not _idle(n, kind)]
    assert not dead, dead
    for n, p in model.named_parameters():
        if n not in trains:
            assert p.grad is None and torch.equal(p.detach(), before[n]), n
    moved = {n for n, b in still(model).items() if not torch.equal(b, statistics[n])}
    if name == "full":
        assert moved == statistics.keys()
    elif name not in ("partial_k", "sherl", "unipt"):
        assert not moved
    assert all(torch.isfinite(torch.tensor(losses)))


def _idle(name: str, kind: str) -> bool:
    """A convolution's bias in front of a batch norm that follows the batch has no gradient to speak of."""
    return name.endswith((".conv.bias", "squeeze.0.0.bias"))


@each
def test_an_image_does_not_depend_on_its_batch_and_evaluation_draws_nothing(name: str, kind: str) -> None:
    _, model = adapted(name, tiny(kind, drop_path_rate=0.5))
    scramble(model)
    model.eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        together, alone = model(images()), model(images()[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("text, kind", MERGED, ids=[f"{t}-{k}" for t, k in MERGED])
def test_merged_it_is_the_plain_network_and_computes_the_same(text: str, kind: str) -> None:
    net, plain = tiny(kind).double(), tiny(kind)
    plain.reset_classifier(CLASSES)
    sizes = pretrained_sizes(net)
    adapter, model = adapted(text, net)
    scramble(model)
    model.eval()
    merged = merged_copy(adapter, model)
    x = images(dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        assert (merged(x) - expected).abs().max() <= 1e-10 * expected.abs().max().clamp_min(1)
        assert torch.equal(model(x), expected)
    assert [*dict(merged.named_parameters())] == [*dict(plain.named_parameters())]
    kinds = [[type(m) for m in one.modules() if m is not one.get_classifier()] for one in (merged, plain)]  # type: ignore
    assert kinds[0] == kinds[1]
    assert account(adapter, model, sizes).extra_merged == 0


@pytest.mark.parametrize("name, kind", [(n, f) for n, f in EVERY if "delta" in catalog()[n].offers])
def test_silencing_every_delta_and_putting_anchors_back_is_the_pretrained_function(name: str, kind: str) -> None:
    net = tiny(kind)
    plain, sizes = pooled(copy.deepcopy(net), images()), pretrained_sizes(net)
    adapter, model = adapted(name, net)
    start = {n: p.detach().clone() for n, p in trainable(model).items() if id(p) in sizes}
    anchors = start | adapter.anchors(model)
    scramble(model)
    if "anchor" in adapter.offers:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for n, value in anchors.items():
                trainable(other)[n].copy_(value)
        torch.testing.assert_close(features(other, images()), plain, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for n, value in start.items():
            trainable(model)[n].copy_(value)
    seen: list[torch.Size] = []
    marked = [d for _, d in deltas(model)]
    depth = len(conv_face(model).blocks())
    assert marked and all(0 <= d.depth < depth for d in marked)
    for delta in marked:
        delta.register_forward_hook(lambda _, args, out: (seen.append(out.shape), torch.zeros_like(out))[1])
    torch.testing.assert_close(features(model, images()), plain, rtol=1e-5, atol=1e-5)
    assert len(seen) == len(marked) and all((s[0] == 4 and s[1] == s[2]) or len(s) == 4 for s in seen)


@pytest.mark.parametrize("kind", FAMILIES)
def test_tokens_are_the_positions_of_the_last_map(kind: str) -> None:
    net = tiny(kind).eval()
    with torch.no_grad():
        tokens, last = patch_tokens(net, images()), net.forward_features(images())
    assert torch.equal(tokens, last.flatten(2).transpose(1, 2))


# ---- batch norm


@pytest.mark.parametrize("kind", [f for f in FAMILIES if f != "convnext"])
@pytest.mark.parametrize("name", ["lora", "bn_tune", "bitfit", "residual_adapter", "linear"])
def test_batch_norm_of_a_frozen_network_stays_in_evaluation_mode_until_it_is_released(name, kind) -> None:  # type: ignore
    _, model = adapted(name, tiny(kind))
    before = still(model)
    model.train()
    assert model.training and not any(m.training for m in batch_norms(model))
    step(model, steps=2)
    assert all(torch.equal(b, before[n]) for n, b in still(model).items())
    copied = copy.deepcopy(model).train()
    assert not any(m.training for m in batch_norms(copied)) and copied is not model
    release_statistics([model])
    assert all(m.training for m in batch_norms(model.train()))
    step(model, steps=1)
    assert not any(torch.equal(b, before[n]) for n, b in still(model).items())
    assert not any(m.training for m in batch_norms(model.eval()))


def test_full_trains_statistics_and_partial_k_those_of_what_trains_unless_they_are_held() -> None:
    _, whole = adapted("full", tiny("resnet"))
    assert all(m.training for m in batch_norms(whole.train()))
    hold_statistics(whole)
    assert not any(m.training for m in batch_norms(whole.train()))
    _, part = adapted("partial_k", tiny("efficientnet"))
    part.train()
    live = {n for n, m in part.named_modules() if m in batch_norms(part) and m.training}
    assert live == {"blocks.3.1.bn1", "blocks.3.1.bn2", "blocks.3.1.bn3", "bn2"}
    assert {n.rpartition(".")[0] for n, p in part.named_parameters() if p.requires_grad and p.ndim == 1} >= live


# ---- composition, refusals


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("text", [
    "lora+pace", "full+tpgm", "ssf+pace", "conv_adapter+pace", "lora+l2_sp", "full+mars_sp", "lora+sam", "lora+fpa",
    "full+l2_sp+ftp", "full+mars_pgm", "lora+tpgm", "lora+wise", "lora+ugr(objective='ent')",
    "lora+ugr(objective='rot')", "lora+ugr(objective='con')", "full+ugr(objective='agr')", "bitfit+tpgm",
    "lora+ugr(objective='rec')", "residual_adapter+pace+wise", "bn_tune+l2_sp"])
def test_parts_take_two_steps(text: str, kind: str) -> None:
    if parse(text).adapter.name not in carried(kind):
        return
    method, fit = setup(text, tiny(kind), 32)
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters() if n not in fit.trainable}
    train(method, fit, 2, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(p.isfinite().all() for p in fit.trainable.values())
    assert all(torch.equal(p, before[n]) for n, p in fit.model.named_parameters() if n in before)
    assert method.predict(fit, data(3, 32, dtype=torch.float32).x).shape == (3, CLASSES)


@pytest.mark.parametrize("text, kind, phrase", [
    ("vpt_deep", "resnet", "adapters that fit it: .*lora"), ("lst", "efficientnet", "adapters that fit it: .*sherl"),
    ("bn_tune", "convnext", "ln_tune"), ("ln_tune", "mobilenet", "bn_tune"),
    ("lora(targets='conv3')", "basic", "no conv3"), ("lora(targets='conv_pw')", "resnet", "conv1, conv2, conv3"),
    ("lora(shared_a=True)", "resnet", "shared_a"), ("conv_adapter(reduction=5)", "resnet", "does not divide the 8"),
    ("sherl(n_late=3)", "resnet", "at most n_late=2"), ("sherl(class_query=True)", "convnext", "class_query"),
    ("unipt(form='cls')", "mobilenet", "class token"), ("partial_k(k=9)", "convnext", "at most 6")])
def test_what_has_no_place_is_refused_with_what_has(text: str, kind: str, phrase: str) -> None:
    with pytest.raises(MethodError, match=phrase) as caught:
        adapted(text, tiny(kind))
    assert "\n" not in str(caught.value)


def test_a_grouped_convolution_is_not_adapted_and_the_others_are_named() -> None:
    with pytest.raises(MethodError, match=r"no conv2 .*conv1, conv3, downsample"):
        adapted("lora", tiny("resnet", cardinality=4, base_width=64))


def test_targets_of_both_worlds_keep_their_spellings() -> None:
    def targets(text: str) -> object:
        return dict(parse(text).adapter.options)["targets"]

    assert targets("lora(targets='q,k,v,o,fc1,fc2')") == targets("lora(targets='all')") == "all"
    assert targets("lora(targets='conv3, conv1')") == "conv1,conv3"
    with pytest.raises(MethodError, match="q, k, v, o, fc1, fc2"):
        adapted("lora(targets='conv2')", tiny_vit())
