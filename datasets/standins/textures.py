"""Texture families of the stand-ins: functions (dice, size) -> field in [0, 1].

None belongs to the vocabulary on which the embedded backbone is pre-trained (gratings, plaid, checker, dots, gradients
and plain noise); a test compares the names. `size` is the length in pixels of one element: stripe, cell, scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import SIDE, TAU, Array, Dice, X, Y, smooth, spin, stretch

Size = Array | float


def wave(phase: Array, hardness: float = 3.0) -> Array:
    """A rounded square wave of the phase (in turns)."""
    return 0.5 + 0.5 * np.tanh(hardness * np.sin(TAU * phase)) / np.tanh(hardness)


def _tri(phase: Array) -> Array:
    return np.abs((phase % 1) * 2 - 1)


def _frame(dice: Dice, turn: float = TAU) -> tuple[Array, Array]:
    """Turned and shifted coordinates."""
    return spin(dice.uniform(0, turn), dice.uniform(-20, 20), dice.uniform(-20, 20))


def zigzagged(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    return wave((v + size * 0.9 * _tri(u / (size * 2.2))) / size)


def spiralled(dice: Dice, size: Size) -> Array:
    u, v = spin(dice.uniform(0, TAU), dice.uniform(-10, 10), dice.uniform(-10, 10))
    return wave(np.hypot(u, v) / size + dice.sign() * np.arctan2(v, u) / TAU)


def marbled(dice: Dice, size: Size) -> Array:
    u, _ = _frame(dice)
    warp = dice.noise(4, octaves=3)
    return 1 - np.abs(np.sin(np.pi * (u / (size * 2) + 3.2 * warp))) ** 0.6


def woven(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    over = (np.floor(u / size) + np.floor(v / size)) % 2
    across, along = np.sin(np.pi * ((u / size) % 1)), np.sin(np.pi * ((v / size) % 1))
    return np.where(over > 0, 0.25 + 0.75 * across, 0.25 + 0.75 * along) * np.where(over > 0, 1, 0.75)


ROWS = 9  # of scattered points a side; with elements of 8 pixels or more they cover the picture


def _cells(dice: Dice, size: Size) -> tuple[Array, Array, Array]:
    """Distances to the nearest and second nearest of scattered points, and the nearest point's own random value."""
    spots = dice.block(3 * ROWS * ROWS).reshape(dice.n, ROWS * ROWS, 3, 1, 1)
    first = np.full((dice.n, SIDE, SIDE), 1e9, dtype=np.float32)
    second, owner = first.copy(), np.zeros_like(first)
    step = np.maximum(size, 8)
    for i in range(ROWS * ROWS):
        px = (i % ROWS + spots[:, i, 0] - ROWS / 2) * step
        py = (i // ROWS + spots[:, i, 1] - ROWS / 2) * step
        away = (X - px) ** 2 + (Y - py) ** 2
        nearer = away < first
        second = np.where(nearer, first, np.minimum(second, away))
        owner = np.where(nearer, spots[:, i, 2], owner)
        first = np.where(nearer, away, first)
    return np.sqrt(first), np.sqrt(second), owner


def cracked(dice: Dice, size: Size) -> Array:
    first, second, owner = _cells(dice, size)
    return smooth((second - first) / 2.6) * (0.8 + 0.2 * owner)


def pebbled(dice: Dice, size: Size) -> Array:
    first, second, owner = _cells(dice, size)
    return smooth((second - first) / 4) * (0.25 + 0.75 * owner)


def honeycombed(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    height = size * 3**0.5

    def hexagon(du: Size, dv: Size) -> Array:
        a = np.abs((u - du + size * 0.5) % size - size * 0.5)
        b = np.abs((v - dv + height * 0.5) % height - height * 0.5)
        return np.maximum(a, 0.5 * a + (3**0.5 / 2) * b)

    inner = np.minimum(hexagon(0.0, 0.0), hexagon(size / 2, height / 2))
    return smooth((size * 0.5 - inner) / 2.2)


def scaly(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    step = size * 0.55
    best = np.zeros((dice.n, SIDE, SIDE), dtype=np.float32)
    row = np.floor(v / step)
    for back in (0, 1):  # the row above hangs over this one
        shift = ((row - back) % 2) * size * 0.5
        du = (u - shift + size * 0.5) % size - size * 0.5
        dv = v - (row - back) * step
        away = np.hypot(du, dv) / (size * 0.56)
        bare = best == 0
        best = np.where(bare & (away < 1) if back == 0 else bare, 0.15 + 0.85 * np.clip(away, 0, 1), best)
    return best**2


def blotchy(dice: Dice, size: Size) -> Array:
    coarse, fine = dice.noise(5, octaves=2), dice.noise(9, octaves=2)
    field = stretch(np.where(np.asarray(size) < 10, fine, coarse))
    return smooth((field - 0.45) / 0.12)


def bricked(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice, turn=0.5)
    row = np.floor(v / size)
    along = (u + (row % 2) * size) % (size * 2)
    gap = np.minimum(np.minimum(along, size * 2 - along), np.minimum(v % size, size - v % size))
    stone = np.floor((u + (row % 2) * size) / size / 2)
    return smooth((gap - 0.3) / 1.6) * (0.75 + 0.25 * ((row * 0.37 + stone * 0.61) % 1))


def wavy(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    return wave((v + size * 0.8 * np.sin(TAU * u / (size * 3.2))) / size)


def dashed(dice: Dice, size: Size) -> Array:
    u, v = _frame(dice)
    row = np.floor(v / size)
    along = (u + row * size * 1.3) % (size * 2.6)
    return smooth((size * 1.5 - along) / 1.5 + 0.5) * smooth((0.28 * size - np.abs(v % size - size / 2)) / 1.2 + 0.5)


FAMILIES: dict[str, Callable[[Dice, Size], Array]] = {
    "zigzagged": zigzagged,
    "spiralled": spiralled,
    "marbled": marbled,
    "woven": woven,
    "cracked": cracked,
    "honeycombed": honeycombed,
    "scaly": scaly,
    "blotchy": blotchy,
    "pebbled": pebbled,
    "bricked": bricked,
    "wavy": wavy,
    "dashed": dashed,
}
TEXTURES = tuple(FAMILIES)
