"""How a suite stands in a table: its columns, its protocol in a line, the row that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasets import registry
from datasets.card import Card
from methods.grammar import parse
from results.schema import RunSpec
from results.suites import Column

from .suites import GROUPS, Suite


def reference_of(suite: Suite, texts: Sequence[str]) -> str:
    """The row that others are compared with, as the tables write it."""
    wanted = parse(suite.reference).text()
    return wanted if wanted in texts or "linear" not in texts else "linear"


def columns_of(suite: Suite, cards: Sequence[Card], standins: set[str]) -> tuple[Column, ...]:
    """A column for each data set, one for each of its further test sets, a curve's place for few shots."""
    columns = []
    for card in cards:
        standin, further = card.name in standins, [registry.get(n) for n in suite.also_test.get(card.name, ())]
        shots = int(card.facts["shots"]) if suite.kind == "fewshot" else None
        family = card.name.partition("_")[0] if shots is not None else ""
        columns.append(Column(card.name, card.title, "id" if further else card.group, standin, card.classes,
                              family=family, shots=shots))
        for other in further:
            mask = other.facts.get("mask")
            title = f"{other.title}, of {card.title}" if len(suite.also_test) > 1 else other.title
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
