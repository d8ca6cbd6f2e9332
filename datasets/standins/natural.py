"""Stand-ins of VTAB-1k's seven natural tasks: silhouettes, textures, flower heads, pet faces, digits, scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import (
    TAU,
    Array,
    Dice,
    X,
    Y,
    band,
    box,
    clutter,
    disc,
    ellipse,
    fill,
    finish,
    haze,
    hsv,
    mix,
    paint,
    spin,
    triangle,
)
from .task import Task
from .textures import FAMILIES

Pictures = NDArray[np.uint8]


def two_colours(dice: Dice, gap: float = 0.35) -> tuple[Array, Array]:
    """A dark and a light colour of any two hues, in random order."""
    dark = dice.uniform(0.1, 0.65 - gap)
    a = hsv(dice.uniform(), dice.uniform(0.2, 0.8), dark)
    b = hsv(dice.uniform(), dice.uniform(0.1, 0.6), dark + gap + dice.uniform(0, 0.65 - gap))
    swap = (dice.uniform() < 0.5)[..., None]
    return np.where(swap, a, b), np.where(swap, b, a)


def backdrop(dice: Dice, low: float = 0.25, high: float = 0.8) -> Array:
    """A calm, cloudy ground of one hue."""
    hue, saturation, value = dice.uniform(), dice.uniform(0.1, 0.5), dice.uniform(low, high)
    tint = hsv(hue, saturation, value)
    other = hsv(hue + dice.uniform(-0.1, 0.1), saturation, value * dice.uniform(0.7, 1.25))
    return mix(tint, other, dice.noise(3, octaves=2))


def silhouette(kind: int, u: Array, v: Array, r: Array) -> Array:
    """Eight outlines that are not star-shaped: they have holes, arms or several pieces. r is half the extent."""
    if kind == 0:  # ring
        return band(np.hypot(u, v) - r * 0.75, r * 0.22)
    if kind == 1:  # cross
        return np.maximum(box(u, v, r, r * 0.26), box(u, v, r * 0.26, r))
    if kind == 2:  # dumbbell
        ends = np.maximum(disc(u - r * 0.65, v, r * 0.38), disc(u + r * 0.65, v, r * 0.38))
        return np.maximum(ends, box(u, v, r * 0.7, r * 0.12))
    if kind == 3:  # comb
        teeth = np.maximum(box(np.abs(u) - r * 0.8, v, r * 0.16, r * 0.9), box(u, v, r * 0.16, r * 0.9))
        return np.maximum(teeth, box(u, v - r * 0.75, r * 0.95, r * 0.18))
    if kind == 4:  # crescent
        return np.clip(disc(u, v, r * 0.95) - disc(u - r * 0.45, v, r * 0.75), 0, 1)
    if kind == 5:  # slab
        return box(u, v, r, r * 0.3)
    if kind == 6:  # frame
        return np.clip(box(u, v, r * 0.85, r * 0.85) - box(u, v, r * 0.52, r * 0.52), 0, 1)
    hole = np.maximum(disc(u, v + r * 0.15, r * 0.4), box(u, v - r * 0.5, r * 0.4, r * 0.7))  # arch
    whole = np.maximum(disc(u, v + r * 0.1, r * 0.85), box(u, v - r * 0.45, r * 0.85, r * 0.5))
    return np.clip(whole - hole, 0, 1)


def caltech(dice: Dice, kind: int) -> Pictures:
    """One large silhouette on a calm ground; hue says nothing, outline everything."""
    ground, ink = two_colours(dice, 0.25)
    u, v = spin(dice.uniform(-0.8, 0.8), dice.uniform(-11, 11), dice.uniform(-11, 11))
    picture = mix(ground, ground * 0.6, dice.noise(4, octaves=2))
    body = silhouette(kind, u, v, dice.uniform(14, 23))
    return finish(dice, clutter(dice, paint(picture, body, ink * (0.7 + 0.5 * dice.noise(5)[..., None])), 5))


CIFAR = (("blotchy", 0), ("zigzagged", 0), ("honeycombed", 0), ("blotchy", 1), ("bricked", 1), ("wavy", 1),
         ("cracked", 2), ("zigzagged", 2), ("scaly", 3), ("bricked", 3))  # fmt: skip


def cifar(dice: Dice, kind: int) -> Pictures:
    """A textured body on a calm ground: superclass = outline, class adds the texture."""
    family, outline = CIFAR[kind]
    picture = backdrop(dice, 0.2, 0.6)
    light, dark = two_colours(dice, 0.4)
    coat = mix(dark, light, FAMILIES[family](dice, dice.uniform(9, 12)))
    x, y, r = dice.uniform(-8, 8), dice.uniform(-8, 8), dice.uniform(16, 23)
    u, v = X - x, Y - y
    masks = (
        lambda: disc(u, v, r),
        lambda: box(u, v, r * 1.2, r * 0.6),
        lambda: np.maximum(disc(u - r * 0.62, v, r * 0.6), disc(u + r * 0.62, v, r * 0.6)),
        lambda: box(u, v, r * 0.5, r * 1.25),
    )
    return finish(dice, paint(picture, masks[outline](), coat))


DTD = ("blotchy", "cracked", "honeycombed", "marbled", "scaly", "spiralled", "woven", "zigzagged")


def dtd(dice: Dice, kind: int) -> Pictures:
    """A whole picture of one texture: any size, angle and pair of colours."""
    field = FAMILIES[DTD[kind]](dice, dice.uniform(7, 14))
    dark, light = two_colours(dice, 0.22)
    return finish(dice, haze(dice, mix(dark, light, field), 0.6))


def petals(dice: Dice, count: int, length: float, width: float, core: float, hue: float, spread: float) -> Pictures:
    """A flower head: separate ellipses about a core, on foliage."""
    leaf = hsv(dice.uniform(0.1, 0.55), dice.uniform(0.2, 0.7), dice.uniform(0.2, 0.7))
    picture = mix(leaf, leaf * 0.5, dice.noise(6, octaves=2))
    x, y, r = dice.uniform(-10, 10), dice.uniform(-10, 10), dice.uniform(0.65, 1.1)
    turn, tone = dice.uniform(0, TAU), dice.uniform(hue - spread, hue + spread)
    petal = hsv(tone, dice.uniform(0.35, 0.85), dice.uniform(0.7, 1.0))
    for i in range(count):
        angle = turn + TAU * i / count
        reach = (core + length * 0.8) * r
        u, v = spin(angle, x + reach * np.cos(angle), y + reach * np.sin(angle))
        picture = paint(picture, ellipse(u, v, length * r, width * r), petal * (0.86 if i % 2 else 1.0))
    eye = hsv(dice.uniform(0.08, 0.16), dice.uniform(0.6, 1), dice.uniform(0.3, 0.95))
    return finish(dice, clutter(dice, paint(picture, disc(X - x, Y - y, core * r), eye), 4))


SPREAD = 0.2  # of hues within a kind of flower, so that colour alone tells little
FLOWERS = (  # petals, length, width, core, middle hue
    (4, 11, 9, 4, 0.92), (4, 13, 5, 4, 0.80), (5, 9, 6, 9, 0.10), (6, 12, 4, 3, 0.92),
    (8, 6, 4, 12, 0.10), (9, 11, 3, 6, 0.80), (12, 9, 2.4, 10, 0.95), (6, 7, 6, 4, 0.70),
)  # fmt: skip


def flowers(dice: Dice, kind: int) -> Pictures:
    """Class = number and proportions of petals, core size, a range of hues shared with other classes."""
    count, length, width, core, hue = FLOWERS[kind]
    return petals(dice, count, length, width, core, hue, SPREAD)


PETS = (  # ears: 0 pointed, 1 hanging; ear size; coat; middle hue
    (0, 1.0, "plain", 0.07), (0, 1.5, "zigzagged", 0.07), (0, 1.0, "blotchy", 0.60), (0, 1.5, "plain", 0.60),
    (1, 1.0, "plain", 0.07), (1, 1.5, "blotchy", 0.07), (1, 1.0, "zigzagged", 0.60), (1, 1.5, "plain", 0.60),
)  # fmt: skip


def face(dice: Dice, ears: int, ear: float, coat: str, hue: float, spread: float, long: float = 1.0) -> Pictures:
    """An animal's face: ears, head with a coat, eyes, muzzle."""
    picture = backdrop(dice, 0.35, 0.85)
    fur = hsv(dice.uniform(hue - spread, hue + spread), dice.uniform(0.25, 0.7), dice.uniform(0.45, 0.85))
    mark = fur * dice.uniform(0.3, 0.5)[..., None]
    x, y, r = dice.uniform(-8, 8), dice.uniform(-4, 9), dice.uniform(13, 19)
    tilt = dice.uniform(-0.2, 0.2)
    u, v = spin(tilt, x, y)
    for side in (-1, 1):
        if ears == 0:
            ear_mask = triangle(u - side * r * 0.62, v + r * 0.5, r * 0.34 * ear, r * 0.85 * ear)
        else:
            ear_mask = ellipse(u - side * r * 1.02, v - r * 0.25 * ear, r * 0.3 * ear, r * 0.7 * ear)
        picture = paint(picture, ear_mask, mark)
    skin = fur if coat == "plain" else mix(mark, fur, FAMILIES[coat](dice, 9.0))
    picture = paint(picture, ellipse(u, v, r * 0.95, r * long), skin + 0 * picture)
    for side in (-1, 1):
        picture = paint(picture, disc(u - side * r * 0.4, v + r * 0.15, r * 0.16), hsv(0.15, 0.1, 0.05) + 0 * fur)
    picture = paint(picture, ellipse(u, v - r * 0.45, r * 0.4, r * 0.3), hsv(0.1, 0.15, dice.uniform(0.75, 0.95)))
    return finish(dice, paint(picture, disc(u, v - r * 0.38, r * 0.12), hsv(0.0, 0.2, 0.1) + 0 * fur))


