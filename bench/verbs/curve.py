"""`curve`: expected accuracy against the number of configurations tried, replayed from records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from results.selections import budget_curve
from results.spoken import many

from ..tuning.studies import studies_of
from .words import Verb, gpus, how, what

ORDER = 110  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    curve = verb("curve", act, "expected accuracy against the number of configurations tried, replayed from records")
    what(curve)
    how(curve)
    gpus(curve)
    curve.add_argument("--score", action="store_true", help="test every configuration first, in records of phase peek "
                       "that no leaderboard accepts")


def act(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from .. import checkout
    from ..progress import Bar
    from ..tuning.curve import scored, to_score
    from . import here, words

    here.check_device(args)
    suite, studies = studies_of(words.request_of(args))
    status = 0
    if args.score:
        todo = [p for p in to_score(words.request_of(args), studies, checkout.RUNS) if p.state == "missing"]
        if todo:
            here.tell_graphs(todo, here.device_of(args.device))
            with Bar(len(todo), f"{suite}: configurations on test") as bar:
                tally = here.carry_out(args, todo, bar.to)
            here.tell_failures(tally.failures)
            status = 1 if tally.failures else 0
    by_method: dict[tuple[str, str], list[list[Any]]] = {}
    for study, val, test in scored(studies, checkout.RUNS):
        by_method.setdefault((study.method, study.backbone), []).append(budget_curve(val, test))  # type: ignore[arg-type]
    for study in studies:
        if study.cost:
            print(f"{study.method} on {', '.join(study.datasets)} was pruned ({study.cost.text()}); what fewer "
                  "configurations would have found is told by a study without --prune alone")
    for (method, backbone), curves in by_method.items():
        size = min(len(c) for c in curves)
        tested = all(p.test is not None for c in curves for p in c)
        print(f"\n{method} on {backbone}, mean over {many(len(curves), 'study', 'studies')}:")
        rows = [(n + 1, _percent([c[n].val for c in curves]),
                 *((_percent([c[n].test for c in curves]), _percent([c[n].peeked for c in curves])) if tested else ()))
                for n in range(size)]
        heads = ("tried", "val of the best", *(("test of it", "best on test (peeking)") if tested else ()))
        print(tabulate(rows, heads, disable_numparse=True, stralign="right"))
        if not tested:
            print("test is not known for every configuration; `curve --score` tests them all, as phase peek")
    return status


def _percent(values: Sequence[float | None]) -> str:
    return f"{100 * fmean(v for v in values if v is not None):.1f}"
