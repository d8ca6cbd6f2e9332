"""Stand-ins of VTAB-1k's eight structured tasks: how many, how far, where, which way."""

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
    box,
    disc,
    ellipse,
    fill,
    finish,
    hsv,
    mix,
    paint,
    shade,
    smooth,
    spin,
    triangle,
)
from .task import Task

Pictures = NDArray[np.uint8]


def _table(dice: Dice) -> Array:
    """A grey ground that is lit from one side, as CLEVR's."""
    tone = hsv(dice.uniform(), dice.uniform(0, 0.12), dice.uniform(0.45, 0.7))
    return shade(tone + np.zeros((dice.n, SIDE, SIDE, 1), np.float32), 1.1 - 0.25 * (Y + 32) / SIDE)


def _solid(dice: Dice, picture: Array, x: Array, y: Array, r: Array) -> Array:
    """A ball, a box or a drum, chosen by chance, with its shadow and a light side."""
    tone = hsv(dice.uniform(), dice.uniform(0.5, 0.95), dice.uniform(0.35, 0.95))
    form = dice.uniform()
    u, v = X - x, Y - y
    body = np.where(
        form < 0.4, disc(u, v, r), np.where(form < 0.7, box(u, v, r * 0.88, r * 0.88), box(u, v, r * 0.75, r))
    )
    picture = paint(picture, 0.5 * ellipse(u - r * 0.4, v - r * 0.75, r * 1.1, r * 0.45), hsv(0.0, 0.0, 0.15))
    lit = shade(tone + np.zeros_like(picture), 1.1 - 0.5 * smooth(((u + v) / r + 1) / 2))
    return paint(picture, body, lit)


COUNTS = (3, 5, 7, 9)


