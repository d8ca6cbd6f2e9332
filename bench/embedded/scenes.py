"""Generated scenes for pre-training: a textured ground, objects with outlines, fills and hues, all labelled.

Everything is drawn by vectorised torch from one explicit generator, so a seed names a data set and nothing is stored.
Labels are class indices, with `NO_LABEL` where a question has no answer (the hue of a grey object, the wave length of
a flat ground). The words of this world are `VOCABULARY`; the miniature data sets of the benchmark use other textures
and other shapes, and a test keeps it so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.embedded.drawing import SIZE, bins, chance, choose, masked, rgb, turns, uniform
from bench.embedded.grounds import BACKGROUNDS, GROUND_HEADS, backgrounds
from bench.embedded.objects import FILLS, OUTLINES, Objects, inside, paint, random_objects, take

VOCABULARY = BACKGROUNDS + OUTLINES + FILLS
GRID = 6  # patches a side, 8 pixels each
MAX_OBJECTS = 8
OWN_FRAME = 10  # the silhouette is sampled on this many points a side around the main object

PLACE_HEADS = {"count": MAX_OBJECTS + 1, "size": 6, "x": 8, "y": 8}
OBJECT_HEADS = {"hue": 8, "outline": len(OUTLINES), "lobes": 7, "fill": len(FILLS), "heading": 8, "axis": 6}
IMAGE_HEADS = GROUND_HEADS | PLACE_HEADS | OBJECT_HEADS
# Asked of patches: two questions of their own, then those of the ground where it shows, of the main object where it is.
PATCH_HEADS = {"occupancy": 3, "phase": 8} | GROUND_HEADS | OBJECT_HEADS


@dataclass(frozen=True)
class Scenes:
    """Images with their answers; B images, 6x6 patches."""

    images: Tensor  # (B, 3, 48, 48), 0..1
    labels: dict[str, Tensor]  # IMAGE_HEADS -> (B,)
    patch_labels: dict[str, Tensor]  # PATCH_HEADS -> (B, 36)
    layout: Tensor  # (B, 12, 12) share of each 4x4 block that objects cover
    fine_layout: Tensor  # (B, 36, 16) the same in 2x2 blocks, sorted by patch
    silhouette: Tensor  # (B, 10, 10) main object in its own frame; nan where there is none

    def __len__(self) -> int:
        return len(self.images)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Scenes":
        """The same change made to every tensor: a slice, a move to a device."""
        return Scenes(
            images=change(self.images),
            labels={name: change(label) for name, label in self.labels.items()},
            patch_labels={name: change(label) for name, label in self.patch_labels.items()},
            layout=change(self.layout),
            fine_layout=change(self.fine_layout),
            silhouette=change(self.silhouette),
        )


def _places(count: int, easy: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """How many objects (B,), their centres (B, 8, 2) and radii (B, 8); object 0 is the main, largest one."""
    crowd = 1 + choose(generator, count, MAX_OBJECTS)
    number = torch.where(easy | chance(generator, count, 0.4), 1, crowd)
    number = torch.where(~easy & chance(generator, count, 0.15), 0, number)
    cells = torch.rand(count, 9, generator=generator).argsort(1)[:, :MAX_OBJECTS]
    cell_centre = torch.stack([cells % 3 - 1, cells // 3 - 1], dim=2) * 0.64
    centre = cell_centre + uniform(generator, (count, MAX_OBJECTS, 2), -0.1, 0.1)
    radius = uniform(generator, (count, MAX_OBJECTS), 0.15, 0.23)
    radius[:, 0] = uniform(generator, (count,), 0.28, 0.36)
    alone = torch.where(easy, uniform(generator, (count,), 0.4, 0.85), uniform(generator, (count,), 0.2, 0.8))
    reach = (1.05 - alone * 0.85).clamp(min=0)[:, None]
    spot = uniform(generator, (count, 2), -1, 1) * reach
    single = number <= 1
    radius[:, 0] = torch.where(single, alone, radius[:, 0])
    centre[:, 0] = torch.where(single[:, None], spot, centre[:, 0])
    return number, centre, radius


def draw(count: int, generator: Generator, easy_share: float = 0.4, strokes: float = 0.3) -> Scenes:
    """`count` scenes; `easy_share` of them show one large object on a plain ground."""
    easy = chance(generator, count, easy_share)
    dark, grey = chance(generator, count, 0.5), chance(generator, count, 0.3)
    pattern, labels, phase = backgrounds(count, easy, generator)
    number, centre, radius = _places(count, easy, generator)

    low, high = uniform(generator, (count,), 0.0, 0.35), uniform(generator, (count,), 0.3, 0.6)
    low, high = torch.where(dark, 1 - low, low), torch.where(dark, 1 - high, high)
    wild = chance(generator, count, 0.3) & (number == 0)  # nothing stands on it: use the whole range
    low, high = torch.where(wild, 0.05, low), torch.where(wild, 0.95, high)
    tint = torch.where(grey, 0.0, uniform(generator, (count,), 0, 0.6))
    colours = [rgb(uniform(generator, (count,)), tint, level) for level in (low, high)]
    image = colours[0][:, :, None] + (colours[1] - colours[0])[:, :, None] * pattern.reshape(count, 1, -1)

    twins = chance(generator, count, 0.5)
    main = random_objects(centre[:, 0], radius[:, 0], dark, grey, strokes, generator)
    union = torch.zeros(count, SIZE * SIZE)
    main_mask = torch.zeros(count, SIZE * SIZE)
    for slot in [*range(1, MAX_OBJECTS), 0]:  # the main object last, on top
        rows = (number > slot).nonzero()[:, 0]
        if not len(rows):
            continue
        if slot:
            fresh = random_objects(centre[rows, slot], radius[rows, slot], dark[rows], grey[rows], strokes, generator)
            same = vars(take(main, rows)) | {"centre": fresh.centre, "radius": fresh.radius}
            alike = twins[rows]
            objects = Objects(
                **{
                    name: torch.where(alike.reshape(-1, *[1] * (value.dim() - 1)), same[name], value)
                    for name, value in vars(fresh).items()
                }
            )
        else:
            objects = take(main, rows)
        image[rows], cover = paint(image[rows], objects)
        union[rows] = torch.maximum(union[rows], cover)
        if slot == 0:
            main_mask[rows] = cover

    blurred = F.avg_pool2d(image.reshape(count, 3, SIZE, SIZE), 3, stride=1, padding=1, count_include_pad=False)
    soft = chance(generator, count, 0.25)[:, None, None]  # as if enlarged from a smaller image
    image = torch.where(soft, blurred.flatten(2), image)
    noise = uniform(generator, (count, 1, 1), 0, 0.05) * chance(generator, count, 0.6)[:, None, None]
    image = image + noise * torch.randn(image.shape, generator=generator)
    contrast = uniform(generator, (count, 1, 1), 0.75, 1.1)
    image = (image - 0.5) * contrast + 0.5 + uniform(generator, (count, 1, 1), -0.08, 0.08)
    labels |= _object_labels(main, number, grey)
    union = union.reshape(count, 1, SIZE, SIZE)
    fine = F.avg_pool2d(union, 2).reshape(count, GRID, 4, GRID, 4).permute(0, 1, 3, 2, 4)
    return Scenes(
        images=image.clamp(0, 1).reshape(count, 3, SIZE, SIZE),
        labels=labels,
        patch_labels=_patch_labels(labels, phase, union, main_mask.reshape(count, 1, SIZE, SIZE)),
        layout=F.avg_pool2d(union, 4)[:, 0],
        fine_layout=fine.reshape(count, GRID * GRID, 16),
        silhouette=_silhouettes(main, number),
    )


def _object_labels(main: Objects, number: Tensor, grey: Tensor) -> dict[str, Tensor]:
    there = number > 0
    return {
        "count": number,
        "size": masked(bins(main.radius, 0.2, 0.8, IMAGE_HEADS["size"]), there),
        "x": masked(bins(main.centre[:, 0], -0.8, 0.8, IMAGE_HEADS["x"]), there),
        "y": masked(bins(main.centre[:, 1], -0.8, 0.8, IMAGE_HEADS["y"]), there),
        "hue": masked(turns(main.hue, 1.0, IMAGE_HEADS["hue"]), there & ~grey),
        "outline": masked(main.outline, there),
        "lobes": masked((main.lobes - 2).clamp(min=0), there & (main.lobes >= 0)),
        "fill": masked(main.fill, there & (main.outline != OUTLINES.index("stroke"))),
        "heading": masked(turns(main.heading, 2 * math.pi, IMAGE_HEADS["heading"]), there & ~main.heading.isnan()),
        "axis": masked(turns(main.axis, math.pi, IMAGE_HEADS["axis"]), there & ~main.axis.isnan()),
    }


def _patch_labels(labels: dict[str, Tensor], phase: Tensor, union: Tensor, main_mask: Tensor) -> dict[str, Tensor]:
    """Labels at the patches they belong to: (B,) -> (B, 36)."""
    covered = F.avg_pool2d(union, SIZE // GRID).flatten(1)
    main = F.avg_pool2d(main_mask, SIZE // GRID).flatten(1) > 0.25
    ground = covered < 0.05
    middle = phase[:, 4::8, 4::8].flatten(1)
    answers = {
        "occupancy": (covered > 0.05).long() + (covered > 0.8).long(),
        "phase": masked(turns(middle, 2 * math.pi, PATCH_HEADS["phase"]), ground & ~middle.isnan()),
    }
    for names, where in ((GROUND_HEADS, ground), (OBJECT_HEADS, main)):
        answers |= {name: masked(labels[name][:, None].expand_as(where), where) for name in names}
    return answers


def _silhouettes(main: Objects, number: Tensor) -> Tensor:
    """The main object's mask around its own centre, as large as itself: -> (B, 10, 10), nan without an object."""
    line = (torch.arange(OWN_FRAME) + 0.5) / OWN_FRAME * 2 - 1
    dy, dx = (axis.reshape(1, -1).expand(len(number), -1) for axis in torch.meshgrid(line, line, indexing="ij"))
    cover, _ = inside(main, dx, dy, torch.full_like(main.radius, OWN_FRAME / 2))
    cover = torch.where((number > 0)[:, None], cover, torch.full_like(cover, math.nan))
    return cover.reshape(-1, OWN_FRAME, OWN_FRAME)
