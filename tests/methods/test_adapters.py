"""The battery over every registered adapter, found through the catalog: a new file inherits it."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import SwiGLU
from timm.layers.drop import DropPath
from timm.models.vision_transformer import ResPostBlock
from tiny_models import (
    ADAPTERS,
    CLASSES,
    ON_SWIN,
    adapted,
    features,
    images,
    scramble,
    step,
    tiny_swin,
    tiny_vit,
    trainable,
)
from torch import Tensor, nn

from methods.base import Adapter
from methods.catalog import catalog
from methods.compose import create
from methods.grammar import MethodError, parse
from methods.insertion import blocks, deltas, patch_tokens
from methods.vit import head_names
from methods.weights import no_decay, pretrained_sizes

VARIANTS = {"class token": {}, "registers": {"reg_tokens": 2}, "average": {"global_pool": "avg"},
            "no class token": {"class_token": False, "global_pool": "avg"}, "layer scale": {"init_values": 0.1},
            "no qkv bias": {"qkv_bias": False}}
each = pytest.mark.parametrize("name", ADAPTERS)
both = pytest.mark.parametrize("name, make", [(n, tiny_vit) for n in ADAPTERS] + [(n, tiny_swin) for n in ON_SWIN],
                               ids=[f"{n}-vit" for n in ADAPTERS] + [f"{n}-swin" for n in ON_SWIN])


def offering(feature: str) -> list[str]:
    return [n for n in ADAPTERS if feature in catalog()[n].offers]


def check_start(adapter: Adapter, got: Tensor, plain: Tensor) -> None:
    """The features of a fresh model against the pre-trained ones, as the adapter promises."""
    if adapter.at_start == "exact":
        assert torch.equal(got, plain), f"off by {(got - plain).abs().max()}"
    elif adapter.at_start == "near":
        assert 0 < (got - plain).norm() < 0.05 * plain.norm()
    else:
        assert got.shape != plain.shape or not torch.allclose(got, plain)


def check_alive(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Every trained tensor has moved."""
    dead = [n for n, p in trainable(model).items() if p.numel() and torch.equal(p.detach(), before[n])]
    assert not dead, f"never moved: {dead}"


def anchors_of(adapter: Adapter, model: nn.Module, pretrained: dict[int, int]) -> dict[str, Tensor]:
    """As the loop makes them, right after the model is built."""
    head = head_names(model)
    plain = {n: p.detach().clone() for n, p in trainable(model).items() if id(p) in pretrained and n not in head}
    return plain | adapter.anchors(model)


@both
def test_output_at_start_is_what_the_adapter_promises(name: str, make) -> None:  # type: ignore[no-untyped-def]
    net = make()
    plain = features(copy.deepcopy(net), images())
    adapter, model = adapted(name, net)
    check_start(adapter, features(model, images()), plain)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "class token"])
@each
def test_every_form_of_vit_is_served(name: str, variant: str) -> None:
    net = tiny_vit(**VARIANTS[variant])
    plain = features(copy.deepcopy(net), images())
    adapter, model = adapted(name, net)
    check_start(adapter, features(model, images()), plain)
    scramble(model)
    assert model(images()).shape == (4, CLASSES)


@both
def test_ten_steps_leave_frozen_weights_alone_and_move_every_trained_one(name: str, make) -> None:  # type: ignore
    _, model = adapted(name, make())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    step(model, steps=3)
    check_alive(model, before)
    step(model, steps=7)
    trains = trainable(model)
    for n, p in model.named_parameters():
        if n not in trains:
            assert p.grad is None and torch.equal(p.detach(), before[n]), n


@both
def test_three_steps_lower_the_loss(name: str, make) -> None:  # type: ignore[no-untyped-def]
    _, model = adapted(name, make())
    model.eval()  # without dropout, so that the two losses are of one function
    losses = step(model)
    assert losses[-1] < losses[0]


