"""Trained weights on convolutional networks: the spec's numbers, and formulas over the architectures' own tables."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import timm
import torch
from tiny_models import trainable
from torch import nn

from methods.compose import create
from methods.grammar import parse
from methods.vit import head_names

# ResNet-50 as its paper prints it: blocks and inner width of each stage.
RESNET = ((3, 64), (4, 128), (6, 256), (3, 512))
# ConvNeXt-T: blocks and width.
CONVNEXT = ((3, 96), (3, 192), (9, 384), (3, 768))
# EfficientNet-Lite0: kernel, expansion, output width, blocks; the stem has 32 channels, the head 1280.
LITE = ((3, 1, 16, 1), (3, 6, 24, 2), (5, 6, 40, 2), (3, 6, 80, 3), (5, 6, 112, 3), (5, 6, 192, 4), (3, 6, 320, 1))


def lite_blocks() -> list[tuple[int, int, int, int]]:
    """(kernel, input, inner, output) of each block."""
    found, width = [], 32
    for kernel, expansion, out, blocks in LITE:
        for _ in range(blocks):
            found.append((kernel, width, width * expansion, out))
            width = out
    return found


def conv_adapter(k: int, c: int) -> int:
    return (k * k + 2) * c + c // 8 + c * c // 8


def lite(what: str) -> int:
    total = 0
    for kernel, i, inner, out in lite_blocks():
        expanded = inner != i
        total += {"norms": 2 * (inner * (1 + expanded) + out), "conv_adapter": conv_adapter(kernel, inner),
                  "tap": inner, "convs": i * inner * expanded + kernel * kernel * inner + inner * out,
                  "lora": 8 * ((i + inner) * expanded + (inner + out) * expanded
                                             + (i + out) * (not expanded))}[what]
    return total + (2 * (32 + 1280) if what == "norms" else 0)


WIDTHS = sum(n * d for n, d in CONVNEXT)  # of all blocks
SQUARES = sum(n * d * d for n, d in CONVNEXT)
CASES = {
    "resnet50": {
        "linear": 0, "bn_tune": 53120, "bitfit": 53120 // 2, "lora(rank=8)": 302080, "lora(targets='conv2')": 302080,
        "lora(rank=4)": sum(n * 4 * 10 * c for n, c in RESNET), "ssf": 53120, "conv_adapter": 199192,
        "residual_adapter": 1257472 + 53120, "residual_adapter(norms=False)": sum(n * c * c for n, c in RESNET),
        "partial_k": 512 * 2048 * 2 + 9 * 512 * 512 + 2 * (512 + 512 + 2048), "sherl(reduction=4)": 3027458,
        "full": 23508032},
    "convnext_tiny": {
        "ln_tune": 16320, "bitfit": 49344, "lora": 80 * WIDTHS, "lora(rank=2, targets='fc2')": 10 * WIDTHS,
        "ssf": 2 * (96 + 96 + 7 * WIDTHS + (96 + 192 + 384) + (192 + 384 + 768) + 768),
        "conv_adapter": 51 * WIDTHS + WIDTHS // 8 + SQUARES // 8, "full": 27820128,
        "partial_k": 49 * 768 + 768 + 2 * 768 + 8 * 768 * 768 + 5 * 768 + 768 + 2 * 768},
    "tf_efficientnet_lite0": {
        "bn_tune": 42016, "ssf": 42016, "bitfit": 42016 // 2, "lora": lite("lora"), "conv_adapter":
        lite("conv_adapter"), "residual_adapter": lite("tap") + 42016, "residual_adapter(norms=False)": lite("tap"),
        "partial_k": 192 * 1152 + 9 * 1152 + 1152 * 320 + 2 * (1152 * 2 + 320) + 320 * 1280 + 2 * 1280,
        "full": lite("convs") + 864 + 320 * 1280 + 42016},
    "efficientnet_b0": {"bn_tune": 42016}, "resnet18": {"bn_tune": 9600},
}
ROWS = [(name, text, count) for name, counts in CASES.items() for text, count in counts.items()]


@cache
def plain(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


@pytest.mark.parametrize("name, text, expected", ROWS, ids=[f"{n}-{t}" for n, t, _ in ROWS])
def test_live_count_is_the_formulas(name: str, text: str, expected: int) -> None:
    model = create(parse(text)).adapter.build(copy.deepcopy(plain(name)), 10)
    head = head_names(model)
    assert sum(p.numel() for n, p in trainable(model).items() if n not in head) == expected
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_the_lite_networks_norms_follow_from_its_table() -> None:
    assert lite("norms") == 42016