def pets(dice: Dice, kind: int) -> Pictures:
    ears, ear, coat, hue = PETS[kind]
    return face(dice, ears, ear, coat, hue, 0.22)


GLYPHS = (
    "01110100011000110001100011000101110",
    "00100011000010000100001000010001110",
    "01110100010000100110010001000011111",
    "11110000010000101110000010000111110",
    "00010001100101010010111110001000010",
    "11111100001111000001000011000101110",
    "01110100001000011110100011000101110",
    "11111000010001000100010000100001000",
    "01110100011000101110100011000101110",
    "01110100011000101111000010000101110",
)  # five columns by seven rows, read row by row


def svhn(dice: Dice, kind: int) -> Pictures:
    """One large digit without neighbours, turned and faint at times, on a cluttered wall."""
    glyph = np.array([int(dot) for dot in GLYPHS[kind]], dtype=np.float32).reshape(7, 5)
    wall, ink = two_colours(dice, 0.2)
    picture = mix(wall, wall * 0.7, dice.noise(3, octaves=2))
    pitch = dice.uniform(4.4, 7.4)
    u, v = spin(dice.uniform(-0.5, 0.5), dice.uniform(-9, 9), dice.uniform(-8, 8))
    wide = pitch * dice.uniform(0.95, 1.25)
    body = np.zeros((dice.n, *X.shape), dtype=np.float32)
    for row in range(7):
        for column in range(5):
            if glyph[row, column]:
                body = np.maximum(body, box(u - (column - 2) * wide, v - (row - 3) * pitch, wide * 0.56, pitch * 0.56))
    return finish(dice, clutter(dice, paint(picture, body, ink), 6))


