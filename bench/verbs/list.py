"""`list`: a line for each method, data set, backbone or suite. No torch."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from collections.abc import Sequence

from datasets import registry
from datasets.card import Card
from methods.catalog import catalog
from methods.faults import lacking
from results.spoken import many, word

from ..engine.backbones import FAMILIES, KNOWN
from ..engine.packaged import ABOUT, TEXT_ABOUT
from ..engine.zoo import CHECKPOINTS
from ..planning.request import UsageError
from ..suites import GROUPS, SUITES
from . import printed
from .words import Verb

KINDS = ("methods", "adapters", "regularizers", "constraints", "datasets", "backbones", "suites")
PART_KINDS = {"adapters": "adapter", "regularizers": "regularizer", "constraints": "constraint"}
WIDTH = 116
ORDER = 10  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    listing = verb("list", act, "a line each of " + ", ".join(KINDS))
    listing.add_argument("kind", choices=KINDS, nargs="?", help="left out: what kinds there are")
    listing.add_argument("--json", action="store_true", help="for a program to read")
    listing.add_argument("--missing", action="store_true", help="methods: what the tables of results/published name "
                         "and the shelf has not, images first")
    listing.add_argument("--all", action="store_true", help="datasets: a line for each card, the folded ones too")


def act(args: argparse.Namespace) -> int:
    if args.kind is None:
        print("\n".join(f"{f'list {kind}':<18}  {len(listing(kind)):>4}" for kind in KINDS))
        return 0
    if args.missing and args.kind != "methods":
        raise UsageError([f"--missing goes with methods, not with {args.kind}"])
    rows = printed.missing() if args.missing else listing(args.kind)
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    if args.kind == "datasets":
        print(text(args.all))
        return 0
    width = max((len(r["name"]) for r in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['about']}")
    return 0


def listing(kind: str) -> list[dict[str, str]]:
    """Rows with `name` and `about`."""
    if kind == "datasets":
        return [{"name": c.name, "about": f"{c.title}: {_scored(c)}, {c.group}"
                 + (f" ({c.note})" if c.note else "")} for c in registry.cards()]
    if kind == "backbones":
        usual = {c.name: f"{c.pixels} pixels, {c.millions} M weights, {c.licence}: {c.about}" for c in CHECKPOINTS}
        told = {name: about for name, about in (KNOWN | ABOUT | TEXT_ABOUT).items() if name not in usual} | usual
        return [{"name": name, "about": about} for name, about in told.items()] + [
            {"name": "PICTURES:TEXTS", "about": "two towers for pictures with captions, as regatta_vit_64:minilm."
             "package (docs/texts.md)"},
            {"name": "any timm name", "about": "with its weights' tag after a dot; of the families "
             f"{', '.join(FAMILIES)} (docs/families.md says what each carries); any other network trains its head "
             "or all of it"}]
    if kind == "suites":
        return [{"name": n, "about": (inspect.getdoc(f) or "").splitlines()[0]} for n, f in SUITES.items()]
    parts = [p for p in catalog().values() if kind == "methods" or p.kind == PART_KINDS[kind]]
    return [{"name": p.name, "about": (f"{p.kind}: " if kind == "methods" else "") + p.doc
             + (f" (short: {', '.join(p.aliases)})" if p.aliases else "")
             + (f" ({why})" if (why := lacking(p.facts.get("requires", ()))) else "")} for p in parts]

def text(every: bool = False) -> str:
    """The data sets by group; `every` gives each card its line."""
    blocks = []
    for group in registry.ORDER:
        cards = registry.cards(group)
        if not cards:
            continue
        lines = [(card.name, _about(card)) for card in cards] if every else _folded(cards)
        width = max(len(name) for name, _ in lines) + 2
        told = [textwrap.fill(about, WIDTH, initial_indent=f"  {name:<{width}}", subsequent_indent=" " * (width + 4))
                for name, about in lines]
        blocks.append("\n".join([f"{GROUPS.get(group, group)}: {_count(len(cards))}", *told]))
    shown = "`--all` gives each card its line; " if not every else ""
    return "\n\n".join([*blocks, f"{shown}`python -m bench show NAME` prints a card, `--json` gives all to a program."])


def _count(number: int) -> str:
    return f"{many(number, 'card')}"


def _about(card: Card) -> str:
    note = f" ({card.note})" if card.note else ""
    return f"{card.title}: {_scored(card)}, {_sizes(card)}{note}"


def _scored(card: Card) -> str:
    """What is asked of an item: one of some classes, a number, its other half."""
    return {"classify": f"{card.classes:,} {word(card.classes, 'class', 'classes')}", "regress": "a score",
            "match": "to be matched"}[card.task]


def _sizes(card: Card) -> str:
    """What is trained on before the test, and what is tested on."""
    trained = card.splits.get("trainval")
    return (f"{trained:,} + " if trained is not None else "test only, ") + f"{card.splits['test']:,} {card.things}"


def _folded(cards: Sequence[Card]) -> list[tuple[str, str]]:
    """(names, about): cards that differ in shots, lists, corruption, severity or share alone stand together."""
    families: dict[str, list[Card]] = {}
    for card in cards:
        families.setdefault(_family(card), []).append(card)
    return [_line(name, found) for name, found in families.items()]


def _family(card: Card) -> str:
    facts = card.facts
    if "set" in facts:
        return f"{facts['set']}_<shots>shot_s<list>"
    if "shots" in facts:
        return card.name.rpartition("_s")[0] + "_s<list>"
    if "corruption" in facts:
        return "imagenet_c_<corruption>_<severity>"
    if "share" in facts and facts["share"] != "100":
        return card.name.rpartition("_")[0] + "_<percent>"
    return card.name


def _line(name: str, cards: Sequence[Card]) -> tuple[str, str]:
    first = cards[0]
    if len(cards) == 1:
        return name, _about(first)
    note = f" ({first.note})" if first.note and "corruption" not in first.facts else ""
    values = {key: list(dict.fromkeys(card.facts[key] for card in cards if key in card.facts))
              for key in ("shots", "seed", "share", "corruption", "severity")}
    said = []
    if values["corruption"]:
        said = [f"{many(len(values['corruption']), 'corruption')} ({', '.join(values['corruption'])}) at severities "
                "1 to 5"]
    else:
        said = [f"{word} {', '.join(values[key])}" for key, word in (("shots", "shots"), ("seed", "lists"),
                                                                    ("share", "percent of the training images"))
                if values[key]]
    title = first.title.split(", ")[0] if "shots" in first.facts else first.title.rpartition(" ")[0].removesuffix(" 1")
    if values["corruption"]:
        title = "ImageNet-C"
    tested = {card.splits["test"] for card in cards}
    return name, (f"{title}: {first.classes:,} {word(first.classes, 'class', 'classes')}, {'; '.join(said)}; "
                  f"test {max(tested):,} images; {many(len(cards), 'card')}{note}")
