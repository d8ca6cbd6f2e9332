"""How a suite stands in a table: its columns, its protocol in a line, the row that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasets import registry
from datasets.card import Card
from methods.grammar import parse
from results.schema import RunSpec
from results.suites import Column, Entry, SuiteView

from .suites import GROUPS, Suite


def reference_of(suite: Suite, texts: Sequence[str]) -> str:
    """The row that others are compared with, as the tables write it."""
    wanted = parse(suite.reference).text()
    return wanted if wanted in texts or "linear" not in texts else "linear"


def columns_of(suite: Suite, cards: Sequence[Card], standins: set[str]) -> tuple[Column, ...]:
    """A column for each data set, one for each of its further test sets, a curve's place for few shots."""
    columns = []
    homes = {(_home(name), further) for name, sets in suite.also_test.items() for further in sets}
    several = len({further for _, further in homes}) < len(homes)  # a set that tests two others needs their names
    for card in cards:
        standin, further = card.name in standins, [registry.get(n) for n in suite.also_test.get(card.name, ())]
        shots = int(card.facts["shots"]) if suite.kind == "fewshot" else None
        family = card.name.partition("_")[0] if shots is not None else ""
        columns.append(Column(card.name, card.title, "id" if further else card.group, standin, card.classes,
                              family=family, shots=shots))
        for other in further:
            mask = other.facts.get("mask")
            title = f"{other.title}, of {card.title}" if several else other.title
            column = Column(f"{card.name}:{other.name}", title, "ood", standin, other.classes, card.name,
                            f"test:{other.name}")
            if mask:  # the field scores these sets among the classes that they hold
                columns.append(replace(column, name=f"{column.name}@", title=f"{title} (its 200 classes)",
                                       classes=200, split=f"test:{other.name}@{mask}"))
                column = replace(column, title=f"{title} (all 1,000 outputs)", group="ood_all")
            columns.append(column)
    order = list(GROUPS)
    return tuple(sorted(columns, key=lambda c: order.index(c.group)))


def protocol_of(spec: RunSpec) -> str:
    """The protocol in one line, as captions print it."""
    return (f"{spec.epochs} epochs, batch {spec.batch_size}, {spec.optimizer}, {spec.schedule} schedule, "
            f"{spec.precision}, {spec.image_size} pixels, normalisation {spec.normalise}; trained on train and val, "
            "tested once after the last epoch")


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
