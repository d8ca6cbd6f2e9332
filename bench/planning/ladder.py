"""The plan of `ladder`: the rows of each method side by side, from common settings to an ensemble. No torch.

Every row that has its runs' specs stands there, done or not: the common settings, the published recipe of methods that
have one, what `select` chose, what `ensemble` and `soup` made of it. They are rows of different pools, and of other
protocols where a recipe or a combination says so: a ladder compares the steps of one method, not methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from methods.grammar import canonical, parse
from results.combined import KINDS, Combination
from results.combined import load as load_combined
from results.ladder import DEFAULT, SUFFIX, label, of_combination
from results.pools import Pool
from results.selections import load_selection
from results.suites import Entry, Row, SuiteView

from ..suites import GROUPS
from . import settings
from .about import about
from .request import Request, UsageError
from .resolve import Planned, resolve, specs_of, suite_of
from .standing import columns_of, key_of, named, ordered, reference_of
from .tuned import resolve_tuned


def methods_of(request: Request) -> tuple[str, ...]:
    """The methods that the request means, or the suite's."""
    return tuple(request.methods or suite_of(request).methods)


def with_recipe(methods: Iterable[str]) -> tuple[list[str], list[str]]:
    """(methods that have a published recipe, a sentence for each that has none)."""
    texts = list(methods)
    have = [text for text in texts if settings.recipe_of(parse(text))]
    return have, [f"{text} has no published recipe{settings.why_none(parse(text))}" for text in texts
                  if text not in have]


def plain(request: Request) -> Request:
    """The same request for the settings that a selection holds: these are not typed again."""
    return replace(request, sets=(), epochs=None, batch_size=None, recipe="common", tuned=True)


def view(request: Request, folder: Path | None = None) -> SuiteView:
    """How the ladders of a suite stand in a table. Raises UsageError where nothing has been selected."""
    suite = suite_of(request)
    selection = load_selection(suite.name, folder)
    if selection is None:
        raise UsageError([f"nothing has been selected in suite {suite.name!r}; `python -m bench ladder --suite "
                          f"{suite.name} --budget 8` tunes, selects and runs every step"])
    own = {canonical(m) for m in methods_of(request)}
    known = [c.method for c in selection.choices if not request.methods or c.method in own]
    asked = replace(request, methods=tuple(dict.fromkeys(known)))
    steps: list[tuple[str, Planned]] = []
    found = resolve(asked)
    steps += [(DEFAULT, p) for p in specs_of(asked, found)]
    if recipes := with_recipe(asked.methods)[0]:
        paper = replace(asked, methods=tuple(recipes), recipe="paper")
        steps += [("paper", p) for p in specs_of(paper, resolve(paper))]
    _, planned, tuned = resolve_tuned(plain(asked), folder)
    steps += [("tuned", p) for p in planned]
    told = {(r.method, r.backbone): r for r in tuned.rows}
    combined = load_combined(suite.name, folder)
    sets = {p.spec.dataset for _, p in steps}
    taken = [c for c in combined.all if c.method in known and c.spec.dataset in sets] if combined else []
    rows: dict[tuple[str, str], Row] = {}
    entries: dict[tuple[str, str], Entry] = {}
    for step, one in steps:
        dataset, text, backbone, seed = key_of(one)
        name = label(step, text)
        first = told.get((text, backbone)) if step == "tuned" else None
        budget = first.budget if first else {
            DEFAULT: "none: the suite's common settings", "paper": "none: the published recipe"}[step]
        pool: Pool = first.pool or "tuned per set" if first else "plain"
        rows[name, backbone] = Row(name, backbone, budget, first.note if first else _recipe(step, text),
                                   parse(text).source_hash, pool)
        entries.setdefault((one.spec.id, name), Entry(one.spec.id, dataset, name, backbone, seed))
    for made in sorted(taken, key=lambda c: list(KINDS).index(c.kind)):
        _stand(made, taken, rows, entries)
    cards = ordered(sets)
    title, part = named(suite, [c.name for c in cards], known)
    standins = {p.spec.dataset for _, p in steps if p.spec.standin}
    order = {name: i for i, name in enumerate(dict.fromkeys(known))}
    return SuiteView(
        name=f"{suite.name}{SUFFIX}", title=f"{title}: what tuning bought each method",
        note="The rows of one method, step by step: the suite's common settings, the published recipe, what a search "
             "on validation chose, and what was made of several runs. Every step was fixed before its runs saw test."
             f"{' Stand-ins say nothing about the data sets whose names they bear.' if standins else ''}{part}",
        protocol="as each row says; a step that a run of an earlier one already has shows the same run",
        columns=(shown := columns_of(suite, cards, standins)),
        groups={g: GROUPS[g] for g in GROUPS if any(c.group == g for c in shown)},
        rows=tuple(sorted(rows.values(), key=lambda r: order[_method(r.method, order)])),
        entries=tuple(entries.values()), reference=reference_of(suite, known), kind=suite.kind, about=about(known))


def _method(row: str, known: Iterable[str]) -> str:
    return next(name for name in known if row == name or row.endswith(f": {name}"))


def _recipe(step: str, text: str) -> str:
    """Whose recipe it is and how sure, for a row of step `paper`."""
    if step != "paper":
        return ""
    stated = [str(p.info.facts.get("recipe_from", "")) for p in parse(text).parts if p.info.facts.get("recipe")]
    return stated[-1] if stated else ""


def _stand(one: Combination, every: Sequence[Combination], rows: dict[tuple[str, str], Row],
           entries: dict[tuple[str, str], Entry]) -> None:
    """A combination as a row of its own; what it is made of is said for each data set."""
    backbone = one.spec.model + (" (random weights)" if one.spec.weights == "random" else "")
    name = label(of_combination(one.stage, one.kind), one.method)
    same = [c for c in every if (c.kind, c.stage, c.method, c.spec.model) == (one.kind, one.stage, one.method,
                                                                              one.spec.model)]
    said = "; ".join(f"{c.text()} on {c.spec.dataset}" for c in same)
    base = rows.get((label(one.stage, one.method), backbone))
    rows[name, backbone] = Row(name, backbone, base.budget if base else "", said, parse(one.method).source_hash,
                               "ensembled")
    entries.setdefault((one.spec.id, name), Entry(one.spec.id, one.spec.dataset, name, backbone, one.spec.seed))
