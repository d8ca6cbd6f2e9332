"""`soup`: the weights of several runs averaged, tested once; needs runs that began alike."""

from __future__ import annotations

import argparse
from dataclasses import replace

from results.combined import Combination, Kind

from ..planning.request import UsageError
from ..tuning.combining import Pool
from .words import TRAINING, Verb, how, unshown, what, which

ORDER = 113  # in the list of commands
KINDS: dict[str, Kind] = {"uniform": "soup_uniform", "greedy": "soup_greedy", "stock": "model_stock"}


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("soup", act, "average the weights of a study's configurations or of all seeds: uniform, greedy on "
                "validation, or Model Stock; tested once, after the choice is written down")
    what(made)
    which(made)
    how(made)
    unshown(made, "jobs", *TRAINING)
    made.add_argument("--of", choices=("configurations", "seeds"), default="configurations", help="trials of `tune "
                      "--members small`, or every seed of final runs, which need `--set head_seed=0` (default: "
                      "configurations)")
    made.add_argument("--kind", choices=tuple(KINDS), default="uniform", help="greedy adds runs, best first, that do "
                      "not lower validation accuracy; stock draws the mean towards the start (default: uniform)")


def act(args: argparse.Namespace) -> int:
    from .combinations import each, pools, test

    if args.of == "seeds" and args.kind == "greedy":
        raise UsageError(["a greedy soup is chosen on validation images, on which final runs have trained; use --kind "
                          "uniform or stock for seeds, or --of configurations"])
    suite, found = pools(args)
    return test(args, suite, each(found, lambda pool: _chosen(args, pool)))


def _chosen(args: argparse.Namespace, pool: Pool) -> Combination:
    """What goes in. Raises UsageError where the runs are no ingredients of one soup."""
    from methods.weights import StoredError

    from ..engine.combine import Soup, greedy, opened, uniform
    from ..tuning import combining
    from .combinations import ingredients, place

    first = pool.runs[0]
    alike = replace(pool, runs=tuple(r for r in pool.runs if combining.spec_alike(r.spec, first.spec)))
    if len(alike.runs) < 2:
        raise UsageError([f"{pool.where}: no other run has the options of the best one, and weights of different "
                          "options are no average"])
    taken, val = list(range(len(alike.runs))), None
    try:
        spec = replace(first.spec, phase="tune", fold="", until=0)
        where = place(args, first)
        soup = Soup(spec, ingredients([(r, 1) for r in alike.runs]), where, opened(spec, where))
        if args.kind == "greedy":
            taken = greedy(soup)
            val = soup.val(uniform([soup.all[i] for i in taken]))
    except StoredError as error:
        raise UsageError([f"{pool.where}: {error}"]) from None
    return combining.combination(KINDS[args.kind], alike, [(alike.runs[i], 1) for i in taken], val)