@each
def test_head_is_new_trained_and_started_by_the_one_rule(name: str) -> None:
    _, model = adapted(name, tiny_vit())
    head = model.get_classifier()  # type: ignore[operator]
    assert head_names(model) <= trainable(model).keys()
    assert torch.equal(head.bias, torch.zeros(CLASSES))
    assert 0.012 < head.weight.std() < 0.028


@both
def test_evaluation_is_repeatable_and_draws_nothing(name: str, make) -> None:  # type: ignore[no-untyped-def]
    _, model = adapted(name, make(drop_path_rate=0.5))
    scramble(model)
    model.eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = model(images()), model(images())
    assert torch.equal(first, second) and torch.equal(state, torch.get_rng_state())


@each
def test_droppath_of_the_backbone_acts_while_training_unless_it_is_only_read(name: str) -> None:
    adapter, model = adapted(name, tiny_vit(drop_path_rate=0.5))
    model.train()
    if adapter.frozen_backbone:  # the loop holds what it only reads in eval mode
        for module in model.modules():
            module.training = any(p.requires_grad for p in module.parameters())
    assert adapter.frozen_backbone or any(isinstance(m, DropPath) and m.drop_prob > 0 for m in model.modules())
    torch.manual_seed(0)
    drops = model.training and not adapter.frozen_backbone  # LP-FT's second stage trains in eval mode
    assert torch.equal(model(images(8)), model(images(8))) != drops


@both
def test_one_image_does_not_depend_on_the_rest_of_the_batch(name: str, make) -> None:  # type: ignore[no-untyped-def]
    _, model = adapted(name, make().double())
    scramble(model)
    model.eval()
    x = images(6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-9, atol=1e-9)


@both
def test_bf16_autocast_trains_and_stays_near_float32(name: str, make) -> None:  # type: ignore[no-untyped-def]
    _, model = adapted(name, make())
    scramble(model, spread=0.02)
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images())
        loss = nn.functional.cross_entropy(logits.float(), torch.arange(4) % CLASSES)
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    with torch.no_grad():
        full = model(images())
    assert (logits.float() - full).norm() < 0.1 * full.norm().clamp_min(1.0)


