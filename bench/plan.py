"""From words to checked, fully resolved RunSpecs; what is done, missing, stale or failed. No torch.

Everything that can be refused is refused here, before data, weights or a queue are touched, all problems at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from datasets import registry
from datasets.card import Card, DataError
from datasets.identity import look
from methods.catalog import Scalar, broken
from methods.grammar import MethodError, MethodText, canonical, parse, usable
from results import store
from results.schema import RecordError, RunResult, RunSpec
from results.suites import Entry, Row, SuiteView, load_suite

from . import backing, settings
from .engine import backbones
from .engine.backbones import Weights
from .held import settled
from .suites import GROUPS, SUFFIX, SUITES, Suite
from .suites import find as find_suite
from .view import columns_of, fold, named, ordered, protocols_of, reference_of, unfold

ROOT = Path(__file__).resolve().parent.parent
STANDINS = ROOT / "data" / "standins"
CACHE = ROOT / ".cache" / "images"
RUNS = ROOT / "results" / "runs"
CLAIMS = ROOT / "results" / "claims"
LISTED, PARTIAL = "lists:", "partial:"  # real data as promised; with other counts, classes or images: RunSpec.partial
AGAIN = {"killed", "node"}  # kinds of failure that say nothing about the run itself: run again without being asked
State = Literal["done", "missing", "failed", "stale", "running"]


class UsageError(Exception):
    """What the user asked for cannot be; one sentence per problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Request:
    """What was typed; None where nothing was."""

    suite: str | None = None
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    sets: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    data: str | None = None  # a folder, or "standin"
    weights: Path | None = None
    no_pretrained: bool = False
    download: bool = False
    partial: bool = False  # real data that break their card's promise are run, and marked
    phase: Literal["tune", "final", "peek"] = "final"
    tuned: bool = False  # settings come from the selection
    recipe: Literal["common", "paper"] = "common"  # the suite's settings for all, or each method's published ones


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


@dataclass(frozen=True)
class Plan:
    suite: Suite
    runs: tuple[Planned, ...]
    view: SuiteView

    def count(self) -> dict[str, int]:
        """State -> number of runs, every state named."""
        states: dict[str, int] = dict.fromkeys(("done", "missing", "running", "failed", "stale"), 0)
        for run in self.runs:
            states[run.state] += 1
        return states

    def to_do(self) -> list[Planned]:
        return [r for r in self.runs if r.state == "missing"]


@dataclass
class _Resolved:
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

    def data_of(self, name: str) -> str:
        """What names the images of a run: those of its data set, and of its further test sets."""
        sets = [self.data[n] for n in self.suite.also_test.get(name, ())]
        own, further = self.data[name], "|".join(sets)
        if any(one.startswith(PARTIAL) for one in sets):
            own = PARTIAL + own.removeprefix(LISTED)
        return own + (f"+{sha256(further.encode()).hexdigest()[:12]}" if further else "")


def make(request: Request, runs: Path = RUNS, alive: set[str] | None = None) -> Plan:
    """Resolve, check, and look up what exists. Raises UsageError with every problem that was found."""
    if request.tuned:
        from .tuned import make_tuned

        return make_tuned(request, runs, alive or set())
    found = _resolve(request)
    planned = [_look_up(p, runs, alive or set()) for p in _specs(request, found)]
    return Plan(found.suite, tuple(planned), _view(request, found, planned))


def without_inputs(request: Request) -> list[Planned]:
    """The runs that are meant, for what needs neither data nor weights: their ids are not those of real runs."""
    return _specs(request, _resolve(request, inputs=False))


def suite_of(request: Request) -> Suite:
    """The suite that is meant: the named one; `custom` when a backbone or data is named without a suite; else demo."""
    name = request.suite
    if name is None:
        own = any(b != backbones.EMBEDDED for b in request.backbones) or request.data not in (None, "", "standin")
        name = "custom" if own or request.no_pretrained or request.weights else "demo"
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


