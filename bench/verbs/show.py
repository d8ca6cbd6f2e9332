"""`show`: the card of a method, data set, backbone, suite, or the record of a run."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from datasets import registry
from datasets.card import Card, DataError
from methods import on_decoder
from methods.catalog import PartInfo, aliases, broken_part, catalog
from methods.faults import lacking
from methods.grammar import FEATURES, parse
from methods.on_text import refusals
from results import aside, store
from results.schema import RunResult
from results.spoken import many, word

from .. import checkout
from ..engine.backbones import (
    KNOWN,
    PAIR,
    BackboneError,
    check_name,
    decodes,
    family,
    image_size,
    is_text,
    longest,
    other_size,
)
from ..engine.halves import parted
from ..engine.packaged import ABOUT, TEXT_ABOUT
from ..engine.wording import LONGEST
from ..planning.again import again
from ..planning.request import UsageError
from ..suites import SUITES, find
from ..suites.base import Suite, about
from . import recorded
from .words import Verb

ORDER = 20  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    card = verb("show", act, "the card of a method, data set, backbone or suite, or the record of a run")
    card.add_argument("name", help="of a method, data set, backbone or suite; of a run the first digits of its id")
    card.add_argument("--backbone", help="count a method's trained weights on this backbone (imports torch)")


def act(args: argparse.Namespace) -> int:
    print(card(args.name, args.backbone, checkout.RUNS))
    return 0


def card(name: str, backbone: str | None, runs: Path) -> str:
    """The card of whatever bears the name: a part or a whole method, a data set, a backbone, a suite, a run's id."""
    make, part = find(name), catalog().get(aliases().get(name, name))
    if make is not None and part is not None:  # `ugr` is both
        return f"{_part(part, backbone)}\n\nThere is a suite of this name too:\n{_suite(name, make())}"
    if make is not None:
        return _suite(name, make())
    if about := (KNOWN | ABOUT | TEXT_ABOUT).get(name):
        return f"backbone {name}: {about}\nfamily {family(name)}, {_size(name)}"
    record = _record(name, runs)
    if record is not None:
        return record
    lead = name.partition("(")[0].partition("+")[0].strip().replace("-", "_")
    if lead in catalog() or lead in aliases():
        part = catalog()[aliases().get(lead, lead)]
        if name == lead or part.kind != "adapter":
            return _part(part, backbone)
        return _method(name, backbone)
    if why := broken_part(lead):
        raise UsageError([why])
    try:
        return _dataset(registry.get(name))
    except DataError as error:
        if any(name in b.names for b in registry.broken()):
            raise UsageError([str(error)]) from None
    known = [*catalog(), *aliases(), *registry.names(), *KNOWN, *ABOUT, *TEXT_ABOUT, *SUITES]
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    raise UsageError([f"nothing is called {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else
                                                       "; `python -m bench list ...` names everything")])


def _suite(name: str, suite: Suite) -> str:
    further = dict.fromkeys(name for names in suite.also_test.values() for name in names)
    return "\n".join([f"suite {suite.name}: {suite.title}", _wrap(about(name)),
                      _wrap(suite.note), f"data sets: {', '.join(suite.datasets) or 'yours'}",
                      f"methods: {', '.join(suite.methods) or 'yours'}", f"backbones: {', '.join(suite.backbones)}",
                      f"seeds: {', '.join(map(str, suite.seeds))}", f"tuning: {suite.budget}",
                      *([f"further test sets: {', '.join(further)}"] if further else []), f"cost: {suite.cost}",
                      "protocol: " + ", ".join(f"{k}={v}" for k, v in suite.protocol.items())])


def _part(part: PartInfo, backbone: str | None) -> str:
    facts = part.facts
    lines = [f"{part.kind} {part.name}" + (f" (short: {', '.join(part.aliases)})" if part.aliases else ""),
             _wrap(part.doc)]
    lines += [f"paper: {facts['paper']}"] if facts.get("paper") else []
    lines += [_wrap(f"ours: {facts['ours']}")] if facts.get("ours") else []
    if facts.get("requires"):
        lines.append(lacking(facts["requires"]) or f"needs {', '.join(facts['requires'])}, which is installed")
    lines.append("options:" if part.options else "options: none")
    rows = [(f"  {o.name} = {o.default!r}", ", ".join(map(repr, o.choices)) or f"{o.type} {o.range}".strip(), o.doc)
            for o in part.options]
    wide = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
    lines += [f"{stated:<{wide[0]}}  {allowed:<{min(wide[1], 40)}}  {doc}" for stated, allowed, doc in rows]
    if part.kind == "adapter":
        lines.append(f"trained weights without the head: {facts.get('formula') or 'see the paper'}"
                     " (d width, L blocks)")
        lines.append(f"merges into the backbone: {'yes' if facts.get('mergeable') else 'no'}; at the start its output "
                     f"is {_START[str(facts.get('at_start', 'exact'))]}")
        lines.append(f"runs on: {', '.join(sorted(part.families))}")
        lines.append("offers: " + (", ".join(f"{f} ({FEATURES[f]})" for f in sorted(part.offers)) or "nothing"))
        fits = [p.name for p in catalog().values() if p.kind != "adapter" and p.takes(part)]
        lines.append(f"composes with: {', '.join(fits) or 'nothing'}")
        if backbone:
            lines.append(_count(part.name, backbone))
    else:
        lines.append("needs: " + (", ".join(f"{f} ({FEATURES[f]})" for f in sorted(part.needs)) or "nothing"))
        fits = [p.name for p in catalog().values() if p.kind == "adapter" and part.takes(p)]
        lines.append(f"composes with: {', '.join(fits)}")
    return "\n".join(lines)


