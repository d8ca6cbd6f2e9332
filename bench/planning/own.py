"""A user's folder on the command line: `folder:PATH` is read, told of, noted, and then known by its name and content.

What is found of every file is kept by its size and times below `.cache/lists/`, so that only the first look is slow.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from datasets.card import Card, DataError, shown
from datasets.own import note
from datasets.own.scan import Found, Known, Photo, scan
from results.spoken import many

from .. import checkout
from .request import UsageError

PREFIX = "folder:"

Tell = Callable[[str], None]


def named(datasets: Sequence[str], tell: Tell, partial: bool = False, seed: int = 0) -> tuple[str, ...]:
    """The names with every `folder:PATH` read and replaced by its data set's. Raises UsageError with all problems."""
    names, problems = [], []
    for name in datasets:
        if not name.startswith(PREFIX):
            names.append(name)
            continue
        try:
            card, photos, remarks = read(Path(name.removeprefix(PREFIX)), partial, seed)
        except DataError as error:
            problems.append(str(error))
            continue
        for line in (summary(card, photos), *(f"{card.title}: {remark}" for remark in remarks)):
            tell(line)
        names.append(card.name)
    if problems:
        raise UsageError(problems)
    return tuple(names)


def lost(name: str, partial: bool, place: str | None, command: str) -> str:
    """Why a run's images cannot be looked at, where they are of a user's folder that does not lie here; else nothing.

    `place` is what was given as --root: the folder there is known by the run's name if it holds the run's images. The
    sentence has the `command` that says where they lie.
    """
    if note.MARK not in name or note.here(name):  # what is known needs no look at --root, which may be all real data
        return ""
    why = f"the images of {name!r} are not here"
    if place:
        try:
            read(Path(place), partial, wanted=name)
            return ""
        except DataError as error:
            why = str(error)
    return f"{why}; `{command} --root FOLDER` does it, FOLDER being where these images lie"


def read(place: Path, partial: bool = False, seed: int = 0,
         wanted: str = "") -> tuple[Card, list[Photo], list[str]]:
    """Look at a folder, divide it, note it: (its card, its images, what is worth telling, each on one line).

    `partial`: images that cannot be read are left aside in place of standing in the way; `wanted`: the data set that it
    must be. Raises DataError.
    """
    found = looked(place)
    os.environ[note.PLACE] = str(checkout.FOLDERS)  # for the processes that run what is planned here
    card, photos = note.settle(found, seed, checkout.FOLDERS, partial, wanted)
    return card, photos, [shown(remark) for remark in found.remarks]


def looked(place: Path) -> Found:
    """What lies in a folder, every image decoded once. Raises DataError for what is no folder of images."""
    from ..progress import Bar

    kept = checkout.CACHE.parent / "lists" / f"own-{sha256(os.fsencode(place.absolute())).hexdigest()[:16]}.json"
    known = _known(kept)
    before = len(known)
    with Bar(max(1, before), f"reading {shown(place.name)}") as bar:
        found = scan(place, known, lambda: bar.one_more(""))
    if len(known) != before or before == 0:
        with contextlib.suppress(OSError):  # a disk that takes nothing costs time alone
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(known))
            part.replace(kept)
    return found


def _known(file: Path) -> Known:
    try:
        told = json.loads(file.read_text()).items()
        return {str(path): (list(map(int, stamp)), str(digest), str(why)) for path, (stamp, digest, why) in told}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def summary(card: Card, photos: Sequence[Photo]) -> str:
    """One line: how many images of how many classes in which splits, and their size."""
    held = Counter(p.split for p in photos)
    size = sum(p.bytes for p in photos)
    shown = next((f"{size / one:.1f} {unit}" for one, unit in ((1e9, "GB"), (1e6, "MB")) if size >= one),
                 f"{size / 1e3:.0f} kB")
    return (f"{card.title}: {many(len(photos), 'image')} of {many(card.classes, 'class', 'classes')}, {shown}; "
            + ", ".join(f"{held[split]} {split}" for split in ("train", "val", "test")) + f"; known as {card.name}")