def _resolve(request: Request, inputs: bool = True) -> _Resolved:
    """Everything checked; `inputs`: that data and weights are there, too. Raises UsageError with every problem."""
    suite = suite_of(request)
    problems: list[str] = []
    cards, methods = [], []
    for name in request.datasets or suite.datasets:
        try:
            cards.append(registry.get(name))
        except DataError as error:
            problems.append(str(error))
    values, overrides = settings.sets(request, suite, problems)
    for text in request.methods or suite.methods:
        try:
            methods.append((text, parse(text, overrides)))
        except MethodError as error:
            problems.append(str(error))
    if request.recipe == "paper":
        problems += [f"no published recipe is stated for {text!r}; leave it out or use --recipe common"
                     for text, method in methods if not settings.recipe_of(method)]
    if len(methods) == len(request.methods or suite.methods):
        settings.unused(overrides, methods, problems)
    names = request.backbones or suite.backbones
    if suite.standins and any(n != backbones.EMBEDDED for n in names):
        problems.append(f"suite {suite.name!r} runs on the embedded backbone {backbones.EMBEDDED!r} alone; use another "
                        f"suite for {', '.join(n for n in names if n != backbones.EMBEDDED)}")
        names = ()
    typed = {k: v for k, v in suite.protocol.items() if k == "image_size"} | values
    weights = backing.resolve(names, request, methods, typed, inputs, problems)
    if not (request.datasets or suite.datasets):
        problems.append(f"suite {suite.name!r} needs --datasets; `python -m bench list datasets` names them")
    if not (request.methods or suite.methods):
        problems.append(f"suite {suite.name!r} needs --methods, for instance 'lora' or 'lora(rank=4)+pace'")
    standins = suite.standins or request.data == "standin"
    root = STANDINS if standins else Path(request.data or os.environ.get("DATA") or "")
    needed = [*cards, *_further(suite, cards)]
    if not standins and cards and inputs:
        problems += _data_problems(needed, root, request.data or os.environ.get("DATA") or "")
    data = {} if problems else {c.name: _data_id(c, root, standins, request.partial, problems) if inputs else ""
                                for c in needed}
    if problems:
        raise UsageError(problems)
    return _Resolved(suite, cards, methods, weights, request.seeds or suite.seeds, root, standins, data, values,
                     overrides)


def _further(suite: Suite, cards: list[Card]) -> list[Card]:
    """The further test sets of these data sets, each once."""
    return list({n: registry.get(n) for c in cards for n in suite.also_test.get(c.name, ())}.values())


def _data_problems(cards: list[Card], root: Path, given: str) -> list[str]:
    """What is missing of the real data, one message for all data sets."""
    needed = [c for c in cards if c.group != "real"]
    if not needed:
        return []
    if not given:
        return [f"real data is needed for {', '.join(c.name for c in needed[:5])}"
                f"{' ...' if len(needed) > 5 else ''}: say where it lies with DATA=folder (or --root), or use "
                "DATA=standin for generated miniatures"]
    if root.is_dir():
        return []
    return [f"the data folder {given!r} does not exist; it should hold "
            + "; ".join(f"{c.folder}/ ({c.layout})" for c in needed[:3])
            + (f"; and {len(needed) - 3} more" if len(needed) > 3 else "")]


def _specs(request: Request, found: _Resolved) -> list[Planned]:
    planned = []
    suite = found.suite
    rates = {method.name: values for text, values in suite.rates.items() for method in usable(text)}
    rates |= {canonical(text): values for text, values in suite.rates.items()}  # the very text has the last word
    for name, weights in found.weights.items():
        for typed, method in found.methods:
            for card in found.cards:
                fields_, options = _settings_of(request, found, method, rates, name, card)
                further, data = suite.also_test.get(card.name, ()), found.data_of(card.name)
                for seed in found.seeds:
                    spec = settled(RunSpec(
                        dataset=card.name, model=name, method=method.name, options=options, seed=seed,
                        phase=request.phase, select="last", data=data, weights=weights.sha256, also_test=further,
                        **fields_))
                    passed: dict[str, Scalar] = {"suite": suite.name, "method": typed}
                    passed |= {"recipe": "paper"} if request.recipe == "paper" else {}
                    passed |= {f"set.{k}": v for k, v in (found.fields | found.overrides).items()}
                    planned.append(Planned(spec, method.text(), passed, found.data_root, weights.file))
    unique = {p.spec.id: p for p in planned}
    return list(unique.values())


