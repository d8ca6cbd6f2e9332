"""Objects of the generated scenes: star-shaped outlines and strokes, filled in six ways.

No letters or digits are drawn: a stroke is a random chain of arcs, and what it resembles is chance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.embedded.drawing import UNIT, chance, choose, pixels, rgb, uniform

OUTLINES = ("disc", "polygon", "petal", "star", "gear", "blob", "stroke")
FILLS = ("solid", "ring", "stripes", "spots", "core", "halves")
ANGLES = 128  # entries of an outline's table radius(angle)
BEADS = 40  # points of a stroke


@dataclass(frozen=True)
class Objects:
    """One object for each of B images."""

    centre: Tensor  # (B, 2)
    radius: Tensor  # (B,)
    outline: Tensor  # (B,) index into OUTLINES
    lobes: Tensor  # (B,) 0 or 3..8; -1 without a number
    table: Tensor  # (B, ANGLES) radius at each angle, largest value 1
    beads: Tensor  # (B, BEADS, 2) points of a stroke within the unit disc
    pen: Tensor  # (B,) half width of a stroke, in radii
    squeeze: Tensor  # (B, 2, 2) linear map from image offsets to the frame of the table
    heading: Tensor  # (B,) angle, nan when the object has none
    axis: Tensor  # (B,) long axis, nan when the object has none
    fill: Tensor  # (B,) index into FILLS
    hue: Tensor  # (B,) 0..1
    colour: Tensor  # (B, 3)
    second: Tensor  # (B, 3) the other colour of a two-coloured fill
    fill_angle: Tensor  # (B,)


def _outline_tables(outline: Tensor, lobes: Tensor, turn: Tensor, heading: Tensor, generator: Generator) -> Tensor:
    """Radius at each of 128 angles for star-shaped outlines, largest 1: (B,) -> (B, ANGLES)."""
    count = len(outline)
    theta = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    depth = uniform(generator, (count, 1), 0.22, 0.42)
    around = theta - turn[:, None]
    k = lobes.clamp(min=3)[:, None].float()
    wave = (k * around).cos()
    sector = torch.remainder(around, 2 * math.pi / k) - math.pi / k
    polygon = (math.pi / k).cos() / sector.cos()
    tent = torch.remainder(around * k / (2 * math.pi), 1.0).sub(0.5).abs() * 2  # 1 at the tips
    harmonics = torch.zeros(count, ANGLES)
    for order in (2, 3, 4, 5):
        size = uniform(generator, (count, 1), 0, 0.5 / order)
        harmonics += size * (order * theta + uniform(generator, (count, 1), 0, 2 * math.pi)).cos()
    shapes = {
        "disc": torch.ones(count, ANGLES),
        "polygon": polygon,
        "petal": 1 + depth * wave,
        "star": 1 - 1.5 * depth * (1 - tent),
        "gear": 1 + 0.6 * depth * (wave * 4).clamp(-1, 1),
        "blob": 1 + harmonics,
    }
    stacked = torch.stack(list(shapes.values()))  # (6, B, ANGLES)
    table = stacked[outline.clamp(max=len(shapes) - 1), torch.arange(count)]
    # A first harmonic would look like a shift; a nose with a flattened back shows where the object points.
    away = torch.remainder(theta - heading.nan_to_num(0)[:, None] + math.pi, 2 * math.pi) - math.pi
    nose = 0.8 * (1 + 0.9 * (-((away / 0.38) ** 2)).exp() - 0.25 * (-(((away.abs() - math.pi) / 0.8) ** 2)).exp())
    table = torch.where(heading.isnan()[:, None], table, table * nose)
    return table / table.max(dim=1, keepdim=True).values


def _stroke_beads(count: int, generator: Generator) -> Tensor:
    """Random chains of arcs, sometimes with the pen lifted once: -> (count, BEADS, 2) in the unit disc."""
    position = torch.arange(BEADS)
    joints = torch.sort(torch.randint(6, BEADS - 6, (count, 2), generator=generator), dim=1).values
    piece = (position >= joints[:, :1]).long() + (position >= joints[:, 1:]).long()  # (B, BEADS)
    bend = uniform(generator, (count, 3), -1.9, 1.9) * math.pi / 13
    bend = torch.where(uniform(generator, (count, 3)) < 0.3, 0.0, bend)
    loop = chance(generator, count, 0.2)
    bend = torch.where(loop[:, None], torch.full_like(bend, 2 * math.pi / (BEADS - 1)), bend)
    corner = uniform(generator, (count, 2), -0.8, 0.8) * math.pi
    corner = torch.where((uniform(generator, (count, 2)) < 0.5) | loop[:, None], 0.0, corner)
    turning = bend.gather(1, piece)
    turning = turning + (position == joints[:, :1]) * corner[:, :1] + (position == joints[:, 1:]) * corner[:, 1:]
    direction = turning.cumsum(1) + uniform(generator, (count, 1), 0, 2 * math.pi)
    beads = torch.stack([direction.cos().cumsum(1), direction.sin().cumsum(1)], dim=2)
    lifted = chance(generator, count, 0.35) & ~loop
    after = position >= BEADS // 2
    jump = (uniform(generator, (count, 1, 2), -0.35, 0.35)) * BEADS / 2
    first, last = beads[:, : BEADS // 2], beads[:, BEADS // 2 :]
    shift = first.mean(1, keepdim=True) - last.mean(1, keepdim=True) + jump * 0.6
    beads = beads + shift * (after[None, :, None] & lifted[:, None, None])
    middle = (beads.amax(1, keepdim=True) + beads.amin(1, keepdim=True)) / 2
    beads = beads - middle
    slim = uniform(generator, (count, 1, 2), 0.6, 1.0)
    beads = beads * slim
    return beads / beads.norm(dim=2).amax(1).clamp(min=1)[:, None, None] * 0.85


def random_objects(
    centre: Tensor, radius: Tensor, dark: Tensor, grey: Tensor, strokes: float, generator: Generator
) -> Objects:
    """Draw every property of one object an image; `dark` objects stand on bright ground and the reverse."""
    count = len(radius)
    star_shaped = choose(generator, count, len(OUTLINES) - 1)
    outline = torch.where(chance(generator, count, strokes), len(OUTLINES) - 1, star_shaped)
    lobes = 3 + choose(generator, count, 6)
    lobes = torch.where(outline == OUTLINES.index("disc"), 0, lobes)
    lobes = torch.where(outline >= OUTLINES.index("blob"), -1, lobes)
    is_stroke = outline == OUTLINES.index("stroke")
    nan = torch.full((count,), math.nan)
    turn = uniform(generator, (count,), 0, 2 * math.pi)
    manner = uniform(generator, (count,))
    heading = torch.where((manner < 0.45) & ~is_stroke, turn, nan)
    long = (manner > 0.65) & ~is_stroke
    axis = torch.where(long, uniform(generator, (count,), 0, math.pi), nan)
    ratio = torch.where(long, uniform(generator, (count,), 1.5, 2.4), torch.ones(count))
    cos, sin = axis.nan_to_num(0).cos(), axis.nan_to_num(0).sin()
    # Identity along the axis, stretched across it: the outline is slimmer there.
    mixed = (1 - ratio) * cos * sin
    entries = [cos * cos + ratio * sin * sin, mixed, mixed, sin * sin + ratio * cos * cos]
    squeeze = torch.stack(entries, dim=1).reshape(count, 2, 2)
    hue = uniform(generator, (count,))
    saturation = torch.where(grey, 0.0, uniform(generator, (count,), 0.55, 1.0))
    value = torch.where(dark, uniform(generator, (count,), 0.1, 0.5), uniform(generator, (count,), 0.7, 1.0))
    value = torch.where(dark & ~grey, value + 0.15, value)
    second_value = torch.where(dark, value + 0.35, value - 0.45)
    fill = torch.where(is_stroke, 0, choose(generator, count, len(FILLS)))
    return Objects(
        centre=centre,
        radius=radius,
        outline=outline,
        lobes=lobes,
        table=_outline_tables(outline, lobes, turn, heading, generator),
        beads=_stroke_beads(count, generator),
        pen=uniform(generator, (count,), 0.08, 0.17),
        squeeze=squeeze,
        heading=heading,
        axis=axis,
        fill=fill,
        hue=hue,
        colour=rgb(hue, saturation, value),
        second=rgb(hue, saturation * uniform(generator, (count,), 0.2, 1.0), second_value.clamp(0, 1)),
        fill_angle=uniform(generator, (count,), 0, 2 * math.pi),
    )


def take(objects: Objects, index: Tensor) -> Objects:
    return Objects(**{name: value[index] for name, value in vars(objects).items()})


def inside(objects: Objects, dx: Tensor, dy: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """Coverage 0..1 and distance relative to the outline at offsets (B, P) in radii; sharpness is pixels a radius."""
    m = objects.squeeze
    u = m[:, 0, 0, None] * dx + m[:, 0, 1, None] * dy
    v = m[:, 1, 0, None] * dx + m[:, 1, 1, None] * dy
    at = (torch.atan2(v, u) * (ANGLES / (2 * math.pi))).round().long() % ANGLES
    edge = objects.table.gather(1, at)
    distance = (u * u + v * v).sqrt()
    cover = ((edge - distance) * sharpness[:, None] + 0.5).clamp(0, 1)
    relative = distance / edge.clamp(min=0.05)
    stroke = (objects.outline == OUTLINES.index("stroke")).nonzero()[:, 0]
    if len(stroke):
        points = torch.stack([dx[stroke], dy[stroke]], dim=2)
        nearest = torch.cdist(points, objects.beads[stroke]).amin(2)
        cover[stroke] = ((objects.pen[stroke, None] - nearest) * sharpness[stroke, None] + 0.5).clamp(0, 1)
    return cover, relative


def paint(image: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
    """Draw one object onto each image (B, 3, P) -> new images and the objects' masks (B, P)."""
    x, y = (axis.reshape(1, -1) for axis in pixels())
    radius = objects.radius[:, None]
    dx = (x - objects.centre[:, :1]) / radius
    dy = (y - objects.centre[:, 1:]) / radius
    cover, relative = inside(objects, dx, dy, objects.radius * UNIT)
    cos, sin = objects.fill_angle.cos()[:, None], objects.fill_angle.sin()[:, None]
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    sharp = objects.radius[:, None] * UNIT
    mix = torch.zeros_like(cover)  # share of the second colour
    hole = torch.zeros_like(cover)
    for index, name in enumerate(FILLS):
        chosen = (objects.fill == index).nonzero()[:, 0]
        if name == "solid" or not len(chosen):
            continue
        a, b, s, r = along[chosen], across[chosen], sharp[chosen], relative[chosen]
        if name == "ring":
            hole[chosen] = ((0.62 - r) * s + 0.5).clamp(0, 1)
        elif name == "stripes":
            mix[chosen] = ((a * 9).sin() * s / 9 + 0.5).clamp(0, 1)
        elif name == "spots":
            mix[chosen] = (((a * 8).sin() + (b * 8).sin() - 0.5) * s / 8 + 0.5).clamp(0, 1)
        elif name == "core":
            mix[chosen] = ((0.5 - r) * s + 0.5).clamp(0, 1)
        else:  # halves
            mix[chosen] = (a * s + 0.5).clamp(0, 1)
    paint = objects.colour[:, :, None] + (objects.second - objects.colour)[:, :, None] * mix[:, None]
    visible = cover * (1 - hole)
    return image + (paint - image) * visible[:, None], cover
