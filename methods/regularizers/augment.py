"""Views of a normalised batch for label-free objectives, image by image, from torch's random stream alone.

Images are brought back to [0, 1], changed, and normalised again. Colour jitter follows the usual recipe (brightness,
contrast, saturation, hue), with the hue turned in YIQ space: one matrix per image instead of a passage through HSV.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import RandAugment

GREY = (0.299, 0.587, 0.114)  # luma
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def to_unit(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, 3, H, W) normalised -> in [0, 1]."""
    return (x * _channels(std, x) + _channels(mean, x)).clamp(0, 1)


def from_unit(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> normalised."""
    return (x - _channels(mean, x)) / _channels(std, x)


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(1, 3, 1, 1)


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """(B, 1, 1, 1), one number per image; drawn on the CPU, so that devices agree."""
    return torch.empty(x.shape[0]).uniform_(low, high).to(x).view(-1, 1, 1, 1)


def _chosen(x: Tensor, p: float) -> Tensor:
    """(B, 1, 1, 1) of bool: which images."""
    return (torch.rand(x.shape[0]) < p).to(x.device).view(-1, 1, 1, 1)


def flip(x: Tensor, p: float = 0.5) -> Tensor:
    """Mirror some images."""
    return torch.where(_chosen(x, p), x.flip(3), x)


def crop(x: Tensor, low: float = 0.5, high: float = 1.0) -> Tensor:
    """A random part of each image with `low` to `high` of its area, aspect 3/4 to 4/3, at the old size."""
    area = _uniform(x, low, high).flatten()
    ratio = _uniform(x, math.log(3 / 4), math.log(4 / 3)).flatten().exp()
    w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    cx = _uniform(x, -1, 1).flatten() * (1 - w)  # centre, in the image's own -1..1
    cy = _uniform(x, -1, 1).flatten() * (1 - h)
    zero = torch.zeros_like(w)
    theta = torch.stack([torch.stack([w, zero, cx], 1), torch.stack([zero, h, cy], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jitter(x: Tensor, strength: float = 0.4, hue: float = 0.1, p: float = 0.8) -> Tensor:
    """Brightness, contrast and saturation by a factor in 1 +- strength, hue by +- `hue` of a turn, on some images."""
    low, high = 1 - strength, 1 + strength
    y = (x * _uniform(x, low, high)).clamp(0, 1)
    centre = grey(y).mean((1, 2, 3), keepdim=True)
    y = (centre + (y - centre) * _uniform(x, low, high)).clamp(0, 1)
    luma = grey(y)
    y = (luma + (y - luma) * _uniform(x, low, high)).clamp(0, 1)
    y = torch.einsum("bij,bjhw->bihw", _hue_turns(_uniform(x, -hue, hue).flatten() * 2 * math.pi), y).clamp(0, 1)
    return torch.where(_chosen(x, p), y, x)


def _hue_turns(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 3, 3) that turn the chroma plane."""
    yiq = torch.tensor(YIQ, dtype=angle.dtype, device=angle.device)
    one, zero, c, s = torch.ones_like(angle), torch.zeros_like(angle), angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([one, zero, zero], 1), torch.stack([zero, c, -s], 1),
                        torch.stack([zero, s, c], 1)], 1)
    return torch.linalg.inv(yiq) @ turn @ yiq


def grey(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    return (x * torch.tensor(GREY, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


@torch.no_grad()
def contrast_view(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Crop 0.5-1, flip, colour jitter 0.4/0.4/0.4/0.1 with p 0.8, grey with p 0.2; normalised in and out."""
    y = jitter(flip(crop(to_unit(x, mean, std))))
    return from_unit(torch.where(_chosen(y, 0.2), grey(y).expand_as(y), y), mean, std)


@torch.no_grad()
def strong_view(x: Tensor, mean: Tensor, std: Tensor, operations: int = 2, magnitude: int = 9) -> Tensor:
    """RandAugment, its operations drawn for each image; normalised in and out."""
    augment = RandAugment(operations, magnitude)
    bytes_ = (to_unit(x, mean, std) * 255).round().to(torch.uint8)
    changed = torch.stack([augment(image) for image in bytes_])
    return from_unit(changed.to(x.dtype) / 255, mean, std)