def _settings_of(request: Request, found: _Resolved, method: MethodText, rates: dict[str, Mapping[str, Any]],
                 model: str, card: Card) -> tuple[dict[str, Any], tuple[tuple[str, Scalar], ...]]:
    """(fields of the spec, options): the suite's protocol, then the method's, the data set's, what was typed."""
    paper, common = request.recipe == "paper", rates.get(method.text(), rates.get(method.name, {}))
    chosen = settings.recipe_of(method) if paper else common
    own = found.suite.per_dataset.get(card.name, {}) if request.recipe == "common" else {}
    protocol = found.suite.protocol | dict(chosen) | {k: v for k, v in own.items() if "." not in k}
    protocol = {"threads": 1} | protocol | found.fields
    if "image_size" not in protocol:
        protocol["image_size"] = backbones.image_size(model)
    settings.fit_warmup(protocol, chosen, found.fields)
    parts = {part.name for part in method.parts}
    extra = {k: v for k, v in own.items() if "." in k and k.partition(".")[0] in parts and k not in found.overrides}
    options = parse(method.text(), dict(method.options) | extra).options if extra else method.options
    return protocol, options


def _data_id(card: Card, root: Path, standins: bool, partial: bool, problems: list[str]) -> str:
    """What names the images: the generator's hash for stand-ins, the hash of lists and files for real data."""
    from datasets.standins import standin_hash

    try:
        if card.group == "real":
            return f"shipped:{card.name}"
        if standins:
            return f"standin:{standin_hash(card.name)}"
        found = look(card, root, CACHE.parent / "lists")
    except DataError as error:
        problems.append(str(error))
        return ""
    if found.broken and not partial:
        problems.append(f"{card.name} is not what its card promises: {'; '.join(found.broken)}; --partial runs what is "
                        "there and marks it wherever it is shown")
    return (PARTIAL if found.broken else LISTED) + found.hash


def _look_up(planned: Planned, runs: Path, alive: set[str]) -> Planned:
    spec, path = planned.spec, store.path_of(planned.spec, runs)
    base = {f.name: getattr(planned, f.name) for f in fields(planned)}
    if not path.exists():
        if spec.id in alive:
            return Planned(**base | {"state": "running", "why": "a runner has claimed it"})
        return planned
    try:
        record = store.load(path)
    except RecordError as error:
        raise UsageError([f"{error}; move the file away to run it again"]) from None
    base["record"] = record
    if record.status == "ok":
        current = parse(planned.text).source_hash
        if record.method.source_hash != current:
            return Planned(**base | {"state": "stale", "why": "the method's source changed since"})
        return Planned(**base | {"state": "done"})
    kind = record.failure.kind if record.failure else ""
    if kind in AGAIN or record.status in ("cancelled", "preempted", "timeout"):
        return Planned(**base | {"state": "missing", "why": f"{record.status} before: {kind}"})
    message = record.failure.message if record.failure else ""
    return Planned(**base | {"state": "failed", "why": f"{record.status}: {message}"})


def _typed(found: _Resolved) -> list[str]:
    """The settings that were given and are not the suite's."""
    return [f"{k}={v}" for k, v in found.fields.items() if v != found.suite.protocol.get(k)]


