"""A drawing kit for batches of miniature pictures: random numbers per image, soft-edged shapes, colours, noise.

Scalars that differ between images have the shape (N, 1, 1) and broadcast against the pixel grid X, Y of shape
(SIDE, SIDE), whose origin is the centre and whose unit is a pixel. A mask is (N, SIDE, SIDE) in [0, 1], a colour is
(N, 1, 1, 3), a picture (N, SIDE, SIDE, 3) in [0, 1]. Each image draws from its own generator, so a picture depends on
neither its neighbours nor the size of the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

SIDE = 64
_axis = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
X, Y = np.meshgrid(_axis, _axis)
DRAWS = 2048  # random numbers that one image may use, pixel grain apart
TAU = float(2 * np.pi)


def seed_of(key: str, split: str, index: int, seed: int = 0) -> int:
    """The seed of one image: the first 8 bytes of SHA-256 over its place."""
    text = f"{key}|{split}|{index}" + (f"|{seed}" if seed else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Dice:
    """The random numbers of N images, handed out in the order in which they are asked for."""

    def __init__(self, seeds: Sequence[int]):
        self.n = len(seeds)
        generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self._draws = np.stack([generator.random(DRAWS, dtype=np.float32) for generator in generators])
        self._grain = np.stack([generator.random((SIDE, SIDE), dtype=np.float32) for generator in generators])
        self._next = 0

    def block(self, count: int) -> Array:
        """(N, count) uniform numbers in [0, 1)."""
        assert self._next + count <= DRAWS, "an image asks for more random numbers than DRAWS"
        self._next += count
        return self._draws[:, self._next - count : self._next]

    def uniform(self, low: float | Array = 0.0, high: float | Array = 1.0) -> Array:
        """(N, 1, 1) in [low, high)."""
        return (low + (high - low) * self.block(1)[:, :, None]).astype(np.float32)

    def sign(self) -> Array:
        """(N, 1, 1) of -1 or 1."""
        return np.where(self.uniform() < 0.5, np.float32(-1), np.float32(1))

    def pick(self, values: Sequence[float]) -> Array:
        """(N, 1, 1), each one of the values."""
        index = np.minimum((self.uniform() * len(values)).astype(int), len(values) - 1)
        return np.asarray(values, dtype=np.float32)[index]

    def noise(self, cells: int, octaves: int = 1) -> Array:
        """Value noise in [0, 1]: a random grid of cells x cells, smoothly enlarged, with finer grids at half weight."""
        total = np.zeros((self.n, SIDE, SIDE), dtype=np.float32)
        weight, weights = 1.0, 0.0
        for _ in range(octaves):
            grid = self.block((cells + 1) ** 2).reshape(self.n, cells + 1, cells + 1)
            rows = enlarge(cells)
            total += (weight * (rows @ grid @ rows.T)).astype(np.float32)
            weights += weight
            cells, weight = cells * 2, weight / 2
        return total / weights

    def grain(self, strength: float | Array) -> Array:
        """(N, SIDE, SIDE, 1) zero-mean noise, one number a pixel."""
        return ((self._grain - 0.5) * 2 * strength)[..., None]


_enlarge: dict[int, Array] = {}


def enlarge(cells: int) -> Array:
    """(SIDE, cells + 1): the weights that spread a row of grid values over SIDE pixels with smooth steps."""
    if cells not in _enlarge:
        place = np.linspace(0, cells, SIDE, endpoint=False, dtype=np.float32)
        left = place.astype(int)
        share = smooth(place - left)
        weights = np.zeros((SIDE, cells + 1), dtype=np.float32)
        weights[np.arange(SIDE), left] = 1 - share
        weights[np.arange(SIDE), left + 1] += share
        _enlarge[cells] = weights
    return _enlarge[cells]


def smooth(value: Array) -> Array:
    """The cubic step from 0 to 1."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def stretch(field: Array) -> Array:
    """Each picture's field to the range [0, 1]."""
    low, high = field.min((1, 2), keepdims=True), field.max((1, 2), keepdims=True)
    return (field - low) / np.maximum(high - low, 1e-6)


