"""Stand-ins of the few-shot, shift and DomainNet suites: whole folders that many cards share.

Classes and pictures come from the tasks of the demo; a shift is the same classes under other conditions: outlines for
Sketch, clutter for A, few tones for R, small corruptions for C.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..fewshot import SEEDS, SHOTS, list_name
from ..imagenet import wnids
from ..shift import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES, V2_FOLDERS
from .canvas import Dice, X, Y, box, clutter, disc, finish, hsv, mix, paint, seed_of, spin
from .finegrained import TASKS as FINE
from .natural import TASKS as NATURAL
from .natural import backdrop
from .task import Task

Pictures = NDArray[np.uint8]
Save = Callable[[Path, Pictures], None]
POOL, VAL, TEST = 24, 4, 12  # images of each class: from which shots are drawn, val, test
SHIFTED = 10  # images of each class in a shifted test set
CORRUPTED = 1
SMALL = 48  # side of the pictures under shift and of DomainNet's: all raw forms together stay below 15 MB
QUALITY = 75
SHARE = (1, 5, 10, 20, 50, 100)


def draw(folder: str, split: str, task: Task, count: int, seed: int) -> list[tuple[Pictures, int, int]]:
    """(picture, label, number within the class), class by class."""
    found = []
    for kind, label in enumerate(task.labels):
        dice = Dice([seed_of(folder, split, kind * 1000 + i, seed) for i in range(count)])
        found += [(picture, label, i) for i, picture in enumerate(task.draw(dice, kind))]
    return found


def aircraft(dice: Dice, kind: int) -> Pictures:
    """A fuselage from the side: its length, its engines, its tail; a strip of text lies below."""
    length, engines, tall = (16, 20, 24, 27)[kind % 4], 1 + kind % 2, 6 + 5 * (kind // 4)
    picture = backdrop(dice, 0.5, 0.9)
    paintwork = hsv(dice.uniform(), dice.uniform(0.1, 0.6), dice.uniform(0.6, 1))
    u, v = spin(dice.uniform(-0.2, 0.2), dice.uniform(-4, 4), dice.uniform(-8, 4))
    picture = paint(picture, box(u, v, length, 4.5), paintwork)
    picture = paint(picture, box(u + length - 3, v + 4 + tall / 2, 3.5, tall / 2 + 2), paintwork * 0.7)
    for engine in range(engines):
        picture = paint(picture, disc(u - 8 * engine + 2, v - 6, 3), paintwork * 0.35)
    for window in range(int(length) // 3):
        picture = paint(picture, disc(u - 6 * window + length - 8, v + 1, 1.1), hsv(0.6, 0.3, 0.1) + 0 * paintwork)
    strip = (Y > 25) * ((X * 0.7).astype(int) % 3 > 0) * (np.abs(Y - 28) < 2)
    return finish(dice, paint(paint(picture, np.broadcast_to(Y > 24, strip.shape) * 1.0, hsv(0, 0, 0.95)), strip * 1.0,
                              hsv(0, 0, 0.2)))  # fmt: skip


def food(dice: Dice, kind: int) -> Pictures:
    """A plate with a texture of food and a few toppings."""
    picture = backdrop(dice, 0.2, 0.5)
    x, y, r = dice.uniform(-4, 4), dice.uniform(-4, 4), dice.uniform(22, 27)
    picture = paint(picture, disc(X - x, Y - y, r), hsv(0.1, 0.05, 0.95))
    dish = NATURAL["dtd"].draw(dice, kind).astype(np.float32) / 255
    picture = paint(
        picture, disc(X - x, Y - y, r * 0.75), mix(dish, dish * hsv(0.08, 0.6, 1.0), np.float32(0.7) + 0 * X)
    )
    return finish(dice, clutter(dice, picture, 3))


FEWSHOT: dict[str, tuple[Task, str]] = {  # folder -> classes, how a list names an image of a split
    "food101": (Task((0, 12, 25, 38, 50, 63, 76, 100), food), "class {label}/{split}_{number}.jpg"),
    "stanford-cars": (FINE["stanford_cars"], "cars_{half}/{label:03d}{number:03d}.jpg"),
    "oxford-flowers102": (NATURAL["oxford_flowers102"], "image_{label:02d}{part}{number:02d}.jpg"),
    "fgvc-aircraft": (Task((0, 13, 27, 40, 54, 67, 81, 99), aircraft), "{part}{label:03d}{number:03d}.jpg"),
    "oxford-pets": (NATURAL["oxford_iiit_pet"], "Breed_{label}_{part}{number:02d}.jpg"),
}


def fewshot(folder: str, base: Path, seed: int, save: Save) -> None:
    """NOAH's lists; shots of different sizes are drawn anew, the 1-shot lists of Pets are doubled as the real ones."""
    task, pattern = FEWSHOT[folder]
    listed: dict[str, dict[int, list[str]]] = {}
    for part, (split, count) in enumerate((("train", POOL), ("val", VAL), ("test", TEST))):
        listed[split] = {label: [] for label in task.labels}
        for picture, label, number in draw(folder, split, task, count, seed):
            half = "test" if split == "test" else "train"
            name = pattern.format(label=label, number=number + 40 * part, split=split, part=part + 1, half=half)
            listed[split][label].append(name)
            save(base / "images" / name, picture)
    (base / "annotations").mkdir()
    for split in ("val", "test"):
        write_list(base / "annotations" / list_name(split, 0, 0), listed[split])
    for shots in SHOTS:
        for lists in SEEDS:
            dice = np.random.Generator(np.random.PCG64(seed_of(folder, f"shots {shots}", lists, seed)))
            chosen = {
                label: [names[i] for i in dice.permutation(POOL)[:shots]] for label, names in listed["train"].items()
            }
            if folder == "oxford-pets" and shots == 1:
                chosen = {label: names * 2 for label, names in chosen.items()}
            write_list(base / "annotations" / list_name("train", shots, lists), chosen)


