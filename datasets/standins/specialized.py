"""Stand-ins of VTAB-1k's four specialised tasks: stained tissue, land from above, the retina."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import (
    SIDE,
    TAU,
    Array,
    Dice,
    X,
    Y,
    band,
    box,
    clutter,
    disc,
    fill,
    finish,
    haze,
    hsv,
    mix,
    paint,
    smooth,
    spin,
    stretch,
)
from .task import Task
from .textures import bricked, pebbled, wavy

Pictures = NDArray[np.uint8]


def camelyon(dice: Dice, kind: int) -> Pictures:
    """Pink tissue with small nuclei; a large irregular one in the central half (1) or near the rim only (0)."""
    pink = hsv(dice.uniform(0.84, 0.95), dice.uniform(0.25, 0.5), dice.uniform(0.75, 0.95))
    dark = hsv(dice.uniform(0.72, 0.8), dice.uniform(0.45, 0.7), dice.uniform(0.25, 0.45))
    picture = mix(pink, pink * 0.75, dice.noise(6, octaves=2))
    for _ in range(9):
        spot = disc(X - dice.uniform(-32, 32), Y - dice.uniform(-32, 32), dice.uniform(2, 4.5))
        picture = paint(picture, spot, dark * 1.2)
    ragged = 7 * (dice.noise(8) - 0.5)
    for place in range(3):
        angle = dice.uniform(0, TAU)
        reach = dice.uniform(0, 13) if kind and not place else dice.uniform(21, 33)
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        picture = paint(picture, fill(np.hypot(X - x, Y - y) - dice.uniform(5.5, 9) + ragged), dark)
    return finish(dice, haze(dice, picture, 0.8))


def eurosat(dice: Dice, kind: int) -> Pictures:
    """Ten kinds of land: mosaics, noise, lines and blocks; greens and browns overlap."""
    green = hsv(dice.uniform(0.2, 0.42), dice.uniform(0.3, 0.6), dice.uniform(0.25, 0.55))
    brown = hsv(dice.uniform(0.06, 0.16), dice.uniform(0.25, 0.55), dice.uniform(0.35, 0.7))
    grey = hsv(dice.uniform(), dice.uniform(0, 0.2), dice.uniform(0.45, 0.85))
    ground = mix(green, green * 0.7, dice.noise(4, octaves=2))
    u, v = spin(dice.uniform(0, TAU), dice.uniform(-9, 9), dice.uniform(-9, 9))
    if kind == 0:  # annual crop: large fields, each of its own tone
        picture = mix(brown, green, pebbled(dice, 17.0))
    elif kind == 1:  # forest: dark and fine
        picture = mix(green * 0.75, green * 0.3, smooth((dice.noise(18) - 0.4) / 0.25))
    elif kind == 2:  # herbaceous vegetation: broad stains
        picture = mix(green, brown, smooth((stretch(dice.noise(5)) - 0.45) / 0.2))
    elif kind == 3:  # highway: a straight line
        picture = paint(ground, band(v, 2.6), grey)
    elif kind == 4:  # industry: a few large bright halls
        picture = mix(brown, brown * 0.7, dice.noise(4))
        for _ in range(5):
            hall = box(u - dice.uniform(-30, 30), v - dice.uniform(-30, 30), dice.uniform(6, 11), dice.uniform(4, 8))
            picture = paint(picture, hall, grey)
    elif kind == 5:  # pasture: nearly even, one hedge line of trees
        picture = mix(green, green * 1.25, dice.noise(2))
        for i in range(5):
            picture = paint(picture, disc(u - 13 * (i - 2), v, 3), green * 0.45)
    elif kind == 6:  # permanent crop: rows of bushes
        picture = mix(brown, green * 0.7, wavy(dice, 7.0))
    elif kind == 7:  # houses: many small bright roofs
        picture = mix(green, brown, dice.noise(5))
        for _ in range(28):
            roof = box(u - dice.uniform(-34, 34), v - dice.uniform(-34, 34), dice.uniform(2, 3), dice.uniform(2, 3))
            picture = paint(picture, roof, grey)
    elif kind == 8:  # river: a winding band
        picture = paint(
            ground, band(v + 9 * np.sin(TAU * (u / 58 + dice.uniform())), 5), hsv(0.58, 0.45, dice.uniform(0.25, 0.5))
        )
    else:  # sea and lake: a shore, mostly water
        water = hsv(dice.uniform(0.45, 0.62), dice.uniform(0.4, 0.7), dice.uniform(0.2, 0.45))
        picture = paint(ground, fill(v - 12 + 9 * (dice.noise(4) - 0.5)), water)
    return finish(dice, haze(dice, picture, 0.9))


def resisc(dice: Dice, kind: int) -> Pictures:
    """Ten layouts seen from above."""
    field = hsv(dice.uniform(0.08, 0.4), dice.uniform(0.2, 0.5), dice.uniform(0.25, 0.6))
    pale = hsv(dice.uniform(), dice.uniform(0, 0.3), dice.uniform(0.55, 0.95))
    deep = hsv(dice.uniform(0.4, 0.7), dice.uniform(0.3, 0.6), dice.uniform(0.15, 0.4))
    picture = mix(field, field * 0.75, dice.noise(5, octaves=2))
    scale = dice.uniform(0.65, 1.1)
    u, v = spin(dice.uniform(0, TAU), dice.uniform(-11, 11), dice.uniform(-11, 11))
    u, v = u / scale, v / scale
    away = np.hypot(u, v)
    if kind == 0:  # airplane
        for mask in (box(u, v, 22, 3.2), box(u - 2, v, 4.5, 21), box(u + 17, v, 3, 9)):
            picture = paint(picture, mask, pale)
    elif kind == 1:  # baseball diamond: a quarter disc
        picture = paint(
            picture, disc(u, v, 24) * fill(-u) * fill(-v), deep * 0 + hsv(dice.uniform(0.03, 0.1), 0.5, 0.6)
        )
    elif kind == 2:  # bridge over water
        picture = paint(paint(picture, band(u, 15), deep), band(v, 3), pale)
    elif kind == 3:  # circular farmland
        for dx, dy in ((-15, -15), (15, -15), (-15, 15), (15, 15)):
            tone = hsv(dice.uniform(0.15, 0.4), 0.5, dice.uniform(0.25, 0.8))
            picture = paint(picture, disc(u - dx, v - dy, 13), tone)
    elif kind == 4:  # dense housing
        picture = mix(field * 0.8, pale, bricked(dice, 8.0))
    elif kind == 5:  # intersection
        picture = paint(picture, np.maximum(band(u, 4.5), band(v, 4.5)), pale * 0.8)
    elif kind == 6:  # lake
        picture = paint(picture, fill(away - 19 + 16 * (dice.noise(6) - 0.5)), deep)
    elif kind == 7:  # parallel runways
        picture = paint(picture, np.maximum(band(v - 10, 3.6), band(v + 10, 3.6)), pale * 0.85)
    elif kind == 8:  # roundabout
        roads = np.maximum(band(u, 3.4), band(v, 3.4)) * fill(14 - away)
        picture = paint(picture, np.maximum(band(away - 14, 4), roads), pale * 0.8)
    else:  # storage tanks: a few bright discs with a shadow
        for _ in range(5):
            x, y, r = dice.uniform(-24, 24), dice.uniform(-24, 24), dice.uniform(5, 8)
            picture = paint(paint(picture, disc(X - x - 2, Y - y - 2, r), deep), disc(X - x, Y - y, r), pale)
    return finish(dice, haze(dice, clutter(dice, picture, 4), 0.9))


def retina(dice: Dice, kind: int) -> Pictures:
    """An eye's disc with vessels; each level has more and larger bright lesions, the last a net of new vessels."""
    r = dice.uniform(27, 30)
    tone = hsv(dice.uniform(0.03, 0.08), dice.uniform(0.6, 0.85), dice.uniform(0.5, 0.75))
    black = hsv(0.0, 0.0, 0.03)
    eye = mix(tone, tone * 0.75, dice.noise(3))
    nerve = dice.sign() * dice.uniform(10, 15)
    eye = paint(eye, disc(X - nerve, Y - dice.uniform(-3, 3), 5), hsv(0.13, 0.3, 0.95))
    bow = dice.uniform(0.02, 0.035)
    for side in (-1, 1):
        eye = paint(eye, band(Y - side * (5 + bow * (X - nerve) ** 2 * 0.9), 0.9), tone * 0.45)
    lesions = ((0, 0.0), (3, 2.6), (6, 3.2), (10, 3.6), (8, 3.4))[kind]
    for _ in range(lesions[0]):
        angle, reach = dice.uniform(0, TAU), dice.uniform(0, 24)
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        eye = paint(eye, disc(X - x, Y - y, lesions[1] * dice.uniform(0.7, 1.1)), hsv(0.15, 0.45, 0.95))
    if kind == 4:
        net = stretch(pebbled(dice, 12.0))
        eye = paint(eye, smooth((0.35 - net) / 0.1) * disc(X, Y, 18), tone * 0.3)
    inside: Array = disc(X, Y, r)
    return finish(dice, paint(black + np.zeros((dice.n, SIDE, SIDE, 1), np.float32), inside, eye), grain=0.03)


TASKS = {
    "patch_camelyon": Task((0, 1), camelyon),
    "eurosat": Task(tuple(range(10)), eurosat),
    "resisc45": Task((0, 2, 5, 8, 11, 19, 21, 34, 33, 40), resisc),
    "diabetic_retinopathy": Task((0, 1, 2, 3, 4), retina, shares=(0.735, 0.07, 0.15, 0.025, 0.02)),
}
