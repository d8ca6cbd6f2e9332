"""Other forms of the same model: exact where they are taken, refused with a sentence where they would not be."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.engine import forms
from bench.engine.feeding import Buffers, Normaliser, ahead
from bench.engine.outcome import Trained
from bench.engine.session import Session
from datasets import registry
from methods import compose
from methods.catalog import catalog
from methods.grammar import MethodError, parse

from . import tiny

ADAPTERS = [name for name, info in catalog().items() if info.kind == "adapter" and "vit" in info.families]
REFUSED = {"convpass", "peft", "sherl", "unipt", "lst", "side_tuning", "vfpt", "e2vpt", "cvpt"}


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def run(method: str, folder: Path, **changes: Any) -> Trained:
    spec = tiny.spec(method, **{"epochs": 2, "drop_path": 0.0} | changes)
    return Session(spec, registry.get(spec.dataset), tiny.where(folder, checkpoints=None)).run()


def built(method: str, still: bool = True, **changes: Any) -> Any:
    """The method on a small backbone, its new weights no longer at their zeros; `still`: without dropout."""
    torch.manual_seed(0)
    size = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0, weight_init="jax")
    model = compose.create(parse(method)).adapter.build(VisionTransformer(**size | changes), 5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    if still:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return model.train()


def gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)  # stochastic depth draws for each image, whatever the number of tokens
    logits = model(x)
    logits.logsumexp(1).sum().backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", [*(a for a in ADAPTERS if a not in REFUSED), "lora(targets='all', rank=3)",
                                    "lora(targets='q,k,v', shared_a=True)", "lora(targets='k')", "partial_k(k=2)"])
def test_the_last_block_for_the_class_token_alone_gives_the_same_logits_and_gradients(method: str) -> None:
    full = built(method)
    short, x = copy.deepcopy(full), torch.randn(4, 3, 32, 32)
    forms.use_class_query(short)
    whole, expected = gradients(full, x)
    logits, found = gradients(short, x)
    assert logits.shape == whole.shape
    torch.testing.assert_close(logits, whole, atol=1e-6, rtol=1e-6)
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], atol=3e-6, rtol=3e-5, msg=name)


def test_the_last_block_works_on_one_token_alone() -> None:
    model, seen = built("lora"), []
    forms.use_class_query(model)
    model.blocks[-1].mlp.fc1.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    model(torch.randn(4, 3, 32, 32))
    assert seen == [(4, 1, 48)]


@pytest.mark.parametrize("attention", ["fused", "plain"])
def test_both_attention_kernels_have_the_short_form(attention: str) -> None:
    full = built("full")
    for module in full.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = attention == "fused"
    short, x = copy.deepcopy(full), torch.randn(4, 3, 32, 32)
    forms.use_class_query(short)
    torch.testing.assert_close(short(x), full(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["lora", "adapter", "vpt", "convpass", "ssf"])
def test_the_short_form_is_refused_where_it_would_not_be_exact(method: str) -> None:
    with pytest.raises(MethodError, match="pools"):
        forms.use_class_query(built(method, global_pool="avg", class_token=True))
    if method == "convpass":
        with pytest.raises(MethodError, match="neighbouring tokens"):
            forms.use_class_query(built(method))
    if method == "adapter":
        with pytest.raises(MethodError, match="dropout"):
            forms.use_class_query(built("adapter(dropout=0.1)", still=False))


@pytest.mark.parametrize(("method", "family", "words"), [
    ("convpass", "vit", "neighbouring"), ("sherl", "vit", "sherl.class_query"), ("lst", "vit", "side network"),
    ("vfpt", "vit", "a forward of their own"), ("cvpt", "vit", "without a short form"),
    ("lora+pace", "vit", "every token"), ("full+ugr(objective='rec')", "vit", "every token"), ("full", "swin", "ViT"),
    ("linear", "resnet", "ViT")])
def test_class_query_is_refused_from_the_words_alone(method: str, family: str, words: str) -> None:
    assert any(words in problem for problem in forms.refusals(parse(method), family, True, False))
    with pytest.raises(MethodError, match=words):
        forms.check(parse(method), family, True, False)
    assert not forms.refusals(parse(method), family, False, False)


def test_merged_evaluation_is_refused_where_there_is_nothing_to_merge() -> None:
    assert "cannot be merged" in forms.refusals(parse("adapter"), "vit", False, True)[0]
    assert "while it predicts" in forms.refusals(parse("lora+ugr(tta='episodic')"), "vit", False, True)[0]
    assert not forms.refusals(parse("lora+pace"), "vit", False, True)


def test_runs_with_the_short_form_and_the_merged_one_agree_with_the_plain_run(tmp_path: Path) -> None:
    plain = run("lora", tmp_path)
    for changes in ({"class_query": True}, {"merged_eval": True}, {"class_query": True, "merged_eval": True}):
        other = run("lora", tmp_path, **changes)
        assert other.spec.id != plain.spec.id
        losses = [[h["train.loss"] for h in r.history] for r in (plain, other)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
        np.testing.assert_allclose(plain.predictions["test"].nll, other.predictions["test"].nll, rtol=1e-3, atol=1e-4)
        assert other.metrics["test.top1"] == plain.metrics["test.top1"]
        assert {n for n, _ in other.model.named_parameters()} == {n for n, _ in plain.model.named_parameters()}
        if "class_query" not in changes:
            assert other.history == plain.history and other.memory == plain.memory
        else:
            assert other.memory.saved_bytes < plain.memory.saved_bytes  # type: ignore[operator]


@pytest.mark.parametrize("method", ["lora", "linear", "adapter", "vpt", "partial_k", "sherl", "dora", "lora+pace",
                                    "lst(fisher_images=8)", "bitfit", "repadapter", "lora+ugr"])
def test_frozen_weights_stored_in_bf16_change_no_number_of_a_bf16_run(method: str, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    stored = run(method, tmp_path, precision="bf16", epochs=1)
    monkeypatch.setattr(forms, "store_frozen_in_bf16", lambda model: 0)
    plain = run(method, tmp_path, precision="bf16", epochs=1)
    assert stored.history == plain.history
    np.testing.assert_array_equal(stored.predictions["test"].nll, plain.predictions["test"].nll)
    before, after = plain.memory, stored.memory
    assert after.saved_bytes <= before.saved_bytes  # type: ignore[operator]
    assert after.weights_frozen_bytes < before.weights_frozen_bytes or method == "bitfit"  # type: ignore[operator]


@pytest.mark.parametrize(("method", "first"),
                         [("lora", 0), ("adapter", 0), ("partial_k", 2), ("linear", 3), ("vpt", 0)])
def test_no_gradient_is_computed_where_nothing_trainable_precedes(method: str, first: int) -> None:
    """A probe in front of each block: the stream must not ask for a gradient before the first trained weight."""
    model, needed = built(method), []
    for place in (*model.blocks, model.norm):
        place.register_forward_pre_hook(lambda _, args: needed.append(args[0].requires_grad))
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.requires_grad
    assert needed == [depth > first for depth in range(4)]


@pytest.mark.parametrize("shape", [(7, 3, 16, 16), (3, 3, 300, 300), (1, 3, 8, 8)])
def test_normalised_pixels_are_those_of_the_plain_chain_bit_for_bit(shape: tuple[int, ...]) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    one = Normaliser(mean, std, torch.device("cpu"))
    for rows in (torch.arange(shape[0]), torch.randperm(shape[0])):
        raw = torch.from_numpy(pixels[rows.numpy()])
        plain = (raw.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert torch.equal(one.rows(pixels, rows), plain)
        assert torch.equal(one(raw), plain)


def test_a_batch_that_is_still_held_is_never_overwritten() -> None:
    one = Normaliser((0.5,) * 3, (0.5,) * 3, torch.device("cpu"))
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)
    first = one.rows(pixels, torch.tensor([0, 1]))
    kept, part = first.clone(), first[1:]
    del first
    second = one.rows(pixels, torch.tensor([2, 3]))
    assert torch.equal(part, kept[1:]) and second.data_ptr() != part.data_ptr()
    weight = torch.ones(3, 1, 1, requires_grad=True)
    loss = (second * weight).sum()  # autograd holds the batch
    address = second.data_ptr()
    del second
    assert one.rows(pixels, torch.tensor([0, 1])).data_ptr() != address
    loss.backward()
    del loss
    assert torch.equal(weight.grad.flatten(), one.rows(pixels, torch.tensor([2, 3])).sum((0, 2, 3)))  # type: ignore[union-attr]


def test_memory_that_nobody_holds_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.take((2, 3))
    address = first.data_ptr()
    del first
    assert buffers.take((3, 2)).data_ptr() == address
    with torch.inference_mode():
        assert not buffers.take((4, 4)).is_inference()


def test_batches_made_ahead_are_the_same_in_the_same_order() -> None:
    assert list(ahead(iter(range(1, 50)))) == list(range(1, 50))

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no such image")

    found = ahead(broken())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no such image"):
        next(found)
