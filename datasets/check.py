"""What is wrong with a data set as it lies on disk: every problem at once, each with its path and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import NamedTuple

from . import door, registry, sameness
from .card import Card, DataError, Item, Source, Text
from .door import sha256_of
from .encoded import H5Image
from .folder import MANIFEST, MARK, compare_manifest
from .identity import equal_bytes
from .images import name_of, open_rgb
from .packages import Held, package_of
from .promises import TRAINING, broken, splits_of
from .promises import images as images_of
from .vtab.export import interleave

Picture = Path | Source
Lister = Callable[..., Sequence[Item]]  # a card's lister, some of which also take `problems`


class Problem(NamedTuple):
    """One finding; the text names the file and says what was expected."""

    dataset: str
    text: str

    def __str__(self) -> str:
        return f"{self.dataset}: {self.text}"


def folder_of(card: Card, root: Path) -> Path | None:
    """Where the set lies: the card's folder, or the one a reader found under another name in use."""
    if not card.folder:
        return None
    package = package_of(card)
    if (root / card.folder).is_dir() or (package is not None and package.installed() is None):
        return root / card.folder
    if package is not None:
        return package.installed()
    others = getattr(card.items, "keywords", {}).get("folders", ())
    return next((root / name for name in others if (root / name).is_dir()), root / card.folder)


def _sizes(card: Card, standin: bool) -> dict[str, int]:
    """Images per split: the card's promise, or the stand-in's."""
    if not standin:
        return dict(card.splits)
    from .standins import SHARED_GROUPS
    from .standins.task import SIZES

    if card.group in SHARED_GROUPS or card.input != "image" or package_of(card):
        # theirs differ; the mark and the manifest vouch for them
        return {}
    return SIZES | {"trainval": SIZES["train"] + SIZES["val"]}


def _list_all(card: Card, root: Path, found: list[str]) -> dict[str, Sequence[Item]]:
    """Every split that can be listed; what cannot is told."""
    lister: Lister = card.items
    all_at_once = _notes_problems(lister)
    listed: dict[str, Sequence[Item]] = {}
    for split in splits_of(card):
        told: list[str] = []
        try:
            listed[split] = lister(root, split, problems=told) if all_at_once else lister(root, split)
        except DataError as error:
            told.append(str(error))
        found += [text for text in told if text not in found]
    return listed


def _notes_problems(lister: Lister) -> bool:
    """Whether a lister can go on after a fault; `(root, split)` is all that a card promises of it."""
    return "problems" in signature(lister).parameters


def _check_interleave(card: Card, listed: dict[str, Sequence[Item]], found: list[str]) -> None:
    """VTAB-1k's trainval is train and val in blocks of 16."""
    if card.group in ("natural", "specialized", "structured") and {"train", "val", "trainval"} <= set(listed):
        expected = interleave([i.label for i in listed["train"]], [i.label for i in listed["val"]])
        actual = [item.label for item in listed["trainval"]]
        if expected != actual:
            at = next((i for i, pair in enumerate(zip(expected, actual, strict=False)) if pair[0] != pair[1]), None)
            where = "its length" if at is None else f"line {at + 1}"
            found.append(f"train800val200.txt is not train800 and val200 in blocks of 16: {where} differs")