def name_of(request: Request, found: _Resolved) -> str:
    """The set's name. Other settings than the suite's are another table: rows of two protocols do not stand side by
    side."""
    paper = ["paper"] if request.recipe == "paper" else []
    return "-".join([found.suite.name, *paper, *(re.sub(r"[^\w.+-]", "", w) for w in _typed(found))])


def _view(request: Request, found: _Resolved, planned: list[Planned]) -> SuiteView:
    """The suite as the reports see it: the whole suite, what was run of it before, and what is asked for now."""
    suite, paper = found.suite, request.recipe == "paper"
    typed, name = _typed(found), name_of(request, found)
    budget = "none: each method's published recipe" if paper else suite.budget
    entries = {_key(p): p for p in planned}
    extra: dict[tuple[str, str, str, int], Entry] = {}
    rows_before: dict[tuple[str, str], Row] = {}
    if suite.name != "custom":
        whole = Request(suite=suite.name, data=request.data, weights=request.weights, download=request.download,
                        partial=request.partial, no_pretrained=request.no_pretrained and not suite.standins)
        if whole != request and request.phase == "final" and not paper and not typed:
            entries = _whole(whole) | entries
        path = store.ROOT / "suites" / f"{name}.json"
        if path.exists():
            try:
                before = load_suite(path)
            except RecordError:
                before = None  # the file is ours and is written anew below
            if before is not None:
                rows_before = {(r.method, r.backbone): r for r in before.rows}
                ids, known = {p.spec.id for p in entries.values()}, set(registry.names())
                extra = {k: e for e in map(unfold, before.entries)
                         if (k := (e.dataset, e.method, e.backbone, e.seed)) not in entries
                         and e.run_id not in ids and e.dataset in known}  # a default or a card may have changed since
    cards = ordered({p.spec.dataset for p in entries.values()} | {e.dataset for e in extra.values()})
    rows: dict[tuple[str, str], Row] = {}
    own = {canonical(text) for text in suite.methods}
    for _, text, model, _ in entries:
        tuned = budget if paper or (text in own and not typed) else "none: the suite's common settings" if not typed \
            else "none: settings of the command line"
        rows[text, model] = Row(text, model, budget=tuned, source_hash=parse(text).source_hash)
    for key in sorted({(e.method, e.backbone) for e in extra.values()} - rows.keys()):
        rows[key] = rows_before[key]
    counted, part = named(suite, [c.name for c in cards], [text for text, _ in rows], typed, paper)
    title = ", ".join([counted, *(["published recipes"] if paper else []), *typed])
    protocol = "every method under its own published recipe" if paper else protocols_of(
        (p.text, p.spec) for p in entries.values())
    return fold(SuiteView(
        name=name, title=title, note=suite.note + part, protocol=protocol,
        columns=(shown := columns_of(suite, cards, {c.name for c in cards if found.standins and c.group != "real"})),
        groups={g: GROUPS[g] for g in GROUPS if any(c.group == g for c in shown)}, rows=tuple(rows.values()),
        entries=(*(Entry(p.spec.id, *key) for key, p in entries.items()), *extra.values()),
        reference=reference_of(suite, [text for text, _ in rows]), kind=suite.kind))


def _whole(request: Request) -> dict[tuple[str, str, str, int], Planned]:
    """Every run of the suite; none while a broken file holds one of its parts: its file keeps what was asked before."""
    try:
        return {_key(p): p for p in _specs(request, _resolve(request))}
    except UsageError:
        if not broken() and not registry.broken():
            raise
        return {}


def _key(planned: Planned) -> tuple[str, str, str, int]:
    """(data set, method, backbone, seed) as the tables show them; random weights are another backbone."""
    spec = planned.spec
    backbone = spec.model + (" (random weights)" if spec.weights == "random" else "")
    return spec.dataset, planned.text, backbone, spec.seed


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program to read."""
    return {"suite": plan.view.name, "counts": plan.count(),
            "runs": [{"id": p.spec.id, "state": p.state, "why": p.why, "method": p.text, "spec": asdict(p.spec)}
                     for p in plan.runs]}
