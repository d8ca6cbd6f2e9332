"""The commands of the protocol: tune, select, curve, verify. Laid beside `cli`, which parses what they share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from results.selections import (
    Choice,
    Effort,
    Selection,
    Study,
    budget_curve,
    load_selection,
    load_trials,
    save_selection,
    unequal,
)

from .plan import Planned, UsageError
from .selecting import RULES
from .settings import whole
from .tuning import SAMPLERS

Verb = Callable[..., argparse.ArgumentParser]
Adder = Callable[[argparse.ArgumentParser], None]


def add_verbs(verb: Verb, what: Adder, how: Adder) -> None:
    """Add the commands to the parser of `cli`."""
    tuning = verb("tune", _tune, "search settings on the validation split, one budget for all methods; every trial is "
                  "an ordinary record of phase tune")
    what(tuning)
    how(tuning)
    tuning.add_argument("--budget", type=whole, required=True, metavar="N",
                        help="configurations per method and data set")
    tuning.add_argument("--sampler", choices=SAMPLERS, help="default: the suite's, else tpe")
    tuning.add_argument("--folds", type=whole, default=0, metavar="K",
                        help="cross-validate over train and val together")
    tuning.add_argument("--per", choices=("dataset", "suite"), help="a setting for each data set, or one for all of "
                        "them together (default: the suite's choice, else dataset)")
    tuning.add_argument("--again", choices=("failed",), help="also run failed trials once more")
    tuning.add_argument("--sampler-seed", type=whole, default=0, metavar="N", help="of random and tpe (default: 0)")
    selecting = verb("select", _select, "choose settings among what was tuned, by a rule with a name; `run --tuned` "
                     "then tests them")
    what(selecting)
    how(selecting)
    selecting.add_argument("--rule", choices=tuple(RULES), help="default: best_val, with folds kfold_mean")
    curve = verb("curve", _curve, "expected accuracy against the number of configurations tried, replayed from records")
    what(curve)
    how(curve)
    curve.add_argument("--score", action="store_true", help="test every configuration first, in records of phase peek "
                       "that no leaderboard accepts")
    verify = verb("verify", _verify, "load the weights that a run stored, test again, compare with its predictions")
    verify.add_argument("runs", nargs="+", metavar="RUN", help="ids, or enough of their first digits; 'all'")
    verify.add_argument("--root", "--data", dest="data", help="where real data lies (default: the variable DATA)")
    verify.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    verify.add_argument("--device", default="auto", help="auto, cpu, cuda")


def _tune(args: argparse.Namespace) -> int:
    from . import cli, plan
    from .dispatch.tune import run, searches
    from .progress import Bar

    request = cli.request_of(args)
    chosen = plan.suite_of(request).tuning
    args.sampler = args.sampler or chosen.sampler
    effort = _effort(args)
    cli.workers(args)
    if chosen.datasets and not request.datasets and args.per != "dataset":
        args.per, request = "suite", replace(request, datasets=chosen.datasets)
    suite, moving = searches(request, effort, args.per == "suite", args.sampler_seed)
    failures: list[Any] = []
    expected = sum(len(one.base) for one in moving) * effort.budget
    before = 0.0
    with Bar(expected, f"{suite}: trials") as bar:
        def carry_out(todo: list[Planned]) -> None:
            nonlocal before
            start = before
            tally = cli.carry_out(args, todo, lambda done, label: bar.to(start + done, label))
            before += len(todo)
            failures.extend(tally.failures)

        lost = run(suite, moving, plan.RUNS, carry_out, again=args.again == "failed")
    tried = [len(one.trials) for one in moving]
    studies = f"{len(moving)} {'study' if len(moving) == 1 else 'studies'}"
    print(f"suite {suite}: {studies}, {sum(tried)} configurations ({effort.text()}), {before:.0f} runs done now"
          + (f", {lost} configurations without a score" if lost else ""))
    for one in moving:
        if len(one.trials) < effort.budget:
            print(f"{one.method} on {', '.join(one.datasets)}: {len(one.trials)} of {effort.budget}, its space "
                  f"({'; '.join(f'{k}: {d.text()}' for k, d in one.space.items()) or 'empty'}) holds no more")
    cli.tell_failures(failures)
    return 1 if lost else 0


def _effort(args: argparse.Namespace) -> Effort:
    problems = [f"--budget must be 1 or more, not {args.budget}"] * (args.budget < 1)
    problems += [f"--folds must be 2 or more, not {args.folds}"] * (args.folds != 0 and args.folds < 2)
    if problems:
        raise UsageError(problems)
    return Effort(args.budget, args.sampler, args.folds, tuple(dict.fromkeys(args.seeds)) or (0,))


def _meant(args: argparse.Namespace, studies: Sequence[Study]) -> list[Study]:
    """The studies that the command line names; all when it names none."""
    from datasets import registry
    from methods.grammar import parse

    from . import cli

    request = cli.request_of(args)
    methods = {parse(text).text() for text in request.methods}
    datasets = {registry.get(name).name for name in request.datasets}
    found = [s for s in studies if (not methods or s.method in methods) and (not datasets or datasets & set(s.datasets))
             and (not request.backbones or s.backbone in request.backbones)]
    absent = sorted(methods - {s.method for s in found})
    if absent or not found:
        raise UsageError([f"{', '.join(absent) or 'what is named'} has not been tuned; there are: "
                          f"{', '.join(sorted({s.method for s in studies}))}"])
    return found


def _studies(args: argparse.Namespace) -> tuple[str, list[Study]]:
    from . import cli
    from .plan import suite_of

    suite = suite_of(cli.request_of(args)).name
    tried = load_trials(suite)
    if tried is None or not tried.studies:
        raise UsageError([f"nothing has been tuned in suite {suite!r}; "
                          f"`python -m bench tune --suite {suite} --budget 8` does it"])
    return suite, _meant(args, tried.studies)


def _select(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from . import cli, plan
    from .selecting import choose, records_of, untried

    suite, studies = _studies(args)
    records = records_of({run for s in studies for t in s.trials for run in t.runs}, plan.RUNS)
    request = cli.request_of(args)
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
    print(f"\nThe same settings are tested by: python -m bench run --suite {suite} --tuned --seeds 0 1 2")
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


def _curve(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from . import cli, plan
    from .progress import Bar
    from .scoring import scored, to_score

    suite, studies = _studies(args)
    status = 0
    if args.score:
        todo = [p for p in to_score(cli.request_of(args), studies, plan.RUNS) if p.state == "missing"]
        if todo:
            with Bar(len(todo), f"{suite}: configurations on test") as bar:
                tally = cli.carry_out(args, todo, bar.to)
            cli.tell_failures(tally.failures)
            status = 1 if tally.failures else 0
    by_method: dict[tuple[str, str], list[list[Any]]] = {}
    for study, val, test in scored(studies, plan.RUNS):
        by_method.setdefault((study.method, study.backbone), []).append(budget_curve(val, test))  # type: ignore[arg-type]
    for (method, backbone), curves in by_method.items():
        size = min(len(c) for c in curves)
        tested = all(p.test is not None for c in curves for p in c)
        print(f"\n{method} on {backbone}, mean over {len(curves)} {'study' if len(curves) == 1 else 'studies'}:")
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


def tell_inflation(runs: Path) -> None:
    """What peeking at test would have gained, per method, from every record of phase peek."""
    from tabulate import tabulate

    from results.index import read
    from results.peeking import inflation

    found = inflation(read(runs, on_error=lambda error: None))
    if found:
        print("\nWhat keeping the best epoch on test would have gained (no leaderboard accepts these):")
        print(tabulate([(r.method, r.datasets, f"{100 * r.last:.1f}", f"{100 * r.best:.1f}", f"{100 * r.gain:+.1f}",
                         f"{r.worst} {100 * r.worst_gain:+.1f}") for r in found],
                       ("method", "data sets", "last epoch", "best epoch", "gain", "most on"), disable_numparse=True))


def _verify(args: argparse.Namespace) -> int:
    from . import cli, plan
    from .verify import check, runs_of

    found = runs_of(args.runs, plan.RUNS)
    device = cli._device(args.device)
    problems = 0
    for path in found:
        good, words = check(path, args.data, args.weights, replace_device(device))
        problems += not good
        print(words)
    return 1 if problems else 0


def replace_device(device: str) -> Any:
    """A place to run on, without data yet."""
    from .engine.where import Where

    return replace(Where(Path(), None, None), device=device, deterministic=device == "cpu")
