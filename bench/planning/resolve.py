"""What a request means: checked, fully resolved RunSpecs. No torch.

Everything that can be refused is refused here, before data, weights or a queue are touched, all problems at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from datasets import registry
from datasets.card import Card, DataError, Text
from datasets.own import note
from methods.catalog import Scalar
from methods.faults import lacking
from methods.grammar import MethodError, MethodText, canonical, parse, usable
from results.schema import RunResult, RunSpec

from .. import checkout
from ..engine import backbones, forms
from ..engine.backbones import Weights
from ..engine.wording import LONGEST, Wording, file_hash, usual_length
from ..engine.zeroshot import ClassHead
from ..suites import SUFFIX, SUITES, Suite
from ..suites import find as find_suite
from . import backing, settings
from .held import settled
from .inputs import LISTED, PARTIAL, data_id, data_problems, present
from .request import Request, UsageError

State = Literal["done", "missing", "failed", "stale", "running"]


@dataclass(frozen=True)
class Planned:
    """One run of the plan: its spec, where its inputs lie, and what is known of it."""

    spec: RunSpec
    text: str  # the method as shown
    passed: dict[str, Scalar]
    data_root: Path
    weights: Path | None
    state: State = "missing"
    why: str = ""
    record: RunResult | None = None
    head: Path | None = None  # the file of class embeddings that its head starts from


@dataclass
class Resolved:
    suite: Suite
    cards: list[Card]
    methods: list[tuple[str, MethodText]]
    weights: dict[str, Weights]
    seeds: tuple[int, ...]
    data_root: Path
    standins: bool
    data: dict[str, str]  # data set -> what names its images
    fields: dict[str, Any]
    overrides: dict[str, Scalar] = field(default_factory=dict)
    head: ClassHead | None = None  # what all heads start from, where that was asked for

    @property
    def digits(self) -> str:
        """What names the head's start in a run's spec."""
        return self.head.digits if self.head else ""

    def data_of(self, name: str) -> str:
        """What names the images of a run: those of its data set, and of its further test sets."""
        sets = [self.data[n] for n in self.suite.also_test.get(name, ())]
        own, further = self.data[name], "|".join(sets)
        if any(one.startswith(PARTIAL) for one in sets):
            own = PARTIAL + own.removeprefix(LISTED)
        return own + (f"+{sha256(further.encode()).hexdigest()[:12]}" if further else "")


def without_inputs(request: Request, unseen: bool = False) -> list[Planned]:
    """The runs that are meant, for what needs neither data nor weights: their ids are not those of real runs.

    `unseen`: a user's folder may be one that was never named here.
    """
    return specs_of(request, resolve(request, inputs=False, unseen=unseen))


def suite_of(request: Request) -> Suite:
    """The suite that is meant: the named one; `custom` when a backbone or data is named without a suite; else demo."""
    name = request.suite
    if name is None:
        own = any(b != backbones.EMBEDDED for b in request.backbones) or request.data not in (None, "", "standin")
        folders = any(note.MARK in name for name in request.datasets)
        name = "custom" if own or request.no_pretrained or request.weights else "folder" if folders else "demo"
    make = find_suite(name)
    if make is None:
        near = get_close_matches(name, SUITES, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(SUITES)}"
        raise UsageError([f"no suite is called {name!r}; {hint}"])
    suite = make()
    small = find_suite(name + SUFFIX)  # on stand-ins a suite of real data runs in miniature, on the embedded backbone
    if request.data == "standin" and not request.backbones and small is not None and suite.datasets:
        return small()
    return suite


def resolve(request: Request, inputs: bool = True, unseen: bool = False) -> Resolved:
    """Everything checked; `inputs`: that data and weights are there, too; `unseen`: as in `without_inputs`.

    Raises UsageError with every problem.
    """
    suite = suite_of(request)
    problems: list[str] = []
    cards, methods = [], []
    for name in request.datasets or suite.datasets:
        try:
            cards.append(note.card(name, note.folder(), unseen) if unseen and note.MARK in name else registry.get(name))
        except DataError as error:
            problems.append(str(error))
    values, overrides = settings.sets(request, suite, problems)
    for text in request.methods or suite.methods:
        try:
            methods.append((text, parse(text, overrides)))
        except MethodError as error:
            problems.append(str(error))
    if inputs:
        problems += [f"{text!r} {why}" for text, method in methods if (why := lacking(method.requires))]
    if request.recipe == "paper":
        problems += [f"no published recipe is stated for {text!r}{settings.why_none(method)}; leave it out or use "
                     "--recipe common" for text, method in methods if not settings.recipe_of(method)]
    if len(methods) == len(request.methods or suite.methods):
        settings.unused(overrides, methods, problems)
    names = request.backbones or suite.backbones
    if suite.standins and any(n != backbones.EMBEDDED and backbones.family(n) not in (backbones.TEXT, backbones.PAIR)
                              for n in names):
        problems.append(f"suite {suite.name!r} runs on the embedded backbone {suite.backbones[0]!r} alone; use another "
                        f"suite for {', '.join(n for n in names if n not in suite.backbones)}")
        names = ()
    typed = {k: v for k, v in suite.protocol.items() if k == "image_size"} | values
    weights: dict[str, Weights] = {}
    for name in names:
        size = {k: v for k, v in suite.per_backbone.get(name, {}).items() if k == "image_size"}
        weights |= backing.resolve((name,), request, [m for m in methods if suite.shows(name, m[0])], size | typed,
                                   inputs, problems)
    problems += dict.fromkeys(problem for name in weights for card in cards for text, method in methods
                              if suite.shows(name, text)
                              for problem in forms.input_problems(method, backbones.family(name), card,
                                                                      backbones.decodes(name)))
    problems += dict.fromkeys(problem for name in weights for problem in forms.setting_problems(
        backbones.family(name), suite.protocol | dict(suite.per_backbone.get(name, {})) | values))
    problems += [problem for card in cards for problem in (*forms.card_problems(card, suite.protocol | values),
                                                           *forms.picture_problems(card, values))]
    if not (request.datasets or suite.datasets):
        problems.append(f"suite {suite.name!r} needs --datasets; `python -m bench list datasets` names them")
    if not (request.methods or suite.methods):
        problems.append(f"suite {suite.name!r} needs --methods, for instance 'lora' or 'lora(rank=4)+pace'")
    standins = suite.standins or request.data == "standin"
    root = checkout.STANDINS if standins else Path(request.data or os.environ.get("DATA") or "")
    if inputs and not standins and not request.datasets:
        cards = present(cards, suite.also_test, root)
    needed = [*cards, *_further(suite, cards)]
    if not standins and cards and inputs:
        problems += data_problems(needed, root, request.data or os.environ.get("DATA") or "")
    data = {} if problems else {c.name: data_id(c, root, standins, request.partial, problems) if inputs else ""
                                for c in needed}
    head = backing.head_of(request, cards, weights, [m for _, m in methods], suite.protocol | values, problems)
    if problems:
        raise UsageError([*problems, *lacking_head(request)])
    return Resolved(suite, cards, methods, weights, request.seeds or suite.seeds, root, standins, data, values,
                     overrides, head)


def lacking_head(request: Request) -> list[str]:
    """A sentence where the suite's heads start from class names and no file of their embeddings was given."""
    suite = suite_of(request)
    names = " ".join(request.datasets or suite.datasets)
    return [f"suite {suite.name!r} starts its heads from the names of the classes; give --head FILE, which `python -m "
            f"bench head {names} --weights FOLDER --names NAMES --out FILE` makes of a folder of CLIP"
            ] if suite.zero_shot and request.head is None else []


