"""How a set of runs will stand in a table: its columns, rows, title and note. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from datasets import registry
from datasets.card import Card
from methods.grammar import canonical, parse
from results import scores, store
from results.pools import ADAPTS
from results.schema import RecordError, RunSpec
from results.spoken import many
from results.suites import Column, Entry, Row, SuiteView, load_suite

from ..engine.describe import adapts_of
from ..suites import GROUPS, Suite
from .about import about
from .request import Request, UsageError
from .resolve import Planned, Resolved, resolve, specs_of


def _typed(found: Resolved) -> list[str]:
    """The settings that were given and are not the suite's."""
    start = ["zero_shot"] if found.head and not found.suite.zero_shot else []
    return [f"{k}={v}" for k, v in found.fields.items() if v != found.suite.protocol.get(k)] + start


def name_of(request: Request, found: Resolved) -> str:
    """The set's name. Other settings than the suite's are another table: rows of two protocols do not stand side by
    side. One's own name has the last word."""
    if request.name:
        return request.name
    paper = ["paper"] if request.recipe == "paper" else []
    return "-".join([found.suite.name, *paper, *(re.sub(r"[^\w.+-]", "", w) for w in _typed(found))])


def view_of(request: Request, found: Resolved, planned: list[Planned]) -> SuiteView:
    """The suite as the reports see it: the whole suite, what was run of it before, and what is asked for now."""
    suite, paper = found.suite, request.recipe == "paper"
    typed, name = _typed(found), name_of(request, found)
    budget = "none: each method's published recipe" if paper else suite.budget
    entries = {key_of(p): p for p in planned}
    extra: dict[tuple[str, str, str, int], Entry] = {}
    rows_before: dict[tuple[str, str], Row] = {}
    whole = Request(suite=suite.name, data=request.data, weights=request.weights, head=request.head,
                    download=request.download,
                    partial=request.partial, no_pretrained=request.no_pretrained and not suite.standins)
    if suite.datasets and suite.methods and not request.name and whole != request and request.phase == "final" \
            and not paper and not typed:
        entries = _whole(whole) | entries
    path = store.ROOT / "suites" / f"{name}.json"
    if path.exists():
        try:
            before = load_suite(path)
        except RecordError:
            before = None  # the file is ours and is written anew below
        if before is not None:
            rows_before = {(r.method, r.backbone): r for r in before.rows}
            ids = {p.spec.id for p in entries.values()}
            kinds = {c.name: c.standin for c in before.columns}  # real and drawn images never share a column
            extra = {k: e for e in map(unfold, before.entries)
                     if (k := (e.dataset, e.method, e.backbone, e.seed)) not in entries
                     and e.run_id not in ids and registry.known(e.dataset)  # a default or a card may have changed since
                     and (kinds.get(e.dataset, found.standins) == found.standins
                          or _always_real(registry.get(e.dataset)))}
    cards = ordered({p.spec.dataset for p in entries.values()} | {e.dataset for e in extra.values()})
    rows: dict[tuple[str, str], Row] = {}
    own = {canonical(text) for text in suite.methods}
    for (_, text, model, _), one in entries.items():
        chosen = text in own and not typed
        tuned = budget if paper or chosen else "none: the suite's common settings" if not typed \
            else "none: settings of the command line"
        pool = ADAPTS if adapts_of(one.spec) else suite.pool if chosen and not paper else "plain"
        rows[text, model] = Row(text, model, budget=tuned, source_hash=parse(text).source_hash, pool=pool)
    for key in sorted({(e.method, e.backbone) for e in extra.values()} - rows.keys()):
        rows[key] = rows_before[key]
    counted, part = named(suite, [c.name for c in cards], [text for text, _ in rows], typed, paper)
    title = ", ".join([*([f"{name}: {counted}"] if request.name else [counted]),
                       *(["published recipes"] if paper else []), *typed])
    protocol = "every method under its own published recipe" if paper else protocols_of(
        (p.text, p.spec) for p in entries.values())
    return fold(SuiteView(
        name=name, title=title, note=suite.note + part, protocol=protocol,
        columns=(shown := columns_of(suite, cards, {c.name for c in cards if found.standins and not _always_real(c)})),
        groups={g: GROUPS[g] for g in GROUPS if any(c.group == g for c in shown)}, rows=tuple(rows.values()),
        entries=(*(Entry(p.spec.id, *key) for key, p in entries.items()), *extra.values()),
        reference=reference_of(suite, [text for text, _ in rows]), kind=suite.kind,
        about=about(text for text, _ in rows)))