def clevr_count(dice: Dice, kind: int) -> Pictures:
    """3, 5, 7 or 9 solids on a jittered grid, so that they seldom hide one another."""
    picture = _table(dice)
    count = COUNTS[kind]
    places = np.argsort(dice.block(9), axis=1)[:, :count]
    size = dice.uniform(5.0, 7.5)
    for i in range(count):
        cell = np.sort(places, axis=1)[:, i, None, None]  # top row first: nearer solids are painted later
        x = (cell % 3 - 1) * 18 + dice.uniform(-6, 6)
        y = (cell // 3 - 1) * 17 + dice.uniform(-6, 6)
        picture = _solid(dice, picture, x, y, size * dice.uniform(0.85, 1.15))
    return finish(dice, picture)


def plane(dice: Dice, near: Array, count: int) -> tuple[Array, Array]:
    """A picture of solids on a plane in perspective, and their depths (N, count, 1); the nearest lies at `near`."""
    picture = _table(dice)
    depths = np.concatenate([near + dice.uniform(1.2, 7) for _ in range(count - 1)] + [near], axis=1)
    order = np.argsort(-depths[:, :, 0], axis=1)
    spots = dice.block(count)
    for i in range(count):
        chosen = order[:, i, None]
        depth = np.take_along_axis(depths[:, :, 0], chosen, axis=1)[:, :, None]
        x = (np.take_along_axis(spots, chosen, axis=1)[:, :, None] - 0.5) * 400 / depth
        r = 105 / depth * dice.uniform(0.75, 1.25)
        picture = _solid(dice, picture, x, -34 + 440 / depth - r * 0.2, r)
    return picture, depths


def clevr_dist(dice: Dice, kind: int) -> Pictures:
    """Four solids; the depth of the nearest, hence its size and height, is the class."""
    return finish(dice, plane(dice, 7.0 + 1.15 * kind + dice.uniform(0, 0.8), 4)[0])


def dmlab(dice: Dice, kind: int) -> Pictures:
    """A corridor and one fruit: round and red or green (0-2), long and yellow or blue (3-5), near, far or very far."""
    wall = hsv(dice.uniform(), dice.uniform(0.15, 0.5), dice.uniform(0.4, 0.8))
    floor = hsv(dice.uniform(), dice.uniform(0.1, 0.4), dice.uniform(0.2, 0.5))
    x0, y0 = dice.uniform(-6, 6), dice.uniform(-4, 4)
    depth = np.maximum(np.abs(X - x0), np.abs(Y - y0) * 1.2) / 34
    steep = fill(np.abs(X - x0) - np.abs(Y - y0) * 1.2) * (y0 < Y)
    picture = paint(wall + np.zeros((dice.n, SIDE, SIDE, 1), np.float32), steep, floor)
    picture = shade(picture, 0.35 + 0.75 * np.clip(depth, 0, 1))
    distance, bad = kind % 3, kind >= 3
    r = (dice.uniform(10.5, 15), dice.uniform(7.5, 10), dice.uniform(4.5, 7))[distance]
    x, y = x0 + dice.uniform(-9, 9), y0 + r * 0.9 + dice.uniform(-1, 3)
    u, v = spin(dice.uniform(-0.4, 0.4), x, y)
    hue = dice.pick((0.16, 0.62)) if bad else dice.pick((0.0, 0.33))
    tone = hsv(hue + dice.uniform(-0.12, 0.12), dice.uniform(0.4, 0.95), dice.uniform(0.4, 0.95))
    body = ellipse(u, v, r * 1.25, r * 0.7) if bad else disc(u, v, r)
    return finish(
        dice, paint(picture, body, shade(tone + np.zeros_like(picture), 1.1 - 0.4 * smooth((u + v) / r / 2 + 0.5)))
    )


def _car(dice: Dice, picture: Array, x: Array, ground: Array, height: Array, mask: Array | float = 1.0) -> Array:
    """A car from behind, standing on `ground`."""
    tone = hsv(dice.uniform(), dice.uniform(0.2, 0.9), dice.uniform(0.3, 0.95))
    u, v = X - x, Y - (ground - height / 2)
    for part, colour in (
        (box(u, v + height * 0.22, height * 0.48, height * 0.3), tone * 0.75),
        (box(u, v + height * 0.22, height * 0.36, height * 0.17), hsv(0.55, 0.2, 0.2) + 0 * tone),
        (box(u, v - height * 0.18, height * 0.66, height * 0.3), tone),
        (box(np.abs(u) - height * 0.5, v - height * 0.15, height * 0.12, height * 0.09), hsv(0.0, 0.8, 0.9) + 0 * tone),
        (
            box(np.abs(u) - height * 0.45, v - height * 0.45, height * 0.13, height * 0.1),
            hsv(0.0, 0.0, 0.08) + 0 * tone,
        ),
    ):
        picture = paint(picture, part * mask, colour)
    return picture


def kitti(dice: Dice, kind: int) -> Pictures:
    """A road, a near (0), middling (1) or far (2) car or none (3); pedestrians by the side are decoys."""
    sky = hsv(dice.uniform(0.5, 0.65), dice.uniform(0.05, 0.3), dice.uniform(0.7, 0.95))
    verge = hsv(dice.uniform(0.15, 0.4), dice.uniform(0.2, 0.5), dice.uniform(0.3, 0.55))
    asphalt = hsv(dice.uniform(), dice.uniform(0, 0.08), dice.uniform(0.3, 0.5))
    horizon, x0 = dice.uniform(-10, -5), dice.uniform(-7, 7)
    down = np.maximum(Y - horizon, 0)
    picture = paint(
        sky + np.zeros((dice.n, SIDE, SIDE, 1), np.float32), fill(horizon - Y), mix(verge, verge * 0.8, dice.noise(5))
    )
    picture = paint(picture, fill(np.abs(X - x0) - 3 - down * 0.75) * fill(horizon - Y), asphalt)
    for _ in range(2):
        height, side = dice.uniform(8, 20), dice.sign()
        foot = horizon + height * 0.9
        u, v = X - x0 - side * (8 + height * 0.95), Y - foot + height / 2
        tone = hsv(dice.uniform(), 0.5, dice.uniform(0.2, 0.8))
        picture = paint(
            picture,
            np.maximum(
                box(u, v - height * 0.1, height * 0.13, height * 0.36), disc(u, v + height * 0.4, height * 0.12)
            ),
            tone,
        )
    if kind < 3:
        # The ranges touch, because cars differ in size: a few frames near an edge cannot be told, as on the road.
        height = (dice.uniform(16, 29), dice.uniform(10.5, 18), dice.uniform(6, 11.5))[kind]
        ground = horizon + height * 1.05
        picture = _car(dice, picture, x0 + dice.uniform(-0.45, 0.45) * height, ground, height)
    return finish(dice, picture)


def _heart(u: Array, v: Array, r: Array) -> Array:
    lobes = np.maximum(disc(u - r * 0.42, v + r * 0.3, r * 0.52), disc(u + r * 0.42, v + r * 0.3, r * 0.52))
    return np.maximum(lobes, triangle(u, -(v + r * 0.05), r * 0.86, r * 1.0))


def _sprite(dice: Dice, body: Array) -> Pictures:
    """White on black, as the original."""
    picture = np.repeat(body[..., None], 3, axis=-1)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


LOCATIONS = tuple(range(16))


def dsprites_loc(dice: Dice, kind: int) -> Pictures:
    """A square, ellipse or heart of any turn and size; only its x matters (two of 32 places a class)."""
    place = LOCATIONS[kind] * 2 + dice.pick((0, 1))
    x, y = (place / 31 - 0.5) * 44, dice.uniform(-22, 22)
    u, v = spin(dice.uniform(0, TAU), x, y)
    r, form = dice.uniform(5, 9), dice.uniform()
    body = np.where(
        form < 0.33, box(u, v, r * 0.8, r * 0.8), np.where(form < 0.66, ellipse(u, v, r, r * 0.6), _heart(u, v, r))
    )
    return _sprite(dice, body)


ORIENTATIONS = (0, 2, 4, 8, 10, 12)


def dsprites_ori(dice: Dice, kind: int) -> Pictures:
    """A heart or arrow somewhere about the centre; six of the sixteen bins of its direction."""
    angle = TAU * (ORIENTATIONS[kind] + dice.uniform(0, 1)) / 16
    u, v = spin(angle, dice.uniform(-11, 11), dice.uniform(-11, 11))
    r = dice.uniform(12, 20)
    arrow = np.maximum(triangle(u, v, r * 0.75, r), box(u, v - r * 0.4, r * 0.24, r * 0.5))
    return _sprite(dice, np.where(dice.uniform() < 0.5, _heart(u, v, r), arrow))


def _toy(dice: Dice, azimuth: Array, elevation: Array) -> Pictures:
    """A grey toy of four balls and a plate (body, nose, tail, mast) under a camera of that elevation."""
    ground = 0.55 + 0.25 * dice.uniform(-1, 1)
    picture = ground + 0.08 * dice.noise(3) + np.zeros((dice.n, SIDE, SIDE), np.float32)
    scale = dice.uniform(0.9, 1.15)
    lift, flat = np.cos(elevation), np.sin(elevation)
    x0, y0 = dice.uniform(-3, 3), dice.uniform(-2, 4)
    tone = dice.uniform(0.2, 0.45)
    nose, mast = dice.uniform(0.9, 1.2), dice.uniform(0.8, 1.2)
    shadow = ellipse(X - x0, Y - y0 - 2, 24 * scale, 24 * scale * flat)
    picture = picture * (1 - 0.45 * shadow)
    parts = (
        (0.0, 0.0, 6.0, 9.5, 1.0),
        (14 * nose, 0.0, 6.0, 6.0, 1.6),
        (-11.0, 0.0, 5.0, 4.5, 0.6),
        (-4.0, 0.0, 17 * mast, 4.0, 1.3),
    )
    heads = np.argsort(
        np.concatenate([0 * azimuth + part[0] * np.sin(azimuth) for part in parts], axis=1)[:, :, 0], axis=1
    )
    along, height, radius, light = (
        np.stack([np.broadcast_to(np.asarray(part[i], np.float32).reshape(-1), (dice.n,)) for part in parts], 1)
        for i in (0, 2, 3, 4)
    )
    for turn in range(len(parts)):  # the part that is farthest away first
        part = heads[:, turn, None]
        a, h, r, t = (np.take_along_axis(values, part, axis=1)[:, :, None] for values in (along, height, radius, light))
        x = x0 + scale * a * np.cos(azimuth)
        y = y0 + scale * (a * np.sin(azimuth) * flat - h * lift)
        u, v = X - x, Y - y
        body = disc(u, v, r * scale)
        picture = picture + (np.clip(tone * t * (1.15 - 0.35 * (u + v) / (r * scale) / 2), 0, 1) - picture) * body
    return finish(dice, np.repeat(picture[..., None], 3, axis=-1), light=0.2)


AZIMUTHS = (0, 3, 6, 9, 12, 15)
ELEVATIONS = (0, 2, 4, 6, 8)


def norb_azimuth(dice: Dice, kind: int) -> Pictures:
    """Six of the eighteen directions of the nose; the elevation varies."""
    azimuth = TAU * (AZIMUTHS[kind] + dice.uniform(-0.4, 0.4)) / 18
    return _toy(dice, azimuth, np.deg2rad(30 + 5 * dice.pick(range(9))))


def norb_elevation(dice: Dice, kind: int) -> Pictures:
    """Five of the nine elevations, 30 to 70 degrees: how round the shadow is, how short the mast; any direction."""
    return _toy(dice, dice.uniform(0, TAU), np.deg2rad(30 + 5 * (ELEVATIONS[kind] + dice.uniform(-0.4, 0.4))))


TASKS = {
    "clevr_count": Task(tuple(count - 3 for count in COUNTS), clevr_count),
    "clevr_dist": Task(tuple(range(6)), clevr_dist),
    "dmlab": Task(tuple(range(6)), dmlab),
    "kitti": Task(tuple(range(4)), kitti),
    "dsprites_loc": Task(LOCATIONS, dsprites_loc),
    "dsprites_ori": Task(ORIENTATIONS, dsprites_ori),
    "smallnorb_azi": Task(AZIMUTHS, norb_azimuth),
    "smallnorb_ele": Task(ELEVATIONS, norb_elevation),
}
