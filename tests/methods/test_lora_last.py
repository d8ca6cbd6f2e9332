"""LoRA in the last k blocks: the same thing as LoRA there, nothing at all in front, k within the depth."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import adapted, images, scramble, tiny_swin, tiny_vit, trainable

from methods.grammar import MethodError
from methods.insertion import blocks, deltas


@pytest.mark.parametrize("make, depth", [(tiny_vit, 3), (tiny_swin, 4)])
@pytest.mark.parametrize("options", ["", ", rank=2, targets='all'", ", targets='q,k', shared_a=True, dropout=0.1"])
def test_in_all_blocks_it_is_lora(make, depth: int, options: str) -> None:  # type: ignore[no-untyped-def]
    _, whole = adapted(f"lora({options.strip(', ')})", make())
    _, last = adapted(f"lora_last(k={depth}{options})", make())
    assert list(trainable(whole)) == list(trainable(last))
    for name, p in trainable(whole).items():
        assert torch.equal(p, trainable(last)[name]), name


@pytest.mark.parametrize("make, depth", [(tiny_vit, 3), (tiny_swin, 4)])
def test_only_the_last_blocks_and_the_head_train(make, depth: int) -> None:  # type: ignore[no-untyped-def]
    for k in range(1, depth + 1):
        adapter, model = adapted(f"lora_last(k={k})", make())
        assert {d.depth for _, d in deltas(model)} == set(range(depth - k, depth))
        assert adapter.frozen_blocks(model) == depth - k
        frozen = [p for block in blocks(model)[:depth - k] for p in block.parameters()]
        assert not any(p.requires_grad for p in frozen)
        assert {n for n in trainable(model) if ".lora." not in n} == {n for n, _ in model.named_parameters()
                                                                      if n.startswith("head")}


def test_swin_counts_its_blocks_over_all_stages() -> None:
    _, model = adapted("lora_last(k=3)", tiny_swin())  # two stages of two blocks
    assert {n.partition(".blocks.")[0] + n.partition(".blocks.")[2][:1] for n in trainable(model) if "lora" in n} == {
        "layers.01", "layers.10", "layers.11"}


@pytest.mark.parametrize("make, depth", [(tiny_vit, 3), (tiny_swin, 4)])
def test_more_blocks_than_there_are_is_refused(make, depth: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MethodError, match=rf"a backbone of {depth} blocks; k is at most {depth}"):
        adapted(f"lora_last(k={depth + 1})", make())
    with pytest.raises(MethodError, match="must be >= 1"):
        adapted("lora_last(k=0)", make())


def test_merged_it_is_the_same_function() -> None:
    adapter, model = adapted("lora_last(k=2, targets='all')", tiny_vit().double())
    scramble(model)
    x = images(2, dtype=torch.float64)
    merged = adapter.merge(copy.deepcopy(model).eval())
    torch.testing.assert_close(merged(x), model.eval()(x), rtol=1e-10, atol=1e-10)
