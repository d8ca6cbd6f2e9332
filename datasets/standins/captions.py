"""Stand-ins of pictures with captions: scenes of the small world of `phrases`, drawn, in Karpathy's form.

Every picture has its own scene, and five true sentences about it: one says all, four say some of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..karpathy import CAPTIONS
from .canvas import Array, Dice, X, Y, band, box, disc, ellipse, finish, hsv, paint, seed_of, triangle
from .phrases import FACTS, Chance, Scene, scene, sentence

HUES = (0.0, 0.08, 0.155, 0.36, 0.6, 0.77, 0.92, 0.06)  # of the words for them; brown is a dark orange
GROUNDS = ((0.0, 0.0, 0.15), (0.6, 0.05, 0.95), (0.12, 0.35, 0.85), (0.3, 0.5, 0.55), (0.6, 0.1, 0.7))  # hue, satur., v
CENTRES = ((-13, 0), (13, 0), (0, -13), (0, 13), (0, 0))  # left, right, top, bottom, middle
AROUND = ((0, 0), (13, 9), (-13, -9), (-11, 11), (11, -11))  # where the things of a scene lie around its centre
RADII = 4.5, 8.0  # small, large
SIZES = {"train": 128, "val": 32, "test": 200}
QUALITY = 95


def _form(of: Scene, x: float, y: float, radius: float) -> Array:
    """The mask of one thing: (1, SIDE, SIDE)."""
    u, v = X[None] - np.float32(x), Y[None] - np.float32(y)
    return (lambda: disc(u, v, radius), lambda: box(u, v, radius * 0.9, radius * 0.9),
            lambda: triangle(u, v - radius * 0.8, radius, radius * 1.8),
            lambda: band(np.hypot(u, v) - radius * 0.75, 1.6),
            lambda: ellipse(u, v, radius * 1.25, radius * 0.6))[of.form]()


def _filled(of: Scene, x: float, y: float, radius: float) -> Array:
    """The mask of one thing with what its fill leaves out: stripes, spots, the inside."""
    mask = _form(of, x, y, radius)
    steps = np.floor((X[None] + Y[None]) / 2.2), np.floor(X[None] / 2.5), np.floor(Y[None] / 2.5)
    left_out = (mask < 0, steps[0] % 2 == 0, (steps[1] % 2 == 0) & (steps[2] % 2 == 0),
                _form(of, x, y, radius * 0.6) > 0.5)[of.fill]
    return mask * np.where(left_out, np.float32(0.1), np.float32(1))


def draw(of: Scene, seed: int) -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3): the scene, a little of it left to chance."""
    dice = Dice([seed])
    radius = RADII[of.size] * float(dice.uniform(0.92, 1.08)[0, 0, 0])
    picture = hsv(*(np.full((1, 1, 1), part, np.float32) for part in GROUNDS[of.ground])) + 0 * X[None, ..., None]
    colour = hsv(HUES[of.hue], 0.85, 0.45 if of.hue == 7 else 0.9)
    spread = 0.75 if of.size else 0.6
    for dx, dy in AROUND[:of.number + 1]:
        x, y = (place + spread * shift + float(dice.uniform(-1, 1)[0, 0, 0])
                for place, shift in zip(CENTRES[of.place], (dx, dy), strict=True))
        picture = paint(picture, _filled(of, x, y, radius), colour)
    finished: NDArray[np.uint8] = finish(dice, picture, light=0.15, grain=0.04)[0]
    return finished


def captions(of: Scene, chance: Chance) -> list[str]:
    """Five sentences, each another."""
    told: list[str] = []
    while len(told) < CAPTIONS:
        said = FACTS if not told else chance.some(FACTS, 4)
        new = sentence(of, said, chance)
        if new not in told:
            told.append(new)
    return told


def scenes(key: str, seed: int) -> Iterator[tuple[str, int, Scene, Chance]]:
    """(split, number, scene, choices) of every picture; no scene comes twice."""
    seen: set[Scene] = set()
    for split, size in SIZES.items():
        for number in range(size):
            chance = Chance(key, split, number, seed)
            of = scene(chance)
            while of in seen:
                of = scene(chance)
            seen.add(of)
            yield split, number, of, chance


def write(base: Path, key: str, seed: int) -> None:
    """The list and its pictures; a quarter of COCO's training pictures are `restval`, one picture has six captions."""
    rows: list[dict[str, Any]] = []
    coco = key == "coco"
    for split, number, of, chance in scenes(key, seed):
        part = "restval" if coco and split == "train" and number % 4 == 3 else split
        imgid, folder = len(rows), ("train2014" if part == "train" else "val2014") if coco else "flickr30k-images"
        name = f"COCO_{folder}_{imgid:012d}.jpg" if coco else f"{1_000_000 + imgid}.jpg"
        (base / folder).mkdir(exist_ok=True)
        picture = Image.fromarray(draw(of, seed_of(key, split, number, seed)))
        picture.save(base / folder / name, "JPEG", quality=QUALITY, subsampling=0)
        told = captions(of, chance)
        told += ["a sixth caption , which nobody uses ."] if coco and imgid == 0 else []
        ids = [imgid * CAPTIONS + i + (coco and imgid > 0) for i in range(len(told))]
        sentences = [{"raw": text, "tokens": text.split()[:-1], "imgid": imgid, "sentid": sentid}
                     for text, sentid in zip(told, ids, strict=True)]
        row: dict[str, Any] = {"filename": name, "imgid": imgid, "split": part, "sentids": ids}
        rows.append(row | {"sentences": sentences} | ({"filepath": folder, "cocoid": imgid} if coco else {}))
    (base / f"dataset_{key}.json").write_text(json.dumps({"images": rows, "dataset": key}) + "\n")


WRITERS: dict[str, Callable[[Path, int], None]] = {  # folder -> its writer
    "flickr30k": lambda base, seed: write(base, "flickr30k", seed),
    "coco": lambda base, seed: write(base, "coco", seed)}