def spin(angle: Array | float, x: Array | float = 0.0, y: Array | float = 0.0) -> tuple[Array, Array]:
    """The pixel grid in a frame at (x, y), turned by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (X - x) * cos + (Y - y) * sin, (Y - y) * cos - (X - x) * sin


def fill(distance: Array, softness: float | Array = 1.0) -> Array:
    """Signed distance (negative inside, in pixels) to coverage with an edge of about one pixel."""
    return np.clip(0.5 - distance / softness, 0, 1)


def disc(u: Array, v: Array, radius: Array | float) -> Array:
    return fill(np.hypot(u, v) - radius)


def ellipse(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """An ellipse of half axes a and b; the distance is approximate away from the edge."""
    scaled = np.hypot(u / a, v / b)
    return fill((scaled - 1) * np.minimum(a, b))


def box(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """A rectangle of half sides a and b."""
    return fill(np.maximum(np.abs(u) - a, np.abs(v) - b))


def band(distance: Array, half: Array | float) -> Array:
    """A stroke of the given half width along the zero line of a distance."""
    return fill(np.abs(distance) - half)


def triangle(u: Array, v: Array, half: Array | float, height: Array | float) -> Array:
    """A triangle with its base of 2 x half on v = 0 and its tip at v = -height."""
    slope = np.abs(u) * height - (v + height) * half
    return fill(np.maximum(slope / np.hypot(half, height), v))


def stroke(u0: Array, v0: Array, u1: Array, v1: Array, half: Array | float) -> Array:
    """A line with round ends from (u0, v0) to (u1, v1) in pixel coordinates."""
    du, dv = u1 - u0, v1 - v0
    along = np.clip(((X - u0) * du + (Y - v0) * dv) / np.maximum(du * du + dv * dv, 1e-6), 0, 1)
    return fill(np.hypot(X - u0 - along * du, Y - v0 - along * dv) - half)


def hsv(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """(N, 1, 1, 3) from hue, saturation and value in [0, 1]; hue wraps around."""
    hue, saturation, value = np.broadcast_arrays(
        np.asarray(hue, np.float32), np.asarray(saturation, np.float32), np.asarray(value, np.float32)
    )
    channels = [np.clip(np.abs((hue * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0.0, 4.0, 2.0)]
    pure = np.stack(channels, axis=-1)
    return (value[..., None] * (1 - saturation[..., None] * (1 - pure))).astype(np.float32)


def mix(a: Array, b: Array, share: Array) -> Array:
    """Two colours (or pictures) blended by a field."""
    return a + (b - a) * share[..., None]


def paint(picture: Array, mask: Array, colour: Array) -> Array:
    """The picture with a colour (or another picture) laid over it."""
    return picture + (colour - picture) * mask[..., None]


def shade(picture: Array, field: Array) -> Array:
    """The picture with its brightness multiplied by a field."""
    return picture * field[..., None]


def haze(dice: Dice, picture: Array, most: float) -> Array:
    """A pale veil of uneven thickness, up to `most`, as cloud or breath on the lens."""
    veil = hsv(dice.uniform(), 0.1, dice.uniform(0.4, 0.95))
    return paint(picture, most * dice.uniform(0.3, 1) * smooth(dice.noise(3, octaves=2) * 2 - 0.5), veil)


def clutter(dice: Dice, picture: Array, count: int, size: float = 3.0) -> Array:
    """Small bars of any colour and turn, thrown over the picture: they say nothing about its class."""
    for _ in range(count):
        u, v = spin(dice.uniform(0, TAU), dice.uniform(-32, 32), dice.uniform(-32, 32))
        colour = hsv(dice.uniform(), dice.uniform(0.1, 0.8), dice.uniform(0.1, 0.9))
        picture = paint(picture, box(u, v, size * dice.uniform(0.6, 2), size * dice.uniform(0.3, 0.7)), colour)
    return picture


def finish(dice: Dice, picture: Array, light: float = 0.35, grain: float = 0.08) -> NDArray[np.uint8]:
    """A light that falls off to one side, a shift of exposure, pixel noise; then 8 bits."""
    angle = dice.uniform(0, TAU)
    slope = (X * np.cos(angle) + Y * np.sin(angle)) / SIDE
    lit = shade(picture, 1 + light * dice.uniform(-1, 1) * 0.5 + light * dice.uniform(0, 1) * slope)
    return np.clip((lit + dice.grain(grain)) * 255 + 0.5, 0, 255).astype(np.uint8)
