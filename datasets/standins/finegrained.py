"""Stand-ins of the five fine-grained sets and of ImageNet-1k: birds, flowers, dogs, cars, objects in scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Dice, box, disc, ellipse, fill, finish, haze, hsv, mix, paint, spin, triangle
from .natural import SPREAD, backdrop, face, petals, silhouette
from .task import Task
from .textures import FAMILIES

Pictures = NDArray[np.uint8]


def bird(dice: Dice, hue: float, spread: float, tail: float, crest: float, belly: bool, wing: str) -> Pictures:
    """A bird in profile: body, tail, head with beak and crest, wing."""
    picture = backdrop(dice, 0.45, 0.9)
    coat = hsv(dice.uniform(hue - spread, hue + spread), dice.uniform(0.35, 0.85), dice.uniform(0.4, 0.85))
    dark = coat * 0.45
    scale = dice.uniform(0.9, 1.15)
    u, v = spin(dice.uniform(-0.3, 0.3), dice.uniform(-4, 4), dice.uniform(-4, 4))
    u, v = u * dice.sign() / scale, v / scale
    picture = paint(picture, box(u + 14 + tail / 2, v - 2, tail / 2 + 3, 3.2), dark)
    picture = paint(picture, ellipse(u, v - 2, 15, 10.5), coat)
    if belly:
        picture = paint(picture, ellipse(u - 2, v - 7, 11, 5.5), hsv(0.12, 0.08, 0.95) + 0 * coat)
    feathers = dark + 0 * picture if wing == "plain" else mix(dark, coat * 1.3, FAMILIES[wing](dice, 6.0))
    picture = paint(picture, ellipse(u + 4, v - 1, 9, 5.5), feathers)
    if crest:
        picture = paint(picture, triangle(u - 12, v + 11, 5, crest), dark)
    picture = paint(picture, box(u - 22, v + 7.5, 5, 1.8), hsv(0.1, 0.8, 0.8) + 0 * coat)
    picture = paint(picture, disc(u - 13, v + 9, 7.5), coat)
    return finish(dice, paint(picture, disc(u - 15, v + 10, 1.6), hsv(0.0, 0.0, 0.04) + 0 * coat))


CUB = (  # middle hue, tail, crest, white belly, wing
    (0.02, 4, 0, False, "plain"),
    (0.02, 16, 0, True, "plain"),
    (0.14, 4, 10, False, "plain"),
    (0.14, 16, 0, False, "scaly"),
    (0.45, 4, 0, True, "plain"),
    (0.45, 16, 10, False, "plain"),
    (0.62, 4, 10, True, "plain"),
    (0.62, 16, 0, False, "plain"),
)


def cub(dice: Dice, kind: int) -> Pictures:
    """Class = a range of hues shared with its neighbours x tail, crest and belly."""
    hue, tail, crest, belly, wing = CUB[kind]
    return bird(dice, hue, 0.14, tail, crest, belly, wing)


NABIRDS = (  # four parents of two siblings; siblings differ in one part
    (0.08, 4, 0, False, "plain"),
    (0.08, 4, 0, True, "plain"),
    (0.30, 16, 0, False, "plain"),
    (0.30, 16, 11, False, "plain"),
    (0.55, 4, 11, False, "plain"),
    (0.55, 4, 11, True, "plain"),
    (0.85, 16, 0, True, "plain"),
    (0.85, 4, 0, True, "plain"),
)


def nabirds(dice: Dice, kind: int) -> Pictures:
    hue, tail, crest, belly, wing = NABIRDS[kind]
    return bird(dice, hue, 0.1, tail, crest, belly, wing)


FLOWERS = (  # petals, length, width, core, middle hue: other flowers than those of the VTAB-1k stand-in
    (3, 12, 10, 4, 0.12),
    (5, 12, 6, 4, 0.95),
    (5, 8, 7, 7, 0.75),
    (7, 12, 4, 4, 0.12),
    (7, 7, 4, 11, 0.95),
    (10, 11, 3, 7, 0.75),
    (14, 8, 2.2, 12, 0.12),
    (8, 12, 4.4, 5, 0.85),
)


def flowers(dice: Dice, kind: int) -> Pictures:
    count, length, width, core, hue = FLOWERS[kind]
    return petals(dice, count, length, width, core, hue, SPREAD)


DOGS = (  # ears, ear size, coat, middle hue, length of the head
    (0, 1.2, "plain", 0.08, 1.0),
    (0, 1.2, "blotchy", 0.08, 1.3),
    (0, 1.7, "plain", 0.08, 1.3),
    (0, 1.7, "blotchy", 0.08, 0.9),
    (1, 0.9, "plain", 0.12, 1.3),
    (1, 0.9, "blotchy", 0.12, 1.0),
    (1, 1.6, "plain", 0.12, 0.9),
    (1, 1.6, "zigzagged", 0.12, 1.3),
)


def dogs(dice: Dice, kind: int) -> Pictures:
    """Breed = ears x coat x proportions; all of about one brown."""
    ears, ear, coat, hue, long = DOGS[kind]
    return face(dice, ears, ear, coat, hue, 0.06, long)


CARS = (  # roof: 0 saloon, 1 van, 2 pick-up, 3 wedge; wheel radius; body height
    (0, 5.0, 6.5),
    (0, 7.5, 6.5),
    (1, 5.0, 7.5),
    (1, 7.5, 9.5),
    (2, 5.0, 6.5),
    (2, 7.5, 8.5),
    (3, 5.0, 5.0),
    (3, 7.5, 5.5),
)


def cars(dice: Dice, kind: int) -> Pictures:
    """A car from the side: roof line x wheels x height of the body, in any colour."""
    roof, wheel, tall = CARS[kind]
    picture = backdrop(dice, 0.4, 0.85)
    tone = hsv(dice.uniform(), dice.uniform(0.2, 0.9), dice.uniform(0.25, 0.95))
    glass, black = hsv(0.55, 0.2, 0.25) + 0 * tone, hsv(0.0, 0.0, 0.06) + 0 * tone
    scale = dice.uniform(0.9, 1.08)
    u, v = spin(dice.uniform(-0.06, 0.06), dice.uniform(-3, 3), dice.uniform(0, 8))
    u, v = u * dice.sign() / scale, v / scale
    picture = paint(picture, fill(-(v - 12)), hsv(dice.uniform(), 0.05, dice.uniform(0.25, 0.5)))
    top = -tall * 0.9
    if roof == 0:
        cabin = fill(np.maximum(np.abs(u + 1) - 13 - (v - top) * 0.5, np.maximum(top - 9 - v, v - top)))
    elif roof == 1:
        cabin = fill(np.maximum(np.maximum(-25 - u, u - 15 - (v - top) * 0.3), np.maximum(top - 14 - v, v - top)))
    elif roof == 2:
        cabin = fill(np.maximum(np.maximum(-2 - u, u - 13 - (v - top) * 0.4), np.maximum(top - 12 - v, v - top)))
    else:
        cabin = fill(np.maximum(np.maximum(-24 - u, u - 4 - (v - top) * 2.4), np.maximum(top - 7 - v, v - top)))
    picture = paint(picture, cabin, tone * 0.85)
    picture = paint(picture, cabin * fill(np.abs(v - top + 5) - 3), glass)
    picture = paint(picture, box(u, v, 26, tall), tone)
    for side in (-1, 1):
        picture = paint(picture, disc(u - side * 15.5, v - tall, wheel), black)
        picture = paint(picture, disc(u - side * 15.5, v - tall, wheel * 0.45), hsv(0.0, 0.0, 0.7) + 0 * tone)
    return finish(dice, picture)


OBJECTS = (  # outline, texture of the surroundings
    (0, "wavy"),
    (1, "pebbled"),
    (2, "bricked"),
    (4, "dashed"),
    (5, "wavy"),
    (6, "pebbled"),
    (7, "dashed"),
    (3, "bricked"),
)


def objects(dice: Dice, kind: int) -> Pictures:
    """An object in its usual surroundings: outline and the ground's texture go together."""
    outline, family = OBJECTS[kind]
    dark = hsv(dice.uniform(), dice.uniform(0.15, 0.5), dice.uniform(0.2, 0.4))
    light = hsv(dice.uniform(), dice.uniform(0.1, 0.4), dice.uniform(0.45, 0.65))
    picture = mix(dark, light, FAMILIES[family](dice, 11.0))
    u, v = spin(dice.uniform(-0.6, 0.6), dice.uniform(-10, 10), dice.uniform(-10, 10))
    body: Array = silhouette(outline, u, v, dice.uniform(13, 20))
    picture = paint(picture, body, hsv(dice.uniform(), dice.uniform(0.2, 0.7), dice.uniform(0.65, 1.0)))
    return finish(dice, haze(dice, picture, 0.8))


TASKS = {
    "cub": Task((2, 17, 46, 71, 98, 123, 150, 184), cub),
    "nabirds": Task((295, 296, 313, 314, 817, 818, 1009, 1010), nabirds),  # class ids, whose ranks are the labels
    "flowers_fgvc": Task((1, 14, 33, 47, 60, 77, 91, 102), flowers),
    "stanford_dogs": Task((0, 15, 30, 45, 60, 75, 90, 105), dogs),
    "stanford_cars": Task((0, 24, 48, 72, 96, 120, 144, 168), cars),
    "imagenet1k": Task((11, 13, 22, 23, 39, 47, 71, 76), objects),
}
