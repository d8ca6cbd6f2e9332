"""The plan of `run --tuned`: final runs with the settings that `select` chose, as a suite of their own. No torch.

A tuned row stands beside tuned rows only: the suite's name gets the suffix `-tuned`. Each row says its budget and rule,
and its note what was chosen; scores on validation and ties are in the table of the tuning, by data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from methods.grammar import MethodError, parse
from results import store
from results.pools import ADAPTS, Pool
from results.schema import RecordError, RunSpec, Scalar
from results.selections import Choice, Cost, Selection, load_selection, unequal
from results.spoken import many, thing
from results.suites import Entry, Row, SuiteView, load_suite

from ..engine.describe import adapts_of
from ..suites import GROUPS, Suite
from .about import about
from .request import Request, UsageError
from .resolve import Planned, resolve, suite_of
from .standing import columns_of, named, ordered, protocols_of, reference_of


def resolve_tuned(request: Request, folder: Path | None = None) -> tuple[Suite, list[Planned], SuiteView]:
    """The suite, the final (or peek) runs of every choice that the request covers, and how they stand in a table.

    Raises UsageError.
    """
    suite = suite_of(request)
    if request.name:
        raise UsageError([f"--tuned names its set itself, {suite.name}-tuned; leave --name out"])
    selection = load_selection(suite.name, folder)
    if selection is None:
        raise UsageError([f"nothing has been selected in suite {suite.name!r}; first `tune`, then `select`"])
    if request.sets or request.epochs or request.batch_size or request.recipe != "common":
        raise UsageError(["--tuned takes every setting from the selection; give --set, --epochs, --batch-size and "
                          "--recipe to `tune` instead"])
    wanted = _wanted(request, selection)
    found = resolve(replace(request, methods=tuple(dict.fromkeys(c.method for c in wanted)),
                             datasets=tuple(dict.fromkeys(f.dataset for c in wanted for f in c.finals)),
                             backbones=tuple(dict.fromkeys(c.backbone for c in wanted))))
    planned, problems = [], []
    for choice in wanted:
        for final in choice.finals:
            if request.datasets and final.dataset not in {c.name for c in found.cards}:
                continue
            if final.weights != found.weights[choice.backbone].sha256:
                problems.append(f"{choice.method} was tuned on other weights of {choice.backbone}; tune it again")
            if final.zero_shot != found.digits:
                problems.append(f"{choice.method} was tuned with another start of its head; tune it again, or give the "
                                "same file of class embeddings with --head")
            if final.data != found.data_of(final.dataset):
                problems.append(f"{choice.method} was tuned on other images of {final.dataset}; tune it again")
            for seed in found.seeds:
                spec = replace(final, seed=seed, phase=request.phase)
                planned.append(Planned(spec, choice.method, _passed(suite, choice), found.data_root,
                                       found.weights[choice.backbone].file,
                                       head=found.head.file if found.head else None))
    if problems:
        raise UsageError(problems)
    return suite, planned, view(suite, selection, found.seeds)


def _wanted(request: Request, selection: Selection) -> list[Choice]:
    """The choices that the request names; all when it names none."""
    problems: list[str] = []
    methods = set()
    for text in request.methods:
        try:
            methods.add(parse(text).text())
        except MethodError as error:
            problems.append(str(error))
    from datasets import registry

    datasets = {registry.get(d).name for d in request.datasets}
    backbones = set(request.backbones)
    chosen = [c for c in selection.choices if (not methods or c.method in methods)
              and (not datasets or datasets & {f.dataset for f in c.finals})
              and (not backbones or c.backbone in backbones)]
    known = ", ".join(sorted({c.method for c in selection.choices}))
    problems += [f"{m!r} has not been tuned and selected in suite {selection.suite!r}; there are: {known}"
                 for m in sorted(methods - {c.method for c in chosen})]
    have = {f.dataset for c in chosen for f in c.finals}
    problems += [f"nothing has been tuned and selected on {d} in suite {selection.suite!r}"
                 for d in sorted(datasets - have)]
    if problems or not chosen:
        raise UsageError(problems or [f"nothing of what suite {selection.suite!r} has selected is meant: {known}"])
    return chosen


def _passed(suite: Suite, choice: Choice) -> dict[str, Scalar]:
    """What the record says of how its settings were found."""
    told: dict[str, Scalar] = {"suite": f"{suite.name}-tuned", "method": choice.method, "tuned.rule": choice.rule,
                               "tuned.budget": choice.effort.budget, "tuned.sampler": choice.effort.sampler,
                               "tuned.tried": len(choice.candidates), "tuned.ties": len(choice.ties),
                               "tuned.val.top1": choice.chosen.score}
    return told | {f"tuned.{k}": v for k, v in choice.chosen.config.items()}


def view(suite: Suite, selection: Selection, seeds: Sequence[int], folder: Path | None = None) -> SuiteView:
    """Every choice of the selection, with these seeds and those that were asked for before."""
    path = (folder or store.ROOT / "suites") / f"{suite.name}-tuned.json"
    known = set(seeds) | _seeds_before(path, selection)
    finals = [(choice, final) for choice in selection.choices for final in choice.finals]
    cards = ordered({final.dataset for _, final in finals})
    rows: dict[tuple[str, str], list[Choice]] = {}
    for choice in selection.choices:
        rows.setdefault((choice.method, _shown(choice.finals[0])), []).append(choice)
    standins = {final.dataset for _, final in finals if final.standin}
    warning = unequal(selection.choices)
    title, part = named(suite, [c.name for c in cards], [method for method, _ in rows])
    return SuiteView(
        name=f"{suite.name}-tuned", title=f"{title}, tuned",
        note="Every setting was chosen on validation by a rule with a name, within the budget that its row states, and "
             f"tested once.{f' Careful: {warning}.' if warning else ''}"
             f"{' Stand-ins say nothing about the data sets whose names they bear.' if standins else ''}{part}",
        protocol=f"tuned on val, then {protocols_of((choice.method, final) for choice, final in finals)}",
        columns=(shown := columns_of(suite, cards, standins)),
        groups={g: GROUPS[g] for g in GROUPS if any(c.group == g for c in shown)},
        rows=tuple(_row(method, backbone, choices) for (method, backbone), choices in rows.items()),
        entries=tuple(Entry(replace(final, seed=seed).id, final.dataset, choice.method, _shown(final), seed)
                      for choice, final in finals for seed in sorted(known)),
        reference=reference_of(suite, [method for method, _ in rows]), kind=suite.kind,
        about=about(method for method, _ in rows))


def _shown(spec: RunSpec) -> str:
    """The backbone as tables show it; random weights are another one."""
    return spec.model + (" (random weights)" if spec.weights == "random" else "")


def _row(method: str, backbone: str, choices: Sequence[Choice]) -> Row:
    budgets = ", ".join(dict.fromkeys(c.effort.text(len(c.candidates)) for c in choices))
    rules = ", ".join(dict.fromkeys(c.rule for c in choices))
    costs = [c.cost for c in choices if c.cost]
    spent = f"; {Cost(sum(c.epochs for c in costs), sum(c.whole for c in costs)).text()} trained" if costs else ""
    return Row(method, backbone, budget=f"{budgets}; rule {rules}{spent}", note=_chosen(choices),
               source_hash=parse(method).source_hash, pool=_pool(choices))


def _pool(choices: Sequence[Choice]) -> Pool:
    if any(adapts_of(final) for choice in choices for final in choice.finals):
        return ADAPTS
    return "tuned for all sets" if _for_all(choices) else "tuned per set"


def _for_all(choices: Sequence[Choice]) -> bool:
    """Whether one setting holds for several data sets."""
    return len(choices) == 1 and len({f.dataset for f in choices[0].finals}) > 1


def _chosen(choices: Sequence[Choice]) -> str:
    """What was chosen: one setting with its score and ties, or settings with the data sets that got them."""
    if len(choices) == 1:
        (one,) = choices
        several = ", one setting for all data sets" if _for_all(choices) else ""
        score = "" if one.chosen.score is None else f"{100 * one.chosen.score:.1f} % there; "
        things = " and ".join(sorted({f"{thing(f.image_size, f.tokenizer)}s" for f in one.finals}))
        return (f"chosen: {_setting(one)}{several}, on the validation {things} of "
                f"{_listed(one.datasets)} ({score}{_tied(one)}{_edge(one)})")
    groups: dict[str, list[str]] = {}
    for choice in choices:
        groups.setdefault(_setting(choice), []).extend(f.dataset for f in choice.finals)
    return "chosen for each data set: " + "; ".join(f"{what} on {_listed(sets)}" for what, sets in groups.items())


def _tied(choice: Choice) -> str:
    """How many settings validation could not tell apart; of a pruned study that is known of those that ended alone."""
    aside = sum(c.score is None for c in choice.candidates) if choice.cost is not None else 0
    every = many(len(choice.candidates), "setting")
    return f"{aside} of {every} set aside before the end" if aside else \
        f"{len(choice.ties)} of {every} within one standard error"


def _edge(choice: Choice) -> str:
    """Numbers that were chosen at the edge of what was searched: the best may lie beyond."""
    found = []
    for name, value in choice.chosen.config.items():
        tried = sorted({float(v) for c in choice.candidates if _number(v := c.config.get(name))})
        if len(tried) > 2 and _number(value) and float(value) in (tried[0], tried[-1]):
            found.append(f"; {name} at the edge of {tried[0]:g} to {tried[-1]:g}, all that was searched")
    return "".join(found)


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setting(choice: Choice) -> str:
    return ", ".join(f"{k}={_plain(v)}" for k, v in choice.chosen.config.items()) or "the settings as they are"


def _plain(value: Scalar) -> str:
    """A whole number without a point, whatever the sampler made of it."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return str(value)


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _seeds_before(path: Path, selection: Selection) -> set[int]:
    """Seeds that the file already asks for, with the settings that are selected now."""
    try:
        before = load_suite(path)
    except RecordError:
        return set()
    finals = {(c.method, f.dataset): f for c in selection.choices for f in c.finals}
    return {e.seed for e in before.entries
            if (f := finals.get((e.method, e.dataset))) and replace(f, seed=e.seed).id == e.run_id}
