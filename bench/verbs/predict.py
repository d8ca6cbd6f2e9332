"""`predict`: what a stored run says of images or texts: its classes and their probabilities, a table or JSON lines.

A folder stands for the images in it and below. An image that cannot be read, a file that is not there, a folder
without an image is told on stderr, and the others are answered all the same; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import registry
from datasets.card import DataError, Text, shown
from results import store
from results.spoken import many

from .. import checkout
from ..planning import settings
from ..planning.request import UsageError
from . import here, recorded
from .words import Verb, on_device

if TYPE_CHECKING:
    from ..engine.ask import Answer

ORDER = 122  # in the list of commands
LONG = 60  # signs of a text that a table shows
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")  # of a folder's images; a named file may end anyhow


def add(verb: Verb) -> None:
    """The command and its options."""
    asking = verb("predict", act, "what a stored run says of images or texts: classes and probabilities")
    asking.add_argument("run", metavar="RUN", help="its id, or enough of its first digits")
    asking.add_argument("files", nargs="+", type=Path, metavar="IMAGE", help="files, or folders of them")
    asking.add_argument("--texts", action="store_true", help="of a run on texts: the files hold a text on each line, "
                        "of two that belong together a tab between them; - is what comes in")
    asking.add_argument("--top", type=settings.whole, default=3, metavar="N", help="classes to name for each (3)")
    asking.add_argument("--json", action="store_true", help="a JSON object a line in place of a table")
    asking.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    asking.add_argument("--head", type=Path, metavar="FILE", help="the file of class embeddings that its head started "
                        "from, if it did")
    on_device(asking)


def act(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UsageError([f"--top must be 1 or more, not {args.top}"])
    path = recorded.find(args.run, checkout.RUNS)[0]
    texts = texts_of(args.files, *set_of(path)) if args.texts else []
    images, missing = ([], []) if args.texts else images_of(args.files)
    if not images and not texts:
        raise UsageError(missing)
    from methods.weights import StoredError

    from ..engine.ask import answers, of_texts
    from ..engine.stored import open_run

    device = here.device_of(args.device)
    try:
        stored = open_run(path, args.weights, bool(texts), args.head)
        found = of_texts(stored, texts, args.top, device) if texts else answers(stored, images, args.top, device)
        first = next(found)  # a tokenizer that is another one is told here
    except StoredError as error:
        raise UsageError([str(error)]) from None
    if stored.adapts:
        print("regatta: this run adapted its weights to the test images; here they are as they were stored",
              file=sys.stderr)
    for problem in missing:
        print(f"regatta: {problem}", file=sys.stderr)
    wide, bad = max(len(_told(one)) for one in images or texts), len(missing)
    for answer in chain([first], found):
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


def set_of(path: Path) -> tuple[str, int | None]:
    """(the data set of the run at `path`, how many texts belong together there); None where that is not known, or the
    run names no classes of texts, which is told when it is opened.

    A card that does not say it is asked for its training texts, which may lie elsewhere now.
    """
    spec = store.load(path).spec
    try:
        card = registry.get(spec.dataset)
        if card.input != "text" or card.task != "classify" or card.texts:
            return spec.dataset, card.texts if card.task == "classify" else None
        root = checkout.STANDINS if spec.standin else Path(os.environ.get("DATA") or "")
        first = card.items(card.place(root), "train")[0].image
    except (DataError, OSError, IndexError):
        return spec.dataset, None
    return spec.dataset, (1 if first.b is None else 2) if isinstance(first, Text) else None


def texts_of(files: Sequence[Path], dataset: str = "", count: int | None = None) -> list[Text]:
    """The texts of files, one on each line that holds any, or two that belong together: `count` of the run's data set.

    Raises UsageError with all problems.
    """
    found: list[Text] = []
    problems: list[str] = []
    wanted = "one, or two with a tab between them" if count is None else (
        f"those of {dataset!r} stand {'one on a line, without a tab' if count == 1 else 'two on a line, a tab between'}"
    )
    for file in files:
        try:
            lines = _lines((sys.stdin.buffer if str(file) == "-" else file.open("rb")).read().decode("utf-8-sig"))
        except OSError as error:
            problems.append(f"the texts {str(file)!r} cannot be read: {error.strerror}")
            continue
        except UnicodeDecodeError:
            problems.append(f"the texts {str(file)!r} are not UTF-8")
            continue
        parts = [(f"{file}, line {number}", line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
        problems += [f"{where}: {told}; {wanted}" for where, held in parts if (told := _misfit(held, count))]
        problems += [] if parts else [f"there is no text in {str(file)!r}"]
        found += [Text(where, held[0], held[1] if len(held) > 1 else None) for where, held in parts if len(held) <= 2]
    if problems:
        raise UsageError(problems)
    return found


def _lines(text: str) -> list[str]:
    """The lines, whichever way they end: other signs that `str.splitlines` cuts at may stand within a text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _misfit(held: Sequence[str], count: int | None) -> str:
    """What is wrong with the texts of a line, or nothing."""
    if len(held) > 2 or len(held) != (count or len(held)):
        return many(len(held), "text")
    return "" if all(one.strip() for one in held) else "a text beside the tab is empty"


def _told(one: Path | Text) -> str:
    """What was asked about, on one line and not longer than a table bears."""
    if isinstance(one, Path):
        return shown(str(one))
    text = shown(one.a if one.b is None else f"{one.a} | {one.b}")
    return text if len(text) <= LONG else f"{text[:LONG - 3]}..."


def _name(label: int, names: Sequence[str]) -> str:
    """The class in words where they are known, else its number."""
    return shown(names[label]) if label < len(names) else f"class {label}"


def _line(answer: Answer, names: Sequence[str], wide: int) -> str:
    """Percent in a table, as everywhere where people read."""
    shares = "   ".join(f"{_name(label, names)} {100 * share:.1f} %" for label, share in answer.shares)
    return f"{_told(answer.asked):<{wide}}   {shares}"


def _json(answer: Answer, names: Sequence[str]) -> str:
    """Fractions, and the class's number beside its name."""
    classes = [{"class": label, "name": names[label] if label < len(names) else None,
                "probability": round(share, 6)} for label, share in answer.shares]
    one = answer.asked
    asked = {"image": str(one)} if isinstance(one, Path) else {"text": one.a if one.b is None else [one.a, one.b]}
    return json.dumps(asked | {"classes": classes}, ensure_ascii=False)
