"""`tune`: search settings on validation images, one budget for all methods."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from results.selections import Cost, Effort
from results.spoken import many, word

from ..planning.request import UsageError
from ..planning.resolve import Planned
from ..planning.settings import whole
from ..tuning.halving import PRUNE
from ..tuning.samplers import SAMPLERS
from ..units import size
from .words import Verb, gpus, how, what

if TYPE_CHECKING:
    from ..tuning.search import Search

ORDER = 90  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    tuning = verb("tune", act, "search settings on the validation split, one budget for all methods; every trial is "
                  "an ordinary record of phase tune")
    what(tuning)
    how(tuning)
    gpus(tuning)
    tuning.add_argument("--budget", type=whole, required=True, metavar="N",
                        help="configurations per method and data set")
    tuning.add_argument("--sampler", choices=SAMPLERS, help="default: the suite's, else tpe")
    tuning.add_argument("--folds", type=whole, default=0, metavar="K",
                        help="cross-validate over train and val together")
    tuning.add_argument("--per", choices=("dataset", "suite"), help="a setting for each data set, or one for all of "
                        "them together (default: the suite's choice, else dataset)")
    tuning.add_argument("--prune", choices=PRUNE, default="none", help="halving: the worse half of a bracket is set "
                        "aside after a quarter of the epochs, and again after half of them; half the epochs of a "
                        "search without (default: none)")
    tuning.add_argument("--members", choices=("none", "small", "all"), default="none", help="store what `ensemble` and "
                        "`soup` need of every configuration: probabilities on val in float16 and the trained weights; "
                        "small: of sets with at most 1,000 classes; all: of any (default: none)")
    tuning.add_argument("--again", choices=("failed",), help="also run failed trials once more")
    tuning.add_argument("--sampler-seed", type=whole, default=0, metavar="N", help="of random and tpe (default: 0)")


def meant(args: argparse.Namespace) -> tuple[str, list[Search], Effort]:
    """(the suite, its searches, what each may spend). Raises UsageError for whatever is wrong with the words."""
    from ..planning import resolve
    from ..tuning.search import searches
    from . import here, words

    request = words.request_of(args)
    if problems := resolve.lacking_head(request):
        raise UsageError(problems)
    chosen = resolve.suite_of(request).tuning
    effort = _effort(args, args.sampler or chosen.sampler)
    words.workers(args)
    here.check_device(args)
    per = args.per
    if chosen.datasets and not request.datasets and per != "dataset":
        per, request = "suite", replace(request, datasets=chosen.datasets)
    return *searches(request, effort, per == "suite", args.sampler_seed), effort


def act(args: argparse.Namespace) -> int:
    from .. import checkout
    from ..progress import Bar
    from ..tuning.search import run
    from . import here

    suite, moving, effort = meant(args)
    here.tell_graphs([p for one in moving for p in one.base], here.device_of(args.device))
    failures: list[Any] = []
    expected = sum(one.expected() for one in moving)
    before = 0.0
    with Bar(expected, f"{suite}: trials") as bar:
        def carry_out(todo: list[Planned]) -> None:
            nonlocal before
            start = before
            tally = here.carry_out(args, todo, lambda done, label: bar.to(start + done, label))
            before += len(todo)
            failures.extend(tally.failures)

        lost = run(suite, moving, checkout.RUNS, carry_out, again=args.again == "failed",
                   checkpoints=here.checkpoints(), members=args.members)
    tried = [len(one.trials) for one in moving]
    studies = many(len(moving), "study", "studies")
    print(f"suite {suite}: {studies}, {many(sum(tried), 'configuration')} ({effort.text()}), "
          f"{before:.0f} {word(before, 'run')} done now"
          + (f", {many(lost, 'configuration')} without a score" if lost else ""))
    _tell_epochs(moving)
    if args.members != "none":
        _tell_bytes(moving)
    for one in moving:
        if len(one.trials) < effort.budget:
            print(f"{one.method} on {', '.join(one.datasets)}: {len(one.trials)} of {effort.budget}, its space "
                  f"({'; '.join(f'{k}: {d.text()}' for k, d in one.space.items()) or 'empty'}) holds no more")
    here.tell_failures(failures)
    return 1 if lost else 0


def _tell_epochs(moving: Sequence[Search]) -> None:
    """What pruned studies have trained, by method: rows with other numbers were not tuned alike."""
    spent: dict[str, Cost] = {}
    for one in moving:
        if (cost := one.study().cost) is not None:
            before = spent.get(one.method, Cost(0, 0))
            spent[one.method] = Cost(before.epochs + cost.epochs, before.whole + cost.whole)
    for method, cost in spent.items():
        print(f"{method}: {cost.text()} trained, {100 * (1 - cost.epochs / cost.whole):.0f} % saved by setting aside "
              "what was behind")


def _tell_bytes(moving: Sequence[Search]) -> None:
    """What is stored for ensembles and soups."""
    from .. import checkout
    from ..tuning.rules import records_of

    records = records_of({run for one in moving for t in one.trials for run in t.trial().runs}, checkout.RUNS).values()
    held = {kind: sum(a.bytes for r in records for a in r.artifacts if a.kind == kind)
            for kind in ("probabilities", "adapter")}
    print(f"stored for ensembles and soups: {size(held['probabilities'])} of probabilities on val (float16), "
          f"{size(held['adapter'])} of trained weights")


def _effort(args: argparse.Namespace, sampler: str) -> Effort:
    problems = [f"--budget must be 1 or more, not {args.budget}"] * (args.budget < 1)
    problems += [f"--folds must be 2 or more, not {args.folds}"] * (args.folds != 0 and args.folds < 2)
    if problems:
        raise UsageError(problems)
    return Effort(args.budget, sampler, args.folds, tuple(dict.fromkeys(args.seeds)) or (0,),
                  args.prune)