def write_list(file: Path, names: dict[int, list[str]]) -> None:
    """`path label`, class by class."""
    file.write_text("".join(f"{name} {label}\n" for label, found in names.items() for name in found), newline="\n")


OBJECTS = FINE["imagenet1k"]


def outlined(pictures: Pictures) -> Pictures:
    """Dark strokes on white where brightness changes."""
    grey = pictures.astype(np.float32).mean(-1)
    edges = np.abs(np.gradient(grey, axis=1)) + np.abs(np.gradient(grey, axis=2))
    return np.repeat(np.clip(255 - 6 * np.maximum(edges - 12, 0), 0, 255)[..., None], 3, -1).astype(np.uint8)


def posterised(pictures: Pictures) -> Pictures:
    """Four tones a channel."""
    return (pictures // 64 * 85).astype(np.uint8)


def occluded(pictures: Pictures, dice: Dice) -> Pictures:
    """Clutter in front, and the whole smaller in the frame."""
    small = np.full_like(pictures, 120)
    small[:, 12:52, 12:52] = pictures[:, ::1, ::1][:, 4:60:1, 4:60:1][:, :40, :40]
    return (clutter(dice, small.astype(np.float32) / 255, 12, 5.0) * 255).astype(np.uint8)


def corrupted(pictures: Pictures, name: str, level: int) -> Pictures:
    """A small stand-in for each family: noise, blur, weather, digital; stronger with the level."""
    x = pictures.astype(np.float32) / 255
    rng = np.random.Generator(np.random.PCG64(seed_of("imagenet-c", name, level)))
    strength = level / 5
    if "noise" in name or name == "spatter":
        x = x + strength * 0.5 * (rng.random(x.shape, dtype=np.float32) - 0.5)
    elif "blur" in name or name in ("pixelate", "elastic_transform"):
        for axis in (1, 2)[: 1 if name == "motion_blur" else 2]:
            x = np.mean([np.roll(x, shift, axis) for shift in range(-level, level + 1)], axis=0)
    elif name in ("snow", "frost", "fog", "brightness"):
        x = x + strength * 0.6 * (1 - x)
    else:
        x = 0.5 + (x - 0.5) * (1 - 0.8 * strength)
    return np.clip(x * 255, 0, 255).astype(np.uint8)


def shift(folder: str, base: Path, seed: int) -> None:
    """The classes of the ImageNet stand-in under other conditions, in each set's own folders."""
    if folder == "imagenet-c":
        found = draw(folder, "test", OBJECTS, CORRUPTED, seed)
        pictures = np.stack([picture for picture, _, _ in found])
        for name in (*CORRUPTIONS, *EXTRA_CORRUPTIONS):
            for level in SEVERITIES:
                for picture, (_, label, i) in zip(corrupted(pictures, name, level), found, strict=True):
                    file = f"{name}/{level}/{wnids()[label]}/ILSVRC2012_val_{label * 50 + i + 1:08d}.JPEG"
                    small(base / file, picture)
        return
    for kind, label in enumerate(OBJECTS.labels):
        dice = Dice([seed_of(folder, "test", kind * 1000 + i, seed) for i in range(SHIFTED)])
        pictures = OBJECTS.draw(dice, kind)
        inner, name = wnids()[label], "{i}.jpg"
        if folder == V2_FOLDERS[0]:
            inner, name = str(label), "{i:040x}.jpeg"
        elif folder == "imagenet-sketch":
            pictures, inner, name = outlined(pictures), f"sketch/{inner}", "sketch_{i}.JPEG"
        elif folder == "imagenet-a":
            pictures, name = occluded(pictures, dice), "0.{i}_some thing_0.9.jpg"
        elif folder == "imagenet-r":
            pictures, name = posterised(pictures), "art_{i}.jpg"
        for i, picture in enumerate(pictures):
            small(base / inner / name.format(i=i), picture)


def small(file: Path, picture: Pictures) -> None:
    """A picture of a shifted set, PNG where the name says so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture).resize((SMALL, SMALL), Image.Resampling.BOX)
    if file.suffix == ".png":
        image.quantize(4).save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=QUALITY)


def domainnet(folder: str, base: Path, seed: int) -> None:
    """Eight classes in six renderings, the official lists, and TPGM's lists of a share of Real."""
    task = Task((1, 44, 87, 130, 173, 216, 259, 302), OBJECTS.draw)
    render: dict[str, Callable[[Pictures], Pictures]] = {
        "real": lambda x: x, "painting": lambda x: corrupted(x, "motion_blur", 2), "clipart": posterised,
        "infograph": lambda x: np.maximum(x // 2, posterised(x)), "sketch": outlined,
        "quickdraw": lambda x: (outlined(x) > 200).astype(np.uint8) * 255,
    }  # fmt: skip
    for domain, change in render.items():
        rows: dict[str, dict[int, list[str]]] = {
            part: {label: [] for label in task.labels} for part in ("train", "test")
        }
        for picture, label, i in draw(folder, domain, task, POOL if domain == "real" else 12, seed):
            part = "test" if i % 3 == 2 else "train"
            ending = "png" if domain == "quickdraw" else "jpg"
            name = f"{domain}/class_{label}/{domain}_{label:03d}_{i:06d}.{ending}"
            rows[part][label].append(name)
            small(base / name, change(picture[None])[0])
        for part, names in rows.items():
            write_list(base / f"{domain}_{part}.txt", names)
        if domain == "real":
            for share in SHARE:
                kept = {label: names[3 : 3 + max(1, 13 * share // 100)] for label, names in rows["train"].items()}
                write_list(base / f"real_train_{share}_percent_split.txt", kept)
                held = {label: names[:3] for label, names in rows["train"].items()}
                write_list(base / f"real_val_{share}_percent_split.txt", held)


def write_folder(group: str, folder: str, base: Path, seed: int, save: Save) -> None:
    """Lay out the folder that the cards of a suite share."""
    if group == "fewshot":
        fewshot(folder, base, seed, save)
    elif folder == "domainnet":
        domainnet(folder, base, seed)
    else:
        shift(folder, base, seed)