def _always_real(card: Card) -> bool:
    """Whether a set has no stand-in because it ships with a library."""
    return card.group == "real" and not card.folder


def _whole(request: Request) -> dict[tuple[str, str, str, int], Planned]:
    """Every run of the suite; none where it cannot be planned here though the part that is asked for can: a package is
    not installed, a file is broken. The suite's file keeps what was asked before."""
    try:
        return {key_of(p): p for p in specs_of(request, resolve(request))}
    except UsageError:
        return {}


def key_of(planned: Planned) -> tuple[str, str, str, int]:
    """(data set, method, backbone, seed) as the tables show them; random weights are another backbone."""
    spec = planned.spec
    backbone = spec.model + (" (random weights)" if spec.weights == "random" else "")
    return spec.dataset, planned.text, backbone, spec.seed


def reference_of(suite: Suite, texts: Sequence[str]) -> str:
    """The row that others are compared with, as the tables write it."""
    wanted = canonical(suite.reference)
    return wanted if wanted in texts or "linear" not in texts else "linear"


def ordered(names: set[str]) -> list[Card]:
    """Their cards in the order of the tables."""
    return [registry.get(n) for n in sorted(names, key=registry.rank)]


def columns_of(suite: Suite, cards: Sequence[Card], standins: set[str]) -> tuple[Column, ...]:
    """A column for each data set, one for each of its further test sets, a curve's place for few shots."""
    columns = []
    homes = {(_home(name), further) for name, sets in suite.also_test.items() for further in sets}
    several = len({further for _, further in homes}) < len(homes)  # a set that tests two others needs their names
    for card in cards:
        standin, further = card.name in standins, [registry.get(n) for n in suite.also_test.get(card.name, ())]
        shots = int(card.facts["shots"]) if suite.kind == "fewshot" else None
        family = card.name.partition("_")[0] if shots is not None else ""
        metric = card.metric if card.metric == "class_mean" or scores.scored(card.metric) else "top1"
        columns.append(Column(card.name, _titled(card.title, metric), "id" if further else card.group, standin,
                              card.classes, family=family, shots=shots, metric=metric))
        for other in further:
            mask = other.facts.get("mask")
            title = _titled(f"{other.title}, of {card.title}" if several else other.title, metric)
            column = Column(f"{card.name}:{other.name}", title, "ood", standin, other.classes, card.name,
                            f"test:{other.name}", metric=metric)
            if mask:  # the field scores these sets among the classes that they hold
                columns.append(replace(column, name=f"{column.name}@", title=f"{title} (its 200 classes)",
                                       classes=200, split=f"test:{other.name}@{mask}"))
                column = replace(column, title=f"{title} (all 1,000 outputs)", group="ood_all")
            columns.append(column)
    order = list(GROUPS)
    return tuple(sorted(columns, key=lambda c: order.index(c.group)))


def _titled(title: str, metric: str) -> str:
    """A column's head says what its numbers are, where that is not plain accuracy."""
    return title if metric == "top1" else f"{title} ({scores.NAMES[metric]})"


COUNTED = re.compile(r"(^| on )\d+ (stand-in|data set|architecture|method).*$")  # what a title counts


def named(suite: Suite, datasets: Iterable[str], methods: Iterable[str], typed: Sequence[str] = (),
          paper: bool = False) -> tuple[str, str]:
    """(title, sentences behind the note) of a table of this suite: a title counts only what the table holds."""
    own, sets = {canonical(text): None for text in suite.methods}, set(datasets)
    rows = dict.fromkeys(methods)
    if sets == set(suite.datasets) and set(rows) == set(own) and not typed and not paper:
        return suite.title, ""
    head, colon, rest = suite.title.partition(": ")
    kept = ", ".join(filter(None, (COUNTED.sub("", part) for part in rest.split(", "))))
    further, elsewhere = [m for m in rows if m not in own], sorted(sets - set(suite.datasets))
    said = ["Every row has the published recipe of its method, not the suite's settings."] if paper else []
    if typed:
        said.append(f"Settings of the command line ({', '.join(typed)}) replace the suite's; what the suite chose was "
                    "chosen without them.")
    if own and further and not paper:
        said.append(f"Rows that are not the suite's own ({', '.join(further)}) have settings that were not chosen for "
                    "them.")
    if suite.datasets and elsewhere:
        said.append(f"Not the suite's own data sets: {', '.join(elsewhere)}.")
    here = [(len(own.keys() & rows.keys()), len(own), "methods"),
            (len(sets & set(suite.datasets)), len(set(suite.datasets)), "data sets")]
    parts = [f"{some} of its {every} {what}" for some, every, what in here if some < every]
    said += [f"Of the suite this table holds {' and '.join(parts)}."] if parts else []
    return head + (colon + kept if kept else ""), "".join(f" {sentence}" for sentence in said)


