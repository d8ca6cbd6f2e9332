"""`ensemble`: probabilities of several runs averaged, chosen on validation, tested once."""

from __future__ import annotations

import argparse

from .words import TRAINING, Verb, how, unshown, what, which

ORDER = 112  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("ensemble", act, "average the probabilities of a study's configurations, chosen on validation, or of "
                "all seeds; tested once, after the choice is written down")
    what(made)
    which(made)
    how(made)
    unshown(made, "jobs", *TRAINING)
    made.add_argument("--of", choices=("configurations", "seeds"), default="configurations", help="trials of `tune "
                      "--members small`, chosen greedily (default), or every seed of final runs")


def act(args: argparse.Namespace) -> int:
    from .. import checkout
    from ..tuning import combining
    from .combinations import each, pools, test

    suite, found = pools(args, classes=True)
    if args.of == "seeds":
        chosen = [combining.combination("seeds", p, [(r, 1) for r in p.runs]) for p in found]
    else:
        chosen = each(found, lambda p: combining.ensemble(p, checkout.RUNS))
    return test(args, suite, chosen)
