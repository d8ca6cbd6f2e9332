"""Writing stand-ins: render every picture of a set, lay it out as the real one, publish it in one rename."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .. import door, registry
from ..card import Card, DataError, Group
from ..folder import MARK, locked, staged, weigh
from ..imagenet import FOLDERS as IMAGENET
from ..imagenet import hold_out, wnids
from ..packages import package_of
from ..vtab import export
from .task import SIZES, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUALITY = 95
MODULES = ("natural", "specialized", "structured", "finegrained")
KIT = ("canvas.py", "task.py", "textures.py")
FORM = 2  # raise when files are added or named otherwise: present stand-ins are rewritten, their hashes stay
LAYOUT = 1  # raise when the order of the lists or the encoding changes; other changes of this file move no pixel
MODULE_OF = {"natural": "natural", "specialized": "specialized", "structured": "structured"}  # else finegrained


DEMO_GROUPS: tuple[Group, ...] = ("natural", "specialized", "structured", "fgvc", "imagenet")
SHARED_GROUPS: tuple[Group, ...] = ("fewshot", "shift")  # many cards read one folder
TEXT_GROUPS: tuple[Group, ...] = ("glue", "text", "captions")
TEXT_FILES = {"language": ("phrases.py", "language.py"), "archives": ("phrases.py", "archives.py"),  # what makes them
              "captions": ("canvas.py", "phrases.py", "captions.py")}


def has_standin(name: str) -> bool:
    """Whether the data set needs (and has) a stand-in; digits, a real set that ships with a library, does not."""
    card = registry.get(name)
    return card.group in DEMO_GROUPS + SHARED_GROUPS + TEXT_GROUPS or package_of(card) is not None


def _owner(card: Card) -> Card:
    """The card whose stand-in this one reads too: NOAH's 16-shot lists lie in ImageNet's folder."""
    return registry.get("imagenet1k") if card.folder == IMAGENET[0] else card


def _module_of(card: Card) -> str:
    if not has_standin(card.name):
        raise DataError(f"{card.name} has no stand-in: " + (card.layout if card.group == "real" else
                        f"it is read as {card.layout}, below --root or DATA"))
    if card.group in TEXT_GROUPS and card.folder != "tuxpaint":  # whose pictures are written with the captions
        return "captions" if card.input == "pair" else "archives" if package_of(card) else "language"
    return "packaged" if package_of(card) else MODULE_OF.get(card.group, "finegrained")


def task_of(name: str) -> Task:
    """The stand-in's classes and drawing function (imports numpy)."""
    card = registry.get(name)
    tasks: dict[str, Task] = import_module(f".{_module_of(card)}", __package__).TASKS
    return tasks[card.name]


@cache
def _source(file: str) -> bytes:
    return (Path(__file__).parent / file).read_bytes().replace(b"\r\n", b"\n")


@cache
def standin_hash(name: str, seed: int = 0) -> str:
    """Identity of a stand-in's content: the source of its generator and the seed. Reads no picture."""
    card = _owner(registry.get(name))
    key = card.folder if card.group in SHARED_GROUPS or package_of(card) else card.name
    digest = hashlib.sha256(f"{key}|{seed}|{LAYOUT}|{QUALITY}\n".encode())
    module = _module_of(card)
    files = list(TEXT_FILES.get(module, (*KIT, f"{module}.py")))
    if card.group in SHARED_GROUPS:
        files.append("suites.py")
    if "finegrained.py" in files:  # which borrows from it
        files.append("natural.py")
    for file in files:
        digest.update(_source(file))
    return digest.hexdigest()[:16]


def render(name: str, seed: int = 0) -> dict[str, list[tuple[NDArray[np.uint8], int]]]:
    """Split -> (picture, label) in the order of the lists; all pictures of a class are drawn together."""
    from .canvas import Dice, seed_of

    card, task = registry.get(name), task_of(name)
    kinds: dict[str, list[int]] = {}
    for split, size in SIZES.items():
        drawn = [kind for kind, count in enumerate(task.counts(size)) for _ in range(count)]
        places = sorted(range(size), key=lambda place: seed_of(card.name, f"{split}-order", place, seed))
        kinds[split] = [drawn[place] for place in places]
    pictures: dict[str, dict[int, tuple[NDArray[np.uint8], int]]] = {split: {} for split in SIZES}
    for kind, label in enumerate(task.labels):
        slots = [(split, i) for split in SIZES for i, found in enumerate(kinds[split]) if found == kind]
        drawn_kind = task.draw(Dice([seed_of(card.name, split, i, seed) for split, i in slots]), kind)
        for (split, i), picture in zip(slots, drawn_kind, strict=True):
            pictures[split][i] = (picture, label)
    return {split: [drawn[i] for i in range(SIZES[split])] for split, drawn in pictures.items()}


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


Encoded = dict[str, list[tuple[bytes, int]]]


def _write_json(folder: Path, encoded: Encoded, path_of: Callable[[str, int, int], str]) -> None:
    """VPT's three files beside the images they name."""
    for split, pictures in encoded.items():
        listed = {}
        for i, (data, identifier) in enumerate(pictures):
            relative, key = path_of(split, i, identifier).split("|")
            (folder / relative / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative / key).write_bytes(data)
            listed[key] = identifier
        (folder / f"{split}.json").write_text(json.dumps(listed) + "\n")


_START = {"train": 0, "val": 200, "test": 400}  # running numbers that do not collide between splits

