"""`ladder`: every step of a method side by side, from common settings to an ensemble; does what is not done yet."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from ..planning.request import UsageError
from ..planning.settings import whole
from ..tuning.halving import PRUNE
from .words import Verb, gpus, how, what

ORDER = 114  # in the list of commands


@dataclass(frozen=True)
class Quiet:
    """What the commands behind a step are told beside the words of the ladder."""

    name: str | None = None
    tuned: bool = False
    phase: str = "final"
    recipe: str = "common"
    dry_run: bool = False
    no_report: bool = True
    again: str | None = None
    accept: tuple[str, ...] = ()
    at_least: str = "claimed"
    sampler: str | None = None
    sampler_seed: int = 0
    folds: int = 0
    per: str | None = None
    rule: str | None = None
    members: str = "small"
    of: str = "configurations"


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("ladder", act, "common settings, published recipe, tuned, tuned and ensembled: the rows of each method "
                "side by side, with what each step added and cost; does what is not done yet")
    what(made)
    how(made)
    gpus(made)
    made.add_argument("--budget", type=whole, required=True, metavar="N",
                      help="configurations per method and data set, as of `tune`")
    made.add_argument("--prune", choices=PRUNE, default="none", help="as of `tune` (default: none)")
    made.add_argument("--no-report", action="store_true", help="leave the tables as they are")


def act(args: argparse.Namespace) -> int:
    from results.suites import amending, save_suite

    from ..planning import ladder
    from . import ensemble, here, run, select, tune, words

    tune.meant(_words(args, {"seeds": []}))  # what is wrong with the words is told before anything is run
    request = words.request_of(args)
    have, without = ladder.with_recipe(ladder.methods_of(request))
    for sentence in without:
        print(sentence)
    status = 0
    seeds = args.seeds
    for title, action, changes in (
            ("common settings", run.act, {}), ("published recipe", run.act, {"recipe": "paper", "methods": have}),
            ("search", tune.act, {"seeds": []}), ("choice", select.act, {}),
            ("tuned", run.act, {"tuned": True, "sets": [], "epochs": None, "batch_size": None}),
            ("ensembled", ensemble.act, {})):
        if title == "published recipe" and not have:
            continue
        print(f"\n== {title}")
        try:
            status = max(status, action(_words(args, {"seeds": seeds} | changes)))
        except UsageError as error:
            if title != "ensembled":  # a search of which one setting alone reached its end has none
                raise
            print("; ".join(error.problems))
    with amending():
        save_suite(ladder.view(request))
    if not args.no_report:
        status = max(status, here.report(args))
    return status


def _words(args: argparse.Namespace, changes: dict[str, object]) -> argparse.Namespace:
    """The ladder's own words, with what a step changes."""
    return argparse.Namespace(**{f.name: getattr(Quiet(), f.name) for f in fields(Quiet)} | vars(args)
                              | {"no_report": True} | changes)