def check(
    name: str, root: Path, images: bool = True, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """All problems of a data set under the data root; an empty list means that every promise holds.

    With `images`, every picture is read, decoded and compared: a test image may be no training image, neither byte for
    byte nor with the same pixels in another file. Of a stand-in whose manifest vouches for its bytes none is read.
    Texts are compared always, for they are read with their lists.
    """
    card, root = registry.get(name), Path(root)
    found: list[str] = []
    base = folder_of(card, root)
    standin = base is not None and (base / MARK).is_file()
    listed = _list_all(card, root, found)
    found += broken(card, listed, _sizes(card, standin), classes=not standin)
    _check_interleave(card, listed, found)
    if card.input == "text" and "repeats" not in card.facts:  # of what is published so `remarks` tells it
        found += sameness.shared(listed)
    compared: list[str] = []
    if base is not None:
        door.admit(base)
        if standin:
            from .standins import is_fresh

            if not is_fresh(card.name, root):
                found.append(
                    f"{base} is a stand-in that is not whole, or of an older generator; expected the present one"
                )
        compared = compare_manifest(base)
        found += compared
        for url, sha256, size in () if standin else card.files:
            file = base / url.rpartition("/")[2]
            if file.is_file() and (file.stat().st_size != size or sha256_of(file) != sha256):
                found.append(f"{file} has other content; expected {size} bytes, sha256 {sha256}")
    vouched = standin and not compared and base is not None and (base / MANIFEST).is_file()
    if images and not vouched:
        found += _read(card, listed, progress)
    return [Problem(card.name, text) for text in found]


def remarks(name: str, root: Path) -> list[str]:
    """What is worth knowing of a set of texts and breaks no promise: rows passed over, texts that stand twice."""
    card, root = registry.get(name), Path(root)
    if card.input == "image":
        return []
    listed = _list_all(card, root, [])
    told = sameness.shared(listed) if card.input == "pair" or "repeats" in card.facts else []
    try:
        passed = list(card.remarks(root)) if card.remarks else []
    except DataError:  # a problem, which `check` tells
        passed = []
    return [*passed, *told, *(sameness.twice(listed) if card.input == "text" else [])]


def _read(card: Card, listed: dict[str, Sequence[Item]], progress: Callable[[int, int], None] | None) -> list[str]:
    """The pictures that cannot be read, and test images that are training images under another name."""
    found: list[str] = []
    pictures = _pictures(*listed.values())
    seen: dict[Picture, tuple[bytes, bytes]] = {}
    for done, image in enumerate(pictures, 1):
        try:
            seen[image] = digests(image)
        except DataError as error:
            found.append(str(error))
        if progress:
            progress(done, len(pictures))
    if "repeats" not in card.facts:
        found += _repeated(seen, _pictures(*(listed.get(split, ()) for split in TRAINING)),
                           _pictures(listed.get("test", ())))
    return found


def _pictures(*lists: Sequence[Item]) -> dict[Picture, None]:
    """The images of some lists, those of pairs too, each once; a text is none."""
    return {image: None for image in images_of(*lists) if not isinstance(image, Text)}


def digests(image: Picture) -> tuple[bytes, bytes]:
    """Of the bytes of an image (empty where it has none of its own) and of its pixels. Raises DataError."""
    try:
        own = sha256_of(image) if isinstance(image, Path) else (
            sha256(image.read()).hexdigest() if isinstance(image, H5Image | Held) else "")
    except OSError as error:
        raise DataError(f"{name_of(image)} cannot be read: {error.strerror}") from None
    picture = open_rgb(image)
    pixels = sha256(b"%d %d\n" % picture.size + picture.tobytes()).digest()[:16]
    return bytes.fromhex(own)[:16], pixels


def _repeated(seen: Mapping[Picture, tuple[bytes, bytes]], training: Iterable[Picture],
              test: Iterable[Picture]) -> list[str]:
    """Test images of the bytes of a training image; then of its pixels alone."""
    known: dict[bytes, Picture] = {}
    for image in training:
        for digest in filter(None, seen.get(image, ())):
            known.setdefault(digest, image)
    equal: list[tuple[Picture, Picture]] = []
    near: list[tuple[Picture, Picture]] = []
    for image in test:
        own, pixels = seen.get(image, (b"", b""))
        if own in known and known[own] != image:
            equal.append((image, known[own]))
        elif own not in known and pixels in known and known[pixels] != image:
            near.append((image, known[pixels]))
    found = [equal_bytes(equal)] if equal else []
    if near:
        found.append(f"{len(near)} test image{'s have' if len(near) > 1 else ' has'} the pixels of a training image in "
                     f"another file, first {name_of(near[0][0])}, which shows {name_of(near[0][1])}")
    return found
