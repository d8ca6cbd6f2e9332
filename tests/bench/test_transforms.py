"""Crops, flips and resizing: what each augmentation shows of an image, and its evaluation."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from bench.engine.transforms import WAYS, box, evaluation, transformed
from bench.planning.settings import CHOICES

SIZE = 32


def place(width: int = 90, height: int = 60) -> Image.Image:
    """Red tells the column, green the row, so that pixels say where they come from."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8))


def span(pixels: torch.Tensor) -> tuple[float, float]:
    """Shares of the width and the height that are seen."""
    wide, high = pixels[0].float().mean(0), pixels[1].float().mean(1)
    return abs(float(wide[-1] - wide[0])) / 255, abs(float(high[-1] - high[0])) / 255


def test_every_augmentation_that_may_be_set_exists() -> None:
    assert set(CHOICES["augment"]) == {"none", *WAYS}


def test_crop_flip_shows_what_it_always_did() -> None:
    """Pixels of the first version, by hash: left, top, flip are drawn in this order, the flip comes before the crop."""
    seen = b"".join(transformed(place(), "crop_flip", SIZE, seed).numpy().tobytes() for seed in range(4))
    seen += transformed(place(), evaluation("crop_flip"), SIZE, 0).numpy().tobytes()
    assert hashlib.sha256(seen).hexdigest()[:16] == "4826c99557fa2910"


@pytest.mark.parametrize("augment", WAYS)
def test_an_evaluation_is_the_centre_and_draws_nothing(augment: str) -> None:
    first, second = (transformed(place(), evaluation(augment), SIZE, seed) for seed in (0, 1))
    assert torch.equal(first, second) and evaluation(evaluation(augment)) == evaluation(augment)
    wide, high = span(first)
    assert all(abs(float(first[i].float().mean()) - 127.5) < 5 for i in (0, 1)), "half a pixel is 4"
    assert high == pytest.approx(31 / 36, abs=0.02) and wide == pytest.approx(31 / 54, abs=0.02)


@pytest.mark.parametrize(("augment", "least", "flips"), [("resized_crop_flip", 0.08, True),
                                                         ("resized_crop_90", 0.9, False)])
def test_resized_crops_take_their_share_of_the_area(augment: str, least: float, flips: bool) -> None:
    seen = [transformed(place(), augment, SIZE, seed) for seed in range(200)]
    areas = [wide * high for wide, high in map(span, seen)]
    assert least * 0.8 < min(areas) < least * 1.3 + 0.1 and max(areas) > 0.7
    flipped = sum(bool(p[0, 0, 0] > p[0, 0, -1]) for p in seen)
    assert 60 < flipped < 140 if flips else flipped == 0


def test_boxes_lie_inside_with_allowed_ratios_and_areas_spread_evenly() -> None:
    random = np.random.default_rng(0)
    found = [box(400, 300, 0.08, random) for _ in range(2000)]
    areas = [(r - left) * (b - top) / 120_000 for left, top, r, b in found]
    ratios = [(r - left) / (b - top) for left, top, r, b in found]
    assert all(0 <= left < r <= 400 and 0 <= top < b <= 300 for left, top, r, b in found)
    assert min(ratios) > 0.73 and max(ratios) < 1.36 and min(areas) > 0.07 and max(areas) <= 1.0
    always_fit = [a for a in areas if a < 0.5625]  # whatever the ratio: 300 x 225
    assert abs(sum(a < 0.3 for a in always_fit) / len(always_fit) - 0.456) < 0.05
    assert box(1000, 10, 0.9, random) == (493, 0, 506, 10), "nothing fits: the centre, as wide as a ratio allows"


def test_bilinear_and_bicubic_differ_and_crop_alike() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))
    cubic, linear = (transformed(noise, a, SIZE, 3).float() for a in ("crop_flip", "crop_flip_bilinear"))
    assert not torch.equal(cubic, linear) and float((cubic - linear).abs().mean()) < 20