@each
def test_same_seed_gives_the_same_start(name: str) -> None:
    first, second = (trainable(adapted(name, tiny_vit())[1]) for _ in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@both
def test_weight_decay_spares_vectors_and_prompts_and_nothing_else(name: str, make) -> None:  # type: ignore
    _, model = adapted(name, make())
    for n, p in trainable(model).items():
        spared = p.ndim <= 1 or n.rpartition(".")[2].startswith("prompt")
        assert no_decay(n, p) == spared, n


@pytest.mark.parametrize("name", [n for n in ADAPTERS if "resnet" not in catalog()[n].families])
def test_any_other_backbone_is_refused_with_what_would_work(name: str) -> None:
    with pytest.raises(MethodError, match="linear") as caught:
        adapted(name, timm.create_model("resnet10t", num_classes=0))
    assert "\n" not in str(caught.value) and "full" in str(caught.value)


@pytest.mark.parametrize("form", [{"block_fn": ResPostBlock}, {"mlp_layer": SwiGLU}])
def test_vits_of_another_form_are_refused_though_their_modules_have_the_same_names(form: dict[str, type]) -> None:
    for name in ("lora", "adapter_pfeiffer", "vpt_deep"):
        with pytest.raises(MethodError, match=r"not this VisionTransformer, whose .*; adapters that fit it: full"):
            adapted(name, tiny_vit(**form))


@pytest.mark.parametrize("name", [n for n in ADAPTERS if "swin" not in catalog()[n].families])
def test_swin_is_refused_where_it_has_no_place(name: str) -> None:
    with pytest.raises(MethodError, match="lora"):
        adapted(name, tiny_swin())


@pytest.mark.parametrize("name", [n for n in ADAPTERS
                                  if any((o.name, o.type) == ("scale", "float") for o in catalog()[n].options)])
def test_scale_zero_is_the_frozen_model_at_any_weights(name: str) -> None:
    net = tiny_vit()
    plain = features(copy.deepcopy(net), images())
    _, model = adapted(f"{name}(scale=0.0)", net)
    scramble(model)
    assert torch.equal(features(model, images()), plain)


@pytest.mark.parametrize("name", offering("delta"))
def test_silencing_every_delta_gives_the_pretrained_function_back(name: str) -> None:
    net = tiny_vit()
    plain, depth = features(copy.deepcopy(net), images()), len(net.blocks)
    _, model = adapted(name, net)
    scramble(model)
    assert not torch.allclose(features(model, images()), plain, atol=1e-3)
    marked = [d for _, d in deltas(model)]
    assert [d.depth for d in marked if d.depth < depth] and all(0 <= d.depth < depth for d in marked)
    seen: list[torch.Size] = []
    for delta in marked:
        delta.register_forward_hook(lambda _, args, out: (seen.append(out.shape), torch.zeros_like(out))[1])
    torch.testing.assert_close(features(model, images()), plain, rtol=0, atol=1e-5)
    assert len(seen) == len(marked)
    assert all(shape[0] == 4 and shape[-1] % 48 == 0 for shape in seen)  # images first, channels last


@pytest.mark.parametrize("name", offering("anchor"))
def test_weights_at_their_anchors_are_the_pretrained_function(name: str) -> None:
    net = tiny_vit()
    plain, pretrained = features(copy.deepcopy(net), images()), pretrained_sizes(net)
    adapter, model = adapted(name, net)
    anchors = anchors_of(adapter, model, pretrained)
    assert anchors and anchors.keys() <= trainable(model).keys() - head_names(model)
    scramble(model)
    assert not torch.allclose(features(model, images()), plain, atol=1e-3)
    with torch.no_grad():
        for n, value in anchors.items():
            assert value.shape == trainable(model)[n].shape
            trainable(model)[n].copy_(value)
    torch.testing.assert_close(features(model, images()), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", offering("tokens"))
def test_patch_tokens_are_the_patches_alone(name: str, variant: str) -> None:
    net = tiny_vit(**VARIANTS[variant])
    prefix, plain = net.num_prefix_tokens, copy.deepcopy(net).eval()
    adapter, model = adapted(name, net)
    model.eval()
    with torch.no_grad():
        tokens, expected = patch_tokens(model, images()), plain.forward_features(images())[:, prefix:]
    assert tokens.shape == (4, 16, 48)
    if adapter.at_start == "exact":
        assert torch.equal(tokens, expected)


@both
def test_blocks_called_frozen_do_not_change(name: str, make) -> None:  # type: ignore[no-untyped-def]
    net = make()
    plain = copy.deepcopy(net).eval()
    adapter, model = adapted(name, net)
    frozen = adapter.frozen_blocks(model)
    if not frozen:  # known only once it is built; 0 claims nothing that could be wrong
        pytest.skip("it claims no frozen block")
    scramble(model)
    model.eval()
    outputs = []
    for one in (plain, model):
        chain = blocks(getattr(one, "backbone", one))  # type: ignore[arg-type]
        last = chain[min(frozen, len(chain)) - 1]
        last.register_forward_hook(lambda _, args, out: outputs.append(out))
        with torch.no_grad():
            one(images())
    assert torch.equal(outputs[0], outputs[1])


@each
def test_float64_backbone_gets_float64_adapters(name: str) -> None:
    _, model = adapted(name, tiny_vit().double())
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@each
def test_defaults_are_what_the_catalog_says(name: str) -> None:
    info = catalog()[name]
    adapter = create(parse(name)).adapter
    assert {o.name: o.default for o in info.options} == {o.name: getattr(adapter, o.name) for o in info.options}
    assert info.facts.get("title") and (info.facts.get("paper") or info.facts.get("ours") or name in ("linear", "full"))
