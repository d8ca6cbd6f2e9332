"""Grounds of the generated scenes: ten kinds of pattern at four wave lengths and any angle."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.embedded.drawing import SIZE, choose, hard, masked, pixels, turns, uniform

BACKGROUNDS = ("flat", "gradient", "noise", "sine", "square", "plaid", "checker", "dots", "grid", "grain")
CYCLES = (2.5, 4.5, 7.5, 11.0)  # waves across the image, one entry a class of `frequency`
GROUND_HEADS = {"kind": len(BACKGROUNDS), "frequency": len(CYCLES), "angle": 6}


def backgrounds(count: int, easy: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Pattern in 0..1 (B, 48, 48), labels of the ground, phase of straight waves (B, 48, 48)."""
    x, y = pixels()
    kind = torch.where(easy, choose(generator, count, 2), choose(generator, count, len(BACKGROUNDS)))
    band = choose(generator, count, len(CYCLES))
    cycles = torch.tensor(CYCLES)[band] * uniform(generator, (count,), 0.88, 1.12)
    angle = uniform(generator, (count,), 0, math.pi)
    offset = uniform(generator, (count, 2), 0, 2 * math.pi)
    wave_number = (math.pi * cycles)[:, None, None]  # the image is two units wide
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = x * cos + y * sin
    across = -x * sin + y * cos
    phase = wave_number * along + offset[:, 0, None, None]
    other = wave_number * across + offset[:, 1, None, None]
    pattern = torch.zeros(count, SIZE, SIZE)
    sharpness = (2.5 * SIZE / (math.pi * cycles)).clamp(1.2, 8)[:, None, None]

    def put(name: str, values: Tensor, chosen: Tensor) -> None:
        pattern[chosen] = values

    for index, name in enumerate(BACKGROUNDS):
        chosen = (kind == index).nonzero()[:, 0]
        if name == "flat" or not len(chosen):
            continue
        p, q, s = phase[chosen], other[chosen], sharpness[chosen]
        if name == "gradient":
            values = along[chosen] * torch.where(offset[chosen, 0] > math.pi, 1.0, -1.0)[:, None, None]
        elif name in ("noise", "grain"):
            values = _noise(cycles[chosen], angle[chosen], 1.0 if name == "noise" else 5.0, generator)
        elif name == "sine":
            values = p.sin()
        elif name == "square":
            values = hard(p.sin(), s)
        elif name == "plaid":
            values = (p.sin() + q.sin()) / 2
        elif name == "checker":
            values = hard(p.sin() * q.sin(), s)
        elif name == "dots":
            values = hard(p.sin() + q.sin() - 0.9, s)
        else:  # grid
            values = hard(torch.maximum(p.sin(), q.sin()) - 0.8, s * 2)
        put(name, values, chosen)

    wavy = (kind >= BACKGROUNDS.index("sine")) | (kind == BACKGROUNDS.index("noise"))
    straight = (kind == BACKGROUNDS.index("sine")) | (kind == BACKGROUNDS.index("square"))
    directed = straight | (kind == BACKGROUNDS.index("grain")) | (kind == BACKGROUNDS.index("gradient"))
    labels = {
        "kind": kind,
        "frequency": masked(band, wavy),
        "angle": masked(turns(angle, math.pi, GROUND_HEADS["angle"]), directed),
    }
    phase = torch.where(straight[:, None, None], phase, torch.full_like(phase, math.nan))
    return pattern * 0.5 + 0.5, labels, phase


def _noise(cycles: Tensor, angle: Tensor, stretch: float, generator: Generator) -> Tensor:
    """Smooth random fields, `stretch` times longer along one direction: (B,) -> (B, 48, 48) within -1..1."""
    count, cells = len(cycles), 32
    coarse = uniform(generator, (count, 1, cells, cells), -1.6, 1.6)
    x, y = pixels()
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    scale = (cycles * 2 / cells)[:, None, None]
    at = torch.stack([(x * cos + y * sin) * scale, (y * cos - x * sin) * scale / stretch], dim=3)
    return F.grid_sample(coarse, at, mode="bilinear", padding_mode="reflection", align_corners=False)[:, 0].clamp(-1, 1)