def _protocol(spec: RunSpec) -> tuple[str, ...]:
    """The protocol part by part, as captions print it."""
    decay = {"matrices": "", "timm": " (decay: timm's rule)", "all": " (decay: every weight)"}[spec.decay]
    return (f"{many(spec.epochs, 'epoch')}", f"batch {spec.batch_size}", spec.optimizer + decay,
            f"{spec.schedule} schedule", spec.precision, _sizes(spec),
            f"normalisation {spec.normalise}"
            + (f", heads that start from seed {spec.head_seed}" if spec.head_seed is not None else "")
            + (", heads that start from class names" if spec.zero_shot else "")
            + (f", {spec.loss} loss" if spec.loss else "")
            + (f", batch norms in {spec.batch_norm} mode" if spec.batch_norm != "method" else ""))


def _sizes(spec: RunSpec) -> str:
    tokens = f"{spec.text_length} tokens" if spec.text_length else ""
    if not spec.image_size:
        return f"texts cut at {tokens}"
    return f"{spec.image_size} pixels" + (f" and {tokens}" if tokens else "")


def protocols_of(runs: Iterable[tuple[str, RunSpec]]) -> str:
    """The protocol of all runs (method, spec) in one line; where they differ, which rows have what."""
    every = list(runs)
    parts = []
    for texts in zip(*(_protocol(spec) for _, spec in every), strict=True):
        if len(set(texts)) == 1:
            parts.append(texts[0])
            continue
        for names in ([method for method, _ in every], [spec.model for _, spec in every]):
            told = {text: list(dict.fromkeys(n for n, t in zip(names, texts, strict=True) if t == text))
                    for text in dict.fromkeys(texts)}
            if sum(map(len, told.values())) == len(set(names)):  # a name has one of them only
                parts.append(" or ".join(f"{text} ({_few(whose)})" for text, whose in told.items()))
                break
        else:
            parts.append(f"{' or '.join(dict.fromkeys(texts))} by data set")
    peers: dict[tuple[str, str, str], set[str]] = {}
    for _, spec in every:
        peers.setdefault((spec.dataset, spec.model, spec.weights), set()).add(spec.protocol_id)
    mixed = any(len(ids) > 1 for ids in peers.values())
    return (f"{', '.join(parts)}; trained on train and val, tested once after the last epoch"
            + ("; rows of different protocols are neither ranked nor compared" if mixed else ""))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else many(len(names), "row")


LISTS = 3  # of shots, for each set and each number of shots


def fold(view: SuiteView) -> SuiteView:
    """The lists of shots of one size are repetitions: one column for all, and an entry's seed counts them."""
    columns: dict[str, Column] = {}
    for column in view.columns:
        card = registry.get(column.run_dataset or column.name)
        if "seed" not in card.facts:
            columns[column.name] = column
            continue
        home, said = _home(card.name), f", lists {card.facts['seed']}"
        own = {"name": home} if not column.run_dataset else {
            "name": home + column.name.removeprefix(card.name), "run_dataset": home}
        group = f"shots{column.shots}" if column.shots is not None else column.group
        columns[own["name"]] = replace(column, **own, title=column.title.replace(said, ""), group=group)  # type: ignore[arg-type]
    order = list(GROUPS)
    shown = tuple(sorted(columns.values(), key=lambda c: order.index(c.group)))
    groups = {g: GROUPS[g] for g in order if any(c.group == g for c in shown)}
    return replace(view, columns=shown, groups=groups, entries=tuple(map(_fold_entry, view.entries)))


def _home(name: str) -> str:
    """`food101_4shot_s2` -> `food101_4shot`; other names stay."""
    return name.rpartition("_s")[0] if "seed" in registry.get(name).facts else name


def _fold_entry(entry: Entry) -> Entry:
    facts = registry.get(entry.dataset).facts
    if "seed" not in facts:
        return entry
    return replace(entry, dataset=_home(entry.dataset), seed=LISTS * entry.seed + int(facts["seed"]))


def unfold(entry: Entry) -> Entry:
    """What `fold` made of an entry, undone."""
    name = f"{entry.dataset}_s{entry.seed % LISTS}"
    return replace(entry, dataset=name, seed=entry.seed // LISTS) if name in registry.names() else entry