_START = {"exact": "the pre-trained function", "near": "near the pre-trained function",
          "never": "not the pre-trained function"}


def _method(text: str, backbone: str | None) -> str:
    method = parse(text)
    lines = [f"method {method.text()}", f"fully resolved: {method.text(full=True)}",
             *(f"  {p.name}: {p.info.doc}" for p in method.parts),
             *(_wrap(f"{p.name}, ours: {p.info.facts['ours']}") for p in method.parts if p.info.facts.get("ours")),
             f"options and their meaning: {', '.join(f'show {p.name}' for p in method.parts)}"]
    return "\n".join(lines + ([_count(text, backbone)] if backbone else []))


def _count(text: str, backbone: str) -> str:
    """Trained weights of the live model, counted on the meta device. Raises BackboneError where it cannot be built."""
    from ..engine import carry
    from ..engine.count import trained_weights

    check_name(backbone)
    if family(backbone) == PAIR:
        image, text_tower = parted(backbone)
        raise BackboneError(f"{backbone!r} is a pair of towers, and a card counts on one: say --backbone {image} or "
                            f"--backbone {text_tower}")
    if is_text(backbone) and (refused := (on_decoder.refusals if decodes(backbone) else refusals)(parse(text))):
        raise BackboneError(refused[0])
    known = backbone in KNOWN or decodes(backbone)
    problems = [] if known else carry.problems(backbone, [parse(text)], image_size(backbone))
    if problems:
        raise BackboneError(problems[0])
    adapter, head = trained_weights(parse(text), backbone, classes=100)
    from ..planning.memory import line

    return (f"on {backbone}: {adapter:,} trained {word(adapter, 'weight')} without the head (a head for 100 classes "
            f"adds {head:,})\n"
            + f"{'texts' if is_text(backbone) else 'images'} of {_size(backbone)}\n"
            + _wrap(line(text, backbone, classes=100)))


def _size(backbone: str) -> str:
    """What it reads: a backbone's own size, and the usual one where it differs and fits; so many tokens of a text."""
    if is_text(backbone):
        return f"{min(LONGEST, longest(backbone))} tokens"
    other = other_size(backbone)
    more = f" (its own size; most papers use {other}: --set image_size={other})" if other else ""
    return f"{image_size(backbone)} pixels{more}"


def _dataset(found: Card) -> str:
    sizes = ", ".join(f"{split} {n:,}" for split, n in found.splits.items())
    asked = {"classify": many(found.classes, "class", "classes"), "regress": "a score to predict",
             "match": "pairs to match"}
    lines = [f"data set {found.name}" + (f" (also: {', '.join(found.aliases)})" if found.aliases else ""),
             f"{found.title}; {asked[found.task]}; group {found.group}; metric {found.metric}",
             f"{found.things}: {sizes}", f"folder: {found.folder}/  ({found.layout})", f"source: {found.source}",
             f"licence: {found.license}", f"cite: {found.cite}"]
    lines += [f"by hand: {found.by_hand}"] if found.by_hand else []
    lines += [f"note: {found.note}"] if found.note else []
    return "\n".join(_wrap(line) for line in lines)


def _record(name: str, runs: Path) -> str | None:
    """A run by its id, or by enough of its first digits."""
    if len(name) < recorded.FEWEST or not all(c in "0123456789abcdef" for c in name):
        return None
    path, *others = recorded.find(name, runs)
    run = store.load(path)
    spec = {k: v for k, v in asdict(run.spec).items() if k not in ("options", "also_test")}
    shown: dict[str, Any] = {"status": run.status, "method": run.method.text, "metrics": run.metrics,
                             "params": asdict(run.params) if run.params else None,
                             "memory": asdict(run.memory) if run.memory else None, "time": asdict(run.time),
                             "failure": asdict(run.failure) if run.failure else None,
                             "provenance": asdict(run.provenance)}
    where = recorded.origin(path)
    return "\n".join([f"run {run.run_id}: {run.status}{where and f', {where}'}", *map(_other, others),
                      *filter(None, [aside.told(run)]), "spec:",
                      _pairs(spec), _pairs(dict(run.spec.options)), "result:", json.dumps(shown, indent=1),
                      *_again(run)])


def _other(path: Path) -> str:
    """A line on a further record of the same run."""
    top1 = store.load(path).metrics.get("test.top1")
    return f"{recorded.origin(path)} has the same id: test top-1 " + (
        "unknown" if top1 is None else f"{100 * top1:.2f} %") + " there"


def _again(run: RunResult) -> list[str]:
    """How to make the run again: the commit, and the command."""
    how = again(run)
    return ["make it again:", f"  git checkout {how.commit}", *([f"  {how.command}"] if how.command else []),
            *(f"  ({word})" for word in how.told)]


def _pairs(values: dict[str, Any]) -> str:
    return textwrap.fill("  " + ", ".join(f"{k}={v}" for k, v in values.items()), 110, subsequent_indent="  ")


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 110, subsequent_indent="  ")
