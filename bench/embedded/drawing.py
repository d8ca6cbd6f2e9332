"""What grounds and objects are drawn with: the pixel grid, random numbers from a generator, colours and bins.

Coordinates run from -1 to 1, x to the right and y downwards; one unit is 24 pixels.
"""

import torch
from torch import Generator, Tensor

SIZE = 48
UNIT = SIZE / 2  # pixels in one unit of length
NO_LABEL = -100


def uniform(generator: Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def choose(generator: Generator, count: int, options: int) -> Tensor:
    return torch.randint(options, (count,), generator=generator)


def chance(generator: Generator, count: int, probability: float) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue, saturation, value, each (B,) in 0..1 -> (B, 3)."""
    shifted = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    dip = torch.minimum(shifted, 4 - shifted).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * dip)


def bins(value: Tensor, low: float, high: float, count: int) -> Tensor:
    return ((value - low) / (high - low) * count).floor().clamp(0, count - 1).nan_to_num(0).long()


def turns(angle: Tensor, period: float, count: int) -> Tensor:
    """Angle -> bin of a circle of that period, bins centred on multiples of period / count."""
    return ((angle / period * count).nan_to_num(0).round().long()) % count


def masked(label: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, label, torch.full_like(label, NO_LABEL))


def pixels() -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres, each (48, 48)."""
    line = (torch.arange(SIZE) + 0.5) / UNIT - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def hard(wave: Tensor, sharpness: Tensor) -> Tensor:
    """A wave in -1..1 with its flanks made steeper, still a pixel or so wide."""
    return (wave * sharpness).clamp(-1, 1)
