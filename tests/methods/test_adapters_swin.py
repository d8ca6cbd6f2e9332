"""What is particular to Swin: points outside the windows, prompts inside them, patch merging."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from formula_kit import built_on, close
from tiny_models import adapted, features, images, tiny_swin, trainable
from torch import nn

from methods.grammar import MethodError
from methods.insertion import blocks, linears, patch_tokens

X = images(2, dtype=torch.float64)


def built(text: str) -> tuple[nn.Module, nn.Module]:
    return built_on(tiny_swin(), text)


def test_convpass_works_on_the_whole_map_not_per_window() -> None:
    plain, model = built("convpass(where='attn')")
    x = torch.randn(2, 16, 16, 16, dtype=torch.float64)
    old, new = blocks(plain)[1], blocks(model)[1]
    bypass = new.points["par_attn"]  # type: ignore[index]
    far = torch.zeros_like(x)
    far[:, 3, 3] = 1.0  # last place of a window; its neighbour (4, 4) lies in the next one
    code = (bypass(far) - bypass(torch.zeros_like(x))).abs().sum(-1)[0]
    assert code[4, 4] > 0 and code[5, 5] == 0
    n1 = old.norm1(x)  # type: ignore[operator]
    x1 = x + old._attn(n1) + bypass(n1)  # type: ignore[operator]
    close(new(x), x1 + old.mlp(old.norm2(x1)))  # type: ignore[operator]


def test_prompts_join_every_window_as_keys_and_values() -> None:
    """Against the whole sequence: prompts prepended in each window, attention over all, their outputs dropped."""
    plain, model = built("vpt_deep(prompts=3)")
    for index in (0, 1):  # without and with shifted windows
        old, new = blocks(plain)[index], blocks(model)[index]
        mask = old.attn_mask
        windows, n, c = 32, 16, 16
        x = torch.randn(windows, n, c, dtype=torch.float64)
        extra = old.norm1(new.attn.prompts).expand(windows, -1, -1)  # type: ignore[operator, union-attr]
        whole = torch.cat([extra, x], 1)
        q, k, v = old.attn.qkv(whole).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)  # type: ignore[union-attr, operator]
        scores = (q * 8**-0.5) @ k.mT + F.pad(old.attn._get_rel_pos_bias(), (3, 0, 3, 0))  # type: ignore
        if mask is not None:
            scores = scores + F.pad(mask, (3, 0, 3, 0)).repeat(windows // len(mask), 1, 1)[:, None]  # type: ignore
        out = old.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))[:, 3:]  # type: ignore[union-attr, operator]
        close(new.attn(x, mask), out)  # type: ignore[operator]
        assert (index == 1) == (mask is not None)


def test_no_prompts_are_the_frozen_swin() -> None:
    net = tiny_swin()
    expected = features(copy.deepcopy(net), images())
    assert torch.equal(features(adapted("vpt_deep(prompts=0)", net)[1], images()), expected)


def test_bitfit_leaves_relative_positions_alone() -> None:
    _, model = adapted("bitfit", tiny_swin())
    names = trainable(model)
    assert "layers.1.downsample.norm.bias" in names and "patch_embed.proj.bias" in names
    assert not any("relative_position" in n for n in names)


def test_partial_k_trains_a_patch_merging_only_between_trained_blocks() -> None:
    for k, trains in ((1, False), (2, False), (3, True)):
        names = trainable(adapted(f"partial_k(k={k})", tiny_swin())[1])
        assert ("layers.1.downsample.reduction.weight" in names) == trains
        assert "norm.weight" in names and "patch_embed.proj.weight" not in names


def test_partial_k_refuses_more_blocks_than_there_are() -> None:
    with pytest.raises(MethodError, match="at most 4"):
        adapted("partial_k(k=5)", tiny_swin())


def test_patch_merging_counts_with_the_block_that_follows() -> None:
    sites = linears(tiny_swin())
    assert [(s.depth, s.role) for s in sites if s.role == "reduction"] == [(2, "reduction")]
    assert len(sites) == 4 * 4 + 1 and [s.depth for s in sites] == sorted(s.depth for s in sites)


def test_lora_mul_has_no_dead_factor_where_patch_merging_has_no_bias() -> None:
    names = trainable(adapted("lora_mul_vpt_add", tiny_swin())[1])
    assert "layers.1.downsample.reduction.change.up" in names
    assert "layers.1.downsample.reduction.change.shift" not in names


def test_patch_tokens_are_the_last_map() -> None:
    _, model = adapted("lora", tiny_swin())
    assert patch_tokens(model, images()).shape == (4, 64, 32)
