"""`head`: a file of class-name embeddings, from which runs start their heads (`--head FILE`)."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results.spoken import many

from .. import checkout
from ..planning.own import named
from ..planning.request import UsageError
from . import recorded
from .words import Verb

if TYPE_CHECKING:
    from datasets.card import Card

ORDER = 36  # in the list of commands
TEMPLATE = "a photo of a {}."


def add(verb: Verb) -> None:
    """The command and its options."""
    making = verb("head", act, "embed a data set's class names by a text tower, for heads that start from them")
    making.add_argument("dataset", metavar="NAME", help="of `list datasets`, or folder:PATH")
    making.add_argument("--weights", type=Path, metavar="FOLDER", help="a folder of CLIP: config.json, "
                        "model.safetensors, tokenizer.json; with --run the text tower's own folder, where it has one")
    making.add_argument("--run", metavar="RUN", help="in CLIP's place a finished run of linear on pictures with "
                        "captions")
    making.add_argument("--names", type=Path, metavar="FILE", help="what to call the classes, a line for each by "
                        "label (default: their names, where the data set knows them)")
    making.add_argument("--template", nargs="+", default=[TEMPLATE], metavar="TEXT", help="texts with {} for a name; "
                        f"of several the mean (default: '{TEMPLATE}')")
    making.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .safetensors")
    making.add_argument("--partial", action="store_true", help="leave images of folder:PATH aside that cannot be read")


def act(args: argparse.Namespace) -> int:
    from datasets import registry

    (name,) = named([args.dataset], lambda line: print(line, file=sys.stderr), args.partial)
    card = registry.get(name)
    classes, words = names_of(card, args.names)
    check(args, card)
    from methods.weights import StoredError

    from ..engine import classnames, zeroshot

    try:
        source = classnames.of_run(recorded.find(args.run, checkout.RUNS)[0], args.weights) if args.run else \
            classnames.of_folder(args.weights)
    except StoredError as error:
        raise UsageError([str(error)]) from None
    head = classnames.made(source, classes, words, args.template)
    digits = zeroshot.write(head, args.out)
    behind = "" if head.projection is None else f" behind a projection of {head.reads}"
    print(f"{args.out}: {many(len(classes), 'class', 'classes')} of {card.name} in {head.width} numbers{behind}, "
          f"{many(len(args.template), 'template')}, scale {math.exp(head.logit_scale):.4g}, from {head.origin}; its "
          f"hash begins with {digits}")
    return 0


def check(args: argparse.Namespace, card: Card) -> None:
    """Raises UsageError with a sentence for each word that cannot be."""
    problems = []
    if card.input != "image" or card.task != "classify":
        problems.append(f"{card.name!r} holds {card.things} and no classes of images")
    if not args.run and args.weights is None:
        problems.append("name a text tower that was trained with pictures: --weights FOLDER of CLIP, or --run RUN")
    if args.weights is not None and not args.run and not args.weights.is_dir():
        problems.append(f"--weights {str(args.weights)!r} is no folder; give the one that holds CLIP's config.json, "
                        "model.safetensors and tokenizer.json")
    problems += [f"--template takes a text with one {{}} for the class's name, not {one!r}" for one in args.template
                 if one.count("{}") != 1]
    if args.out.suffix != ".safetensors":
        problems.append(f"--out {str(args.out)!r} must end in .safetensors")
    if not args.out.absolute().parent.is_dir():
        problems.append(f"--out {str(args.out)!r}: there is no such folder; make it first")
    if problems:
        raise UsageError(problems)


def names_of(card: Card, file: Path | None) -> tuple[Sequence[str], Sequence[str]]:
    """(the classes' names by label, what to call them). Raises UsageError where neither card nor file tells.

    A name of folders and tables is read as words: `_` is a space.
    """
    if file is None:
        if not card.class_names:
            raise UsageError([f"the classes of {card.name!r} are known here by number alone; give --names FILE, a name "
                              f"on each of its {card.classes} lines in the order of the labels"])
        return card.class_names, [name.replace("_", " ") for name in card.class_names]
    try:
        told = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError([f"--names {str(file)!r} cannot be read ({type(error).__name__}); it is a text in UTF-8, a "
                          "name on each line"]) from None
    while told and not told[-1]:
        told.pop()
    empty = next((i for i, one in enumerate(told, 1) if not one), None)
    if empty is not None:
        raise UsageError([f"--names {file.name}: line {empty} is empty; each line is a class, in the order of the "
                          "labels"])
    if len(told) != card.classes:
        raise UsageError([f"--names {file.name} has {many(len(told), 'line')}, {card.name!r} has "
                          f"{many(card.classes, 'class', 'classes')}; a line for each, in the order of the labels"])
    return card.class_names or told, told
