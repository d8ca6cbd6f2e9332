"""ELPV: 2,624 photographs of solar cells by electroluminescence, defective or not, from a package.

Deitsch et al., Solar Energy 185, 2019, arXiv:1807.02894; Buerhop-Lutz et al., EU PVSEC 2018. A cell is defective here
where its labelled probability is above one half (two thirds and one; one third counts as sound, as half of the
published tables do). 800 images train, 200 are val, the rest is test, drawn in the shares of the two classes. The
images are **CC BY-NC-SA 4.0**: no commercial use, nor of weights that are derived from them without thought.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from . import door, stratify
from .card import Card, DataError, Item
from .packages import PACKAGES, Held
from .registry import register

PACKAGE = PACKAGES["elpv-dataset"]
LAYOUT = "data/labels.csv (path, probability, mono or poly) and data/images/*.png"
SHARES = (800 / 2624, 200 / 2624)


@cache
def _parts(base: Path) -> dict[str, dict[int, list[Held]]]:
    file = base / "data" / "labels.csv"
    classes: dict[int, list[Held]] = {0: [], 1: []}
    try:
        rows = door.rows(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; expected there: {LAYOUT}") from None
    for number, row in enumerate(rows, 1):
        words = row.split()
        if not words:
            continue
        try:
            path, probability = words[0], float(words[1])
        except (IndexError, ValueError):
            raise DataError(f"{file}:{number}: expected 'path probability kind', found {row[:80]!r}") from None
        if ".." in path or path.startswith("/") or not 0 <= probability <= 1:
            raise DataError(f"{file}:{number}: {row[:80]!r} is no path with a probability")
        classes[int(probability > 0.5)].append(Held(base / "data" / path, f"elpv/{path}"))
    return stratify.cut("elpv", classes, SHARES)


def items(root: Path, split: str) -> list[Item]:
    """The items of one split."""
    return stratify.listed("elpv", _parts(PACKAGE.base(root, LAYOUT)), split)


register(Card(
    name="elpv", title="ELPV solar cells", group="real", classes=2,
    splits={"train": 800, "val": 200, "trainval": 1000, "test": 1624},
    source="https://github.com/zae-bayern/elpv-dataset", license=PACKAGE.license, cite="deitsch2019automatic",
    folder=PACKAGE.folder, layout=LAYOUT, items=items, metric="class_mean",
    by_hand=f"install the package {PACKAGE.name}: {PACKAGE.command}",
    note="CC BY-NC-SA 4.0; two thirds of the cells are sound, so the mean over both classes is told; cells of one "
         "module may lie on both sides", facts={"package": PACKAGE.name, "pinned": "e8304adb2986d89d"}))
