"""Counts of trained weights: the spec's tables on full-size backbones (meta device), the formulas on tiny ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from tiny_models import CLASSES, adapted, tiny_vit, trainable
from torch import nn

from methods.catalog import catalog
from methods.compose import create
from methods.grammar import parse
from methods.vit import head_names

TABLES = [json.loads((Path(__file__).parents[1] / "data" / name).read_text())
          for name in ("counts_vit_b16.json", "counts_swin_b.json")]
ROWS = [(table["backbone"], text, count) for table in TABLES for text, count in table["counts"].items()]


@cache
def plain(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


def count(model: nn.Module) -> int:
    """Trained weights without the head."""
    head = head_names(model)
    return sum(p.numel() for name, p in trainable(model).items() if name not in head)


@pytest.mark.parametrize("backbone, text, expected", ROWS, ids=[f"{b.split('_')[0]}-{t}" for b, t, _ in ROWS])
def test_count_of_the_spec_is_exact(backbone: str, text: str, expected: int) -> None:
    model = create(parse(text)).adapter.build(copy.deepcopy(plain(backbone)), 100)
    head = sum(p.numel() for p in model.get_classifier().parameters())  # type: ignore[operator]
    assert count(model) == expected
    assert head == (model.num_features + 1) * 100  # type: ignore[operator]
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_swin_counts_are_also_right_where_relative_tables_would_be_caught_by_name() -> None:
    model = create(parse("bitfit")).adapter.build(copy.deepcopy(plain("swin_base_patch4_window7_224")), 10)
    assert isinstance(model, SwinTransformer)
    named = sum(p.numel() for n, p in model.named_parameters() if "bias" in n and not n.startswith("head"))
    assert named == 200760 and count(model) == 137216


FORMULAS: dict[str, Callable[[int, int, int], int]] = {
    # text with {n} -> count as a function of d, L and n
    "linear": lambda d, L, n: 0,
    "bitfit": lambda d, L, n: 11 * d * L + 2 * d,
    "ln_tune": lambda d, L, n: 2 * d * (2 * L + 1),
    "partial_k(k={n})": lambda d, L, n: n * (12 * d * d + 13 * d) + 2 * d,
    "vpt_shallow(prompts={n})": lambda d, L, n: n * d,
    "vpt_deep(prompts={n})": lambda d, L, n: L * n * d,
    "adapter_pfeiffer(bottleneck={n})": lambda d, L, n: L * (2 * d * n + n + d),
    "adapter_houlsby(bottleneck={n})": lambda d, L, n: 2 * L * (2 * d * n + n + d),
    "adaptformer(bottleneck={n})": lambda d, L, n: L * (2 * d * n + n + d),
    "adapter_plus(bottleneck={n})": lambda d, L, n: L * (2 * d * n + n + 2 * d),
    "lora(rank={n})": lambda d, L, n: 4 * d * L * n,
    "lora(rank={n}, targets='k,fc1')": lambda d, L, n: 7 * d * L * n,
    "lora(rank={n}, targets='q,k', shared_a=True)": lambda d, L, n: 3 * d * L * n,
    "lora_last(rank={n})": lambda d, L, n: 4 * d * n,
    "lora_last(k=2, rank={n}, targets='o,fc2')": lambda d, L, n: 2 * 7 * d * n,
    "dora(rank={n})": lambda d, L, n: 4 * d * L * n + 2 * d * L,
    "ssf": lambda d, L, n: 22 * d * L + 4 * d,
    "fact_tt(rank={n})": lambda d, L, n: 2 * d * n + 12 * L * n * n,
    "fact_tk(rank={n})": lambda d, L, n: 2 * d * n + 12 * L * n + n**3,
    "repadapter(bottleneck={n}, groups=1)": lambda d, L, n: 2 * L * (d * n + n + d * n + d),
    "convpass(bottleneck={n})": lambda d, L, n: 2 * L * ((2 * n + 1) * d + 9 * n * n + 2 * n),
    "lora_add(rank={n})": lambda d, L, n: L * (16 * d * n + 9 * d),
    "lora_mul(rank={n})": lambda d, L, n: L * (16 * d * n + 9 * d),
    "vpt_add(rank={n})": lambda d, L, n: L * (7 * d + 4) * n,
    "vpt_add(rank={n}, prompt_rank='plain')": lambda d, L, n: 7 * d * L,
    "vfpt(prompts={n}, alpha=1.0)": lambda d, L, n: L * n * d,
    "e2vpt(prompts={n}, kv=2)": lambda d, L, n: L * d * (n + 2),
    "cvpt(prompts={n})": lambda d, L, n: L * n * d,
    "glora(rank={n})": lambda d, L, n: L * ((39 * d + 4) * n + 18 * d),
    "oft(block=16)": lambda d, L, n: 7 * d * 15 * L // 2,
    "goft": lambda d, L, n: L * (7 * d - 4),
    "goft(stretch=True, where='attn')": lambda d, L, n: L * (2 * d - 2 + 2 * d),
    "qgoft(where='qkv')": lambda d, L, n: 4 * L * (d - 1),
    "lora_mul_vpt_add(rank={n})": lambda d, L, n: L * ((23 * d + 4) * n + 9 * d),
    "lora_mul_vpt_add(rank={n}, prompt_rank='plain')": lambda d, L, n: L * (16 * d * n + 16 * d),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_live_count_equals_the_formula_for_three_settings(text: str) -> None:
    for width, depth, n in ((48, 3, 1), (48, 2, 2), (32, 4, 3)):
        net = tiny_vit(embed_dim=width, depth=depth, num_heads=2)
        assert count(adapted(text.format(n=n), net)[1]) == FORMULAS[text](width, depth, n)


def test_full_counts_everything_but_the_head() -> None:
    net = tiny_vit()
    every = sum(p.numel() for p in net.parameters())
    assert count(adapted("full", net)[1]) == every


def test_every_adapter_says_how_it_counts() -> None:
    silent = [i.name for i in catalog().values() if i.kind == "adapter" and not i.facts.get("formula")]
    assert not silent


def test_shared_factors_of_fact_are_counted_and_stored_once() -> None:
    _, model = adapted("fact_tt(rank=4)", tiny_vit())
    names = [n for n in model.state_dict() if n.startswith("fact.") or ".fact." in n]
    assert sorted(names) == ["fact.core", "fact.u", "fact.v"]
    assert sum(p.numel() for p in model.head.parameters()) == 49 * CLASSES  # type: ignore[union-attr]
