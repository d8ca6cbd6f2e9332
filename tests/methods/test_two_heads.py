"""Distilled DeiT (arXiv:2012.12877): both heads train and count as head, logits are averaged, storing keeps both."""

from __future__ import annotations

import copy

import timm
import torch
from tiny_families import distilled
from tiny_models import CLASSES, adapted, images, scramble, step

from bench.engine import heads
from bench.engine.backbones import create
from bench.engine.count import trained_weights
from methods.grammar import parse
from methods.two_heads import TwoHeads, values_of
from methods.vit import head_names

NAME = "deit_tiny_distilled_patch16_224"
HEAD = {"head.weight", "head.bias", "head.weight_dist", "head.bias_dist"}


def test_logits_are_the_mean_of_two_heads_in_training_and_evaluation_as_timm_computes_them() -> None:
    theirs, ours, x = timm.create_model(NAME, num_classes=CLASSES), create(NAME), torch.randn(2, 3, 224, 224)
    ours.load_state_dict({n: t for n, t in theirs.state_dict().items() if not n.startswith("head")}, strict=False)
    ours.reset_classifier(CLASSES)  # type: ignore[operator]
    own = {"weight": theirs.head.weight, "bias": theirs.head.bias,
           "weight_dist": theirs.head_dist.weight, "bias_dist": theirs.head_dist.bias}
    with torch.no_grad():
        theirs.head_dist.bias.add_(1.0)
    ours.get_classifier().load_state_dict(own)  # type: ignore[operator]
    for training in (False, True):
        with torch.no_grad():
            torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


def test_both_heads_are_the_head_train_from_the_first_step_and_differ() -> None:
    _, model = adapted("lora", distilled())
    assert head_names(model) == HEAD
    before = {n: model.get_parameter(n).detach().clone() for n in HEAD}
    assert not torch.equal(before["head.weight"], before["head.weight_dist"])
    step(model, steps=1)
    assert all(not torch.equal(before[n], model.get_parameter(n)) for n in HEAD)


def test_the_head_has_two_layers_of_weights_in_the_count() -> None:
    assert trained_weights(parse("lora"), NAME, 10) == (73_728, 2 * (192 * 10 + 10))  # rank 8 on q, v of 12 blocks
    assert trained_weights(parse("linear"), NAME, 10) == (0, 3_860)


def test_a_stored_state_brings_both_heads_back_and_merging_keeps_them() -> None:
    adapter, model = adapted("lora", distilled())
    scramble(model)
    x, stored = images(), copy.deepcopy(model.state_dict())
    _, again = adapted("lora", distilled(), seed=5)
    again.load_state_dict(stored)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model.eval()(x))
        torch.testing.assert_close(adapter.merge(copy.deepcopy(model))(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_head_seed_starts_both_heads() -> None:
    first, second = adapted("linear", distilled())[1], adapted("linear", distilled(3))[1]
    for model in (first, second):
        heads.start_from(model, 7)
    assert all(torch.equal(first.get_parameter(n), second.get_parameter(n)) for n in HEAD)
    assert not torch.equal(first.get_parameter("head.weight"), first.get_parameter("head.weight_dist"))


def test_a_probe_of_both_tokens_is_laid_into_two_heads_that_compute_the_same() -> None:
    head, x, weight, bias = TwoHeads(6, 4), torch.randn(5, 6), torch.randn(4, 6), torch.randn(4)
    with torch.no_grad():
        for own, value in zip(head.parameters(), values_of(head, weight, bias), strict=True):
            own.copy_(value)
        torch.testing.assert_close(head(x), x @ weight.mT + bias)
