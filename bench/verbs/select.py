"""`select`: choose settings among what was tuned, by a rule with a name."""

from __future__ import annotations

import argparse
import shlex
import sys

from results.selections import Choice, Selection, load_selection, save_selection, unequal

from ..tuning.rules import RULES
from ..tuning.studies import studies_of
from .words import TRAINING, Verb, how, unshown, what

ORDER = 100  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    selecting = verb("select", act, "choose settings among what was tuned, by a rule with a name; `run --tuned` "
                     "then tests them")
    what(selecting)
    how(selecting)
    unshown(selecting, "jobs", "device", "no_cache", "strict", *TRAINING)
    selecting.add_argument("--rule", choices=tuple(RULES), help="default: best_val, with folds kfold_mean")


def act(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from .. import checkout
    from ..tuning.rules import choose, records_of, untried
    from . import words

    request = words.request_of(args)
    suite, studies = studies_of(request)
    records = records_of({run for s in studies for t in s.trials for run in t.runs}, checkout.RUNS)
    choices = [choose(s, records, args.rule or ("kfold_mean" if s.effort.folds else "best_val"),
                      untried(request, s)) for s in studies]
    before = load_selection(suite)
    anew = {(c.method, c.backbone, d) for c in choices for d in c.datasets}
    old = before.choices if before else ()
    kept = [c for c in old if not any((c.method, c.backbone, d) in anew for d in c.datasets)]
    selection = Selection(suite, (*kept, *choices))
    save_selection(selection)
    heads = ("method", "data set", "chosen", "val top-1", "ties", "budget", "rule")
    print(tabulate([_line(c) for c in choices], heads))
    headed = any(final.zero_shot for choice in choices for final in choice.finals)
    print(f"\nThe same settings are tested by: python -m bench run --suite {suite} --tuned --seeds 0 1 2"
          + (f" --head {shlex.quote(str(request.head or 'FILE'))}" if headed else "")
          + (" --partial" if request.partial else ""))
    warning = unequal(selection.choices)
    if warning:  # it also stands above the table
        print(f"regatta: {warning}", file=sys.stderr)
    return 0


def _line(choice: Choice) -> tuple[str, ...]:
    won = choice.chosen
    where = choice.datasets[0] if len(choice.datasets) == 1 else f"{len(choice.datasets)} together"
    settings = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in won.config.items())
    return (choice.method, where, settings or "as it is", f"{100 * (won.score or 0):.1f} ± {100 * (won.se or 0):.1f}",
            f"{len(choice.ties)} of {len(choice.candidates)}", choice.effort.text(len(choice.candidates)), choice.rule)