PATHS: dict[str, Callable[[str, int, int], str]] = {  # image root | key of the JSON
    "cub": lambda split, i, c: f"images|{c + 1:03d}.Class_{c + 1}/Class_{c + 1}_{_START[split] + i:04d}.jpg",
    "nabirds": lambda split, i, c: f"images|{c:04d}/{hashlib.md5(f'{split}{i}'.encode()).hexdigest()}.jpg",
    "flowers_fgvc": lambda split, i, c: f"|jpg/image_{_START[split] + i + 1:05d}.jpg",
    "stanford_dogs": lambda split, i, c: f"Images|n{2085620 + c:08d}-Breed-{c}/n{c:08d}_{_START[split] + i}.jpg",
    "stanford_cars": lambda split, i, c: f"|car_ims/{_START[split] + i + 1:06d}.jpg",
}


def _write_imagenet(folder: Path, encoded: Encoded) -> None:
    """Class folders; the pictures drawn for val get the names that the hold-out rule takes."""
    for label in sorted({label for _, label in encoded["train"]}):
        wnid = wnids()[label]
        train = [data for data, found in encoded["train"] if found == label]
        val = [data for data, found in encoded["val"] if found == label]
        names = [f"{wnid}_{i}.JPEG" for i in range(1, len(train) + len(val) + 1)]
        kept, held = hold_out(names)
        assert (len(kept), len(held)) == (len(train), len(val)), "the hold-out must take as many as were drawn for val"
        test = [data for data, found in encoded["test"] if found == label]
        files = {f"train/{wnid}/{name}": data for name, data in zip(kept + held, train + val, strict=True)}
        files |= {f"val/{wnid}/ILSVRC2012_val_{label * 50 + i + 1:08d}.JPEG": data for i, data in enumerate(test)}
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    _write_shots(folder)


def _write_shots(folder: Path) -> None:
    """NOAH's lists: the pictures of the train split are the 16 shots of each class, for every seed in another order."""
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for place in sorted((folder / "train").iterdir()):
        label = wnids().index(place.name)
        for split, names in zip(("train", "val"), hold_out(sorted(file.name for file in place.iterdir())), strict=True):
            rows[split] += [f"{place.name}/{name} {label}" for name in names]
        rows["test"] += [
            f"{place.name}/{file.name} {label}" for file in sorted((folder / "val" / place.name).iterdir())
        ]
    (folder / "annotations").mkdir()
    for seed in (0, 1, 2):
        lines = sorted(rows["train"], key=lambda row: hashlib.md5(f"{seed}{row}".encode()).digest())
        _write_lines(folder / "annotations" / f"train_meta.list.num_shot_16.seed_{seed}", lines)
    for split in ("val", "test"):
        _write_lines(folder / "annotations" / f"{split}_meta.list", rows[split])


def _write_lines(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), newline="\n")


def _save(file: Path, picture: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_jpeg(picture))


def _lay_out(card: Card, folder: Path, seed: int) -> None:
    if _module_of(card) in TEXT_FILES:
        import_module(f".{_module_of(card)}", __package__).WRITERS[card.folder](folder, seed)
        return
    if package_of(card):
        from .packaged import WRITERS

        WRITERS[card.folder](folder, seed)
        return
    if card.group in SHARED_GROUPS:
        from .suites import write_folder

        write_folder(card.group, card.folder, folder, seed, _save)
        return
    encoded: Encoded = {
        split: [(_jpeg(picture), label) for picture, label in pictures]
        for split, pictures in render(card.name, seed).items()
    }
    if card.group == "fgvc":
        _write_json(folder, encoded, PATHS[card.name])
    elif card.group == "imagenet":
        _write_imagenet(folder, encoded)
    else:
        export.write(folder, encoded)


def is_fresh(name: str, root: Path, seed: int = 0) -> bool:
    """Whether the stand-in is there, whole, and made by the present generator."""
    card = registry.get(name)
    try:
        mark = json.loads(door.text(root / card.folder / MARK, "note"))
        same = mark["hash"] == standin_hash(name, seed) and mark["form"] == FORM
        return bool(same and (mark["files"], mark["bytes"]) == weigh(root / card.folder))
    except (DataError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def write(name: str, root: Path, seed: int = 0) -> Path:
    """Write the stand-in of a data set under the root unless it is already there; returns its folder.

    A folder that holds no stand-in's mark is somebody's data and is never touched.
    """
    card = registry.get(name)
    _module_of(card)
    root = Path(root)
    target = root / card.folder
    if is_fresh(card.name, root, seed):
        return target
    with locked(target):
        if is_fresh(card.name, root, seed):  # another process wrote it while we waited
            return target
        if target.exists() and not (target / MARK).is_file():
            raise DataError(f"{target} holds data that is no stand-in; it stays as it is, choose another root")
        with staged(target) as folder:
            _lay_out(_owner(card), folder, seed)
            files, total = weigh(folder)
            mark = {"folder": card.folder, "hash": standin_hash(card.name, seed), "form": FORM, "seed": seed}
            (folder / MARK).write_text(json.dumps(mark | {"files": files, "bytes": total}) + "\n")
    return target


def write_all(
    names: Sequence[str] | None, root: Path, progress: Callable[[str], None] | None = None, seed: int = 0
) -> list[Path]:
    """Write several stand-ins (the demo's 25 where `names` is None); `progress` hears each name when it is there."""
    wanted = registry.names(*DEMO_GROUPS) if names is None else names
    folders = []
    for name in wanted:
        folders.append(write(name, root, seed))
        if progress:
            progress(name)
    return folders
