"""From a stored image to pixels: how each value of the spec's `augment` crops, flips and resizes, and its evaluation.

    none                    stretched to S x S (bicubic)
    crop_flip               shorter side to 256/224 S, random crop, flip (bicubic); evaluated on the centre crop
    crop_flip_bilinear      the same, bilinear, as torchvision resizes unless told otherwise
    resized_crop_flip       8 % to all of the area, aspect ratio 3/4 to 4/3, flip (bilinear); the same centre crop
    resized_crop_90         90 % to all of the area, no flip (bicubic); the centre crop of crop_flip

All resizing is Pillow's, which filters over the area that a pixel covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from PIL.Image import Resampling, Transpose
from torch import Tensor

RESIZE_SHARE = 256 / 224  # FGVC habit: the shorter side to 256, then a crop of 224
CENTRE = "centre:"  # in front of an augmentation's name: its evaluation


@dataclass(frozen=True)
class _Way:
    filter: Resampling = Resampling.BICUBIC
    flip: bool = True
    least: float | None = None  # of the area, for crops that are resized; None: a crop of the resized image


WAYS = {"crop_flip": _Way(), "crop_flip_bilinear": _Way(Resampling.BILINEAR),
        "resized_crop_flip": _Way(Resampling.BILINEAR, least=0.08), "resized_crop_90": _Way(flip=False, least=0.9)}
RATIOS = (3 / 4, 4 / 3)
TRIES = 10  # boxes that do not fit are drawn anew, so often


def evaluation(augment: str) -> str:
    """The transform under which images are scored when those trained on are augmented so."""
    return "none" if augment == "none" else augment if augment.startswith(CENTRE) else CENTRE + augment


def transformed(image: PIL.Image.Image, augment: str, size: int, seed: int) -> Tensor:
    """An RGB image -> (3, S, S) uint8; what is random follows from the seed."""
    if augment == "none":
        return _pixels(image.resize((size, size), Resampling.BICUBIC))
    way = WAYS[augment.removeprefix(CENTRE)]
    if augment.startswith(CENTRE):
        image = _shorter_side(image, size, way.filter)
        left, top = ((side - size) // 2 for side in image.size)
        return _pixels(image.crop((left, top, left + size, top + size)))
    random = np.random.default_rng(seed)
    if way.least is not None:
        image = image.crop(box(image.width, image.height, way.least, random)).resize((size, size), way.filter)
        left = top = 0
    else:
        image = _shorter_side(image, size, way.filter)
        left, top = (int(random.integers(0, side - size + 1)) for side in image.size)
    if way.flip and random.random() < 0.5:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    return _pixels(image.crop((left, top, left + size, top + size)))


def box(width: int, height: int, least: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """A random part of an image: area uniform from `least` to 1, aspect ratio log-uniform in RATIOS.

    Where none of TRIES boxes fits, the largest centred one of an allowed ratio.
    """
    for _ in range(TRIES):
        area = width * height * random.uniform(least, 1.0)
        ratio = math.exp(random.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIOS[1])), min(height, round(width / RATIOS[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _shorter_side(image: PIL.Image.Image, size: int, filter: Resampling) -> PIL.Image.Image:
    scale = round(size * RESIZE_SHARE) / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    return image.resize((wide, high), filter)


def _pixels(image: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1).copy())
