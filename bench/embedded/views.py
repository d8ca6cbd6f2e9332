"""Views of a picture that teacher and student see alike: a part, mirrored, recoloured, coarsened, mixed with another.

A view is drawn once at 128 pixels for the teacher and halved for the student, so both look at the same thing (Beyer et
al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022, arXiv:2106.05237). Many
show the whole, because evaluation does. Coarse and grey views stand for small originals
(digits of 8 x 8 pixels); no digit is drawn.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bench.embedded.collection import Collection

LARGE, SMALL = 128, 64  # pixels on a side: what the teacher sees, what the student sees
WHOLE = 0.4  # share of the views that show all of the picture
LEAST = 0.3  # of the area that a part shows
GREY, INVERTED, COLOURED, COARSE, NOISY, MIXED = 0.15, 0.12, 0.3, 0.12, 0.1, 0.2  # shares of the views
COARSEST, FINEST = 8, 32  # pixels on a side of a coarse view, before it is enlarged again


def draw(collection: Collection, rows: NDArray[np.int64], random: np.random.Generator) -> Tensor:
    """One view of each of these pictures: (B, 3, 128, 128) uint8; mixed ones are mixed with another of the batch."""
    parts = np.stack([_part(_picture(collection, int(row)), random) for row in rows])
    views = torch.from_numpy(parts).permute(0, 3, 1, 2).float() / 255

    def some(share: float) -> Tensor:
        return torch.from_numpy(random.random(len(rows)) < share)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (len(rows), *shape))).float()

    grey = some(GREY)
    views[grey] = views[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    inverted = some(INVERTED)
    views[inverted] = 1 - views[inverted]
    coloured = some(COLOURED)
    gain, shift = between(0.6, 1.2, 3, 1, 1), between(-0.15, 0.15, 1, 1, 1)
    views[coloured] = (views * gain + shift).clamp(0, 1)[coloured]
    for i in some(COARSE).nonzero()[:, 0]:
        side = int(random.integers(COARSEST, FINEST + 1))
        small = F.interpolate(views[i:i + 1], side, mode="bicubic", antialias=True)
        views[i] = F.interpolate(small, LARGE, mode="bicubic")[0].clamp(0, 1)
    noisy = some(NOISY)
    views[noisy] += torch.from_numpy(random.normal(0, 0.08, (int(noisy.sum()), 1, LARGE, LARGE))).float()
    mixed, other = some(MIXED), torch.from_numpy(random.permutation(len(rows)))
    share = between(0.3, 0.7, 1, 1, 1)
    views = torch.where(mixed[:, None, None, None], share * views + (1 - share) * views[other], views)
    return (views.clamp(0, 1) * 255).round().to(torch.uint8)


def halved(views: Tensor) -> Tensor:
    """What the student sees of them: (B, 3, 128, 128) uint8 -> (B, 3, 64, 64) uint8."""
    small = F.interpolate(views.float(), SMALL, mode="bicubic", antialias=True)
    return small.clamp(0, 255).round().to(torch.uint8)


def normalised(views: Tensor) -> Tensor:
    """uint8 -> -1..1, as both networks expect (mean = std = 0.5)."""
    return views.float() / 127.5 - 1


def _picture(collection: Collection, row: int) -> Image.Image:
    drawings = len(collection.drawings)
    if row < drawings:
        return Image.fromarray(collection.drawings[row])
    return Image.fromarray(collection.garments[row - drawings]).convert("RGB")


def _part(picture: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
    """All or a random part of the picture, mirrored or not: (128, 128, 3)."""
    side = float(picture.width)
    left, top, wide, high = 0.0, 0.0, side, side
    if random.random() >= WHOLE:
        area, ratio = random.uniform(LEAST, 1), math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = (min(side, side * math.sqrt(area * ratio)), min(side, side * math.sqrt(area / ratio)))
        left, top = random.uniform(0, side - wide), random.uniform(0, side - high)
    part = picture.resize((LARGE, LARGE), Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high))
    if random.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part)