def _further(suite: Suite, cards: list[Card]) -> list[Card]:
    """The further test sets of these data sets, each once."""
    return list({n: registry.get(n) for c in cards for n in suite.also_test.get(c.name, ())}.values())


def specs_of(request: Request, found: Resolved) -> list[Planned]:
    planned = []
    suite = found.suite
    rates = {method.name: values for text, values in suite.rates.items() for method in usable(text)}
    rates |= {canonical(text): values for text, values in suite.rates.items()}  # the very text has the last word
    for name, weights in found.weights.items():
        for typed, method in found.methods:
            for card in found.cards if suite.shows(name, typed) else ():
                fields_, options = _settings_of(request, found, method, rates, name, card)
                further, data = suite.also_test.get(card.name, ()), found.data_of(card.name)
                for seed in found.seeds:
                    spec = settled(RunSpec(
                        dataset=card.name, model=name, method=method.name, options=options, seed=seed,
                        phase=request.phase, select="last", data=data, weights=weights.sha256, also_test=further,
                        zero_shot=found.digits, **fields_))
                    passed: dict[str, Scalar] = {"suite": suite.name, "method": typed}
                    passed |= {"recipe": "paper"} if request.recipe == "paper" else {}
                    passed |= {f"set.{k}": v for k, v in (found.fields | found.overrides).items()}
                    passed |= {"head": found.head.told} if found.head else {}
                    root = note.folder() if note.MARK in card.name else found.data_root
                    planned.append(Planned(spec, method.text(), passed, root, weights.file,
                                           head=found.head.file if found.head else None))
    unique = {p.spec.id: p for p in planned}
    return list(unique.values())


