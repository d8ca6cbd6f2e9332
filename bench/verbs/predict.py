"""`predict`: what a stored run says of images: its classes and their probabilities, as a table or as JSON lines.

A folder stands for the images in it and below. An image that cannot be read, a file that is not there, a folder
without an image is told on stderr, and the others are answered all the same; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.card import shown

from .. import checkout
from ..planning import settings
from ..planning.request import UsageError
from . import here, recorded
from .words import Verb, on_device

if TYPE_CHECKING:
    from ..engine.ask import Answer

ORDER = 122  # in the list of commands
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")  # of a folder's images; a named file may end anyhow


def add(verb: Verb) -> None:
    """The command and its options."""
    asking = verb("predict", act, "what a stored run says of images: classes and probabilities")
    asking.add_argument("run", metavar="RUN", help="its id, or enough of its first digits")
    asking.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files, or folders of them")
    asking.add_argument("--top", type=settings.whole, default=3, metavar="N", help="classes to name for each (3)")
    asking.add_argument("--json", action="store_true", help="a JSON object a line in place of a table")
    asking.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    on_device(asking)


def act(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UsageError([f"--top must be 1 or more, not {args.top}"])
    path = recorded.find(args.run, checkout.RUNS)[0]
    images, missing = images_of(args.images)
    if not images:
        raise UsageError(missing)
    from methods.weights import StoredError

    from ..engine.ask import answers
    from ..engine.stored import open_run

    try:
        stored = open_run(path, args.weights)
    except StoredError as error:
        raise UsageError([str(error)]) from None
    if stored.adapts:
        print("regatta: this run adapted its weights to the test images; here they are as they were stored",
              file=sys.stderr)
    for problem in missing:
        print(f"regatta: {problem}", file=sys.stderr)
    wide, bad = max(len(shown(str(image))) for image in images), len(missing)
    for answer in answers(stored, images, args.top, here.device_of(args.device)):
        if answer.problem:
            bad += 1
            print(f"regatta: {answer.problem}", file=sys.stderr)
            continue
        print(_json(answer, stored.names) if args.json else _line(answer, stored.names, wide))
    return 1 if bad else 0


def images_of(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """(the files, and those in the folders in the order of their names; a sentence for each word that gives none)."""
    found: list[Path] = []
    problems = []
    for place in given:
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            problems += [] if inside else [f"there is no image in the folder {str(place)!r}; leave it out, or name "
                                           f"files, as in a folder images end in {', '.join(ENDINGS)}"]
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            problems.append(f"there is no image {str(place)!r}")
    return found, problems


def _name(label: int, names: Sequence[str]) -> str:
    """The class in words where they are known, else its number."""
    return shown(names[label]) if label < len(names) else f"class {label}"


def _line(answer: Answer, names: Sequence[str], wide: int) -> str:
    """Percent in a table, as everywhere where people read."""
    shares = "   ".join(f"{_name(label, names)} {100 * share:.1f} %" for label, share in answer.shares)
    return f"{shown(str(answer.image)):<{wide}}   {shares}"


def _json(answer: Answer, names: Sequence[str]) -> str:
    """Fractions, and the class's number beside its name."""
    classes = [{"class": label, "name": names[label] if label < len(names) else None,
                "probability": round(share, 6)} for label, share in answer.shares]
    return json.dumps({"image": str(answer.image), "classes": classes}, ensure_ascii=False)