def sun(dice: Dice, kind: int) -> Pictures:
    """Layered scenes told by their layout: where the horizon is, what stands on it."""
    hue = dice.uniform()
    sky = hsv(hue, dice.uniform(0.1, 0.5), dice.uniform(0.55, 0.95))
    soil = hsv(hue + dice.uniform(0.2, 0.8), dice.uniform(0.2, 0.6), dice.uniform(0.2, 0.6))
    thing = hsv(dice.uniform(), dice.uniform(0.2, 0.7), dice.uniform(0.15, 0.85))
    horizon = dice.uniform(-11, 11)
    level = horizon + 6 * (dice.noise(4) - 0.5)
    flat = fill(horizon - Y)
    picture = mix(sky, sky * 0.8, dice.noise(3)) + np.zeros((dice.n, *X.shape, 1), np.float32)
    if kind == 0:  # hills
        ridge = horizon - 14 * (dice.noise(5) - 0.3)
        picture = paint(paint(picture, fill(ridge - Y), thing), fill(level + 10 - Y), soil)
    elif kind == 1:  # arcade
        pitch = dice.uniform(16, 21)
        along = (X + dice.uniform(0, 21)) % pitch - pitch / 2
        gate = np.maximum(disc(along, Y - horizon + 4, pitch * 0.3), box(along, Y - horizon - 8, pitch * 0.3, 12))
        front = paint(thing + np.zeros_like(picture), gate, thing * 0.25)
        picture = paint(paint(picture, fill(horizon - 18 - Y), front), fill(horizon + 16 - Y), soil)
    elif kind == 2:  # street front, windows in staggered rows
        pitch = dice.uniform(9, 13)
        storey = np.floor((Y + 32) / pitch)
        window = box((X + 32 + storey * pitch / 2) % pitch - pitch / 2, (Y + 32) % pitch - pitch / 2,
                     pitch * 0.24, pitch * 0.3)  # fmt: skip
        front = paint(thing + np.zeros_like(picture), window, thing * 0.3)
        picture = paint(paint(picture, fill(horizon - 18 - Y), front), fill(horizon + 20 - Y), soil)
    elif kind == 3:  # sea
        rows = np.sin(TAU * (np.abs(Y - horizon) + 0.5) ** 0.7 / 2 + 3 * dice.noise(6)) * 0.5 + 0.5
        picture = paint(picture, flat, mix(soil, soil * 1.6, rows))
    elif kind == 4:  # tree
        x = dice.uniform(-12, 12)
        crown = fill(np.hypot(X - x, Y - horizon + 12) - 15 + 12 * (dice.noise(8) - 0.5))
        picture = paint(paint(picture, flat, soil), box(X - x, Y - horizon - 4, 2.5, 12), thing * 0.4)
        picture = paint(picture, crown, thing)
    elif kind == 5:  # room: back wall, converging floor and ceiling
        wall = box(X - dice.uniform(-6, 6), Y - dice.uniform(-4, 4), dice.uniform(12, 18), dice.uniform(10, 15))
        steep = fill(np.abs(X) * 0.75 - np.abs(Y))
        picture = paint(paint(sky * 0.75 + np.zeros_like(picture), steep, soil), wall, thing)
    elif kind == 6:  # stairs
        tread = dice.uniform(8, 11)
        step = np.floor((X + 32) / tread) * tread * 0.75
        picture = paint(picture, fill(-(Y - 26 + step)), soil)
        picture = paint(picture, fill(np.abs(Y - 26 + step) - 1.6), thing)
    else:  # dome
        x = dice.uniform(-9, 9)
        roof = disc(X - x, Y - horizon, dice.uniform(15, 21)) * fill(Y - horizon)
        picture = paint(paint(picture, roof, thing), flat, soil)
    return finish(dice, haze(dice, clutter(dice, picture, 8, 4.0), 0.7))


def _scattered(kinds: int, classes: int, start: int) -> tuple[int, ...]:
    """Labels spread over the official range."""
    return tuple(sorted((start + kind * classes // kinds) % classes for kind in range(kinds)))


TASKS = {
    "caltech101": Task(_scattered(8, 102, 5), caltech),
    "cifar100": Task(_scattered(10, 100, 3), cifar),
    "dtd": Task((1, 7, 18, 23, 33, 35, 44, 46), dtd),
    "oxford_flowers102": Task((76, 12, 99, 30, 53, 88, 4, 61), flowers),
    "oxford_iiit_pet": Task((0, 5, 9, 11, 13, 20, 27, 33), pets),
    "svhn": Task(tuple(range(10)), svhn),
    "sun397": Task(_scattered(8, 397, 11), sun),
}