def _as_text(found: Resolved, model: str, card: Card, length: int) -> dict[str, Any]:
    """What a run on texts has in the place of pictures' settings, one on pairs beside them; `length` 0: the set's own.
    """
    fixed = {} if card.input == "pair" else dict(forms.OF_PICTURES)
    most = backbones.longest(model)
    if length > most:
        raise UsageError([f"text_length={length} does not fit backbone {model!r}, which reads {most} tokens at most; "
                          "say a smaller one or leave it out"])
    if not found.data.get(card.name):  # nothing of the inputs is looked at
        return fixed | {"text_length": length or min(LONGEST, most)}
    try:
        file = backbones.tokenizer_file(model, found.weights[model].file)
        if found.standins and not length:  # how long the texts are must be known, so they are written now
            _write(card, found)
        asks = card.name if backbones.decodes(model) else ""
        own = length or min(most, _length(card.name, card.place(found.data_root), file, asks))
        digits = file_hash(file)
        if own < _least(file, digits, True) and (problem := _too_short(found, model, card, file, own, length)):
            raise UsageError([problem])
        return fixed | {"text_length": own, "tokenizer": digits}
    except (backbones.BackboneError, DataError) as error:
        raise UsageError([str(error)]) from None


@cache
def _least(file: Path, digits: str, two: bool) -> int:
    """Tokens at least that a tokenizer, whose hash is `digits`, makes of a text, or of two."""
    return Wording(file, 0).least(two)


def _too_short(found: Resolved, model: str, card: Card, file: Path, own: int, length: int) -> str:
    """What is wrong where a text has no room for the marks around it and a token, or nothing: two texts need more."""
    if found.standins:
        _write(card, found)
    first = card.items(card.place(found.data_root), "trainval")[0].image
    two = isinstance(first, Text) and first.b is not None and not backbones.decodes(model)
    least = _least(file, file_hash(file), two)
    if own >= least:
        return ""
    what = (f"a text of {card.name} takes {least} tokens at least: the marks that the backbone's tokenizer puts around "
            f"it, and one of {'each of its two parts' if two else 'its own'}")
    return (f"text_length={length} is too short for backbone {model!r}: {what}; say {least} or more, or leave it out"
            if length else
            f"backbone {model!r} reads {own} tokens at most, which is too short: {what}; use another backbone")


def _write(card: Card, found: Resolved) -> None:
    from datasets.standins import write

    write(card.name, found.data_root)


@cache
def _length(name: str, root: Path, file: Path, asks: str) -> int:
    """The usual length of a data set's training texts in a tokenizer's tokens."""
    return usual_length(Wording(file, 0, asks).lengths(registry.get(name).items(root, "trainval")))


def _settings_of(request: Request, found: Resolved, method: MethodText, rates: dict[str, Mapping[str, Any]],
                 model: str, card: Card) -> tuple[dict[str, Any], tuple[tuple[str, Scalar], ...]]:
    """(fields of the spec, options): the suite's protocol, then the method's, the data set's, what was typed."""
    paper, common = request.recipe == "paper", rates.get(method.text(), rates.get(method.name, {}))
    chosen = settings.recipe_of(method) if paper else common
    own = found.suite.per_dataset.get(card.name, {}) if request.recipe == "common" else {}
    shared = found.suite.protocol | dict(found.suite.per_backbone.get(model, {}))
    protocol = shared | dict(chosen) | {k: v for k, v in own.items() if "." not in k}
    protocol = {"threads": 1} | protocol | found.fields
    if "image_size" not in protocol:
        protocol["image_size"] = backbones.image_size(model)
    if card.input in ("text", "pair"):
        protocol |= _as_text(found, model, card, protocol.get("text_length", 0))
    settings.fit_warmup(protocol, chosen, found.fields)
    parts = {part.name for part in method.parts}
    extra = {k: v for k, v in own.items() if "." in k and k.partition(".")[0] in parts and k not in found.overrides}
    options = parse(method.text(), dict(method.options) | extra).options if extra else method.options
    return protocol, options
