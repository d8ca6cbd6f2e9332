"""`check-method`: the battery on one part, in a minute, with a sentence for each thing that is wrong."""

from __future__ import annotations

import argparse
import time

from methods.catalog import aliases, broken_part, catalog
from methods.faults import lacking
from methods.grammar import parse

from ..planning.request import UsageError
from .words import Verb

ORDER = 25  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("check-method", act, "the battery on one adapter, regularizer or constraint, in a minute")
    made.add_argument("name", help="a part, with options if you like: 'lora(rank=4)'")


def act(args: argparse.Namespace) -> int:
    lead = args.name.partition("(")[0].strip().replace("-", "_")
    name = aliases().get(lead, lead)
    if why := broken_part(name):
        raise UsageError([why])
    if name not in catalog() or "+" in args.name:
        from methods.grammar import near

        raise UsageError([f"{args.name!r} is no one part" + near(name, [*catalog(), *aliases()])])
    info = catalog()[name]
    if why := lacking(info.facts.get("requires", ())):
        raise UsageError([f"{name!r} {why}"])
    if info.kind == "adapter":
        parse(args.name)
        if "vit" not in info.families:
            raise UsageError([f"{name!r} does not run on a plain ViT, which the battery tries: its tests are in "
                              "tests/methods"])
    return _tell(args.name, info.kind)


def _tell(text: str, kind: str) -> int:
    import torch

    from ..battery import adapters, further
    from ..battery.verdicts import Verdict, judge

    torch.set_num_threads(1)
    began, bad = time.perf_counter(), list[Verdict]()
    print(f"{text}: {kind}, file {catalog_file(text)}")
    for one in judge(adapters.checks(text) if kind == "adapter" else further.checks(text)):
        first = next((b.name for b in bad if b.told == one.told), "")  # one mistake stops many checks
        print(f"  {'ok   ' if one.good else 'WRONG'}  {one.name}: {f'as {first}' if first else one.told}", flush=True)
        bad += [] if one.good else [one]
    print(f"{'all is well' if not bad else f'{len(bad)} wrong'} ({time.perf_counter() - began:.0f} s); what only the "
          "paper knows, whether the formula is its own, is for a test of yours")
    return 1 if bad else 0


def catalog_file(text: str) -> str:
    """The file of a part, as its author calls it."""
    lead = text.partition("(")[0].strip().replace("-", "_")
    return catalog()[aliases().get(lead, lead)].file
