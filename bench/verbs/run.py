"""`run`: do here what the plan lists, then write the tables."""

from __future__ import annotations

import argparse

from .. import checkout
from .here import (
    carry_out,
    check_device,
    device_of,
    made,
    report,
    tell_failures,
    tell_graphs,
    tell_received,
    tell_uncompiled,
)
from .plan import tell
from .scores import table
from .words import Verb, accepting, gpus, how, what, which, workers

ORDER = 40  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    running = verb("run", act, "run here what the plan lists, then write the tables")
    what(running)
    which(running)
    how(running)
    gpus(running)
    accepting(running)
    running.add_argument("--again", choices=("stale", "failed", "all"), default=None,
                         help="also run what is stale or failed, or everything, once more")
    running.add_argument("--dry-run", action="store_true", help="print what would be run, as `plan` does, and stop")
    running.add_argument("--no-report", action="store_true", help="leave the tables as they are")


def act(args: argparse.Namespace) -> int:
    check_device(args)
    if args.dry_run:
        tell(made(args), checkout.RUNS, workers(args))
        return 0
    workers(args)
    from results.suites import amending, save_suite

    from ..progress import Bar

    with amending():
        plan = made(args)
        plan.check()
        if args.phase == "final":
            save_suite(plan.view)

    wanted = {"stale": ("missing", "stale"), "failed": ("missing", "failed"),
              "all": ("missing", "stale", "failed", "done")}.get(args.again or "", ("missing",))
    todo = [r for r in plan.runs if r.state in wanted]
    status = 0
    if todo:
        tell_graphs(todo, device_of(args.device))
        with Bar(len(todo), f"{plan.view.name}: runs") as bar:
            tally = carry_out(args, todo, bar.to)
        print(f"suite {plan.view.name}: " + ", ".join(f"{n} {s}" for s, n in sorted(tally.done.items()))
              + (f", {tally.elsewhere} done by another runner" if tally.elsewhere else ""))
        tell_failures(tally.failures)
        tell_uncompiled(todo)
        status = 1 if tally.failures else 0
    else:
        counts = plan.count()
        print(f"suite {plan.view.name}: nothing to run; "
              + ", ".join(f"{n} {state}" for state, n in counts.items() if n))
        status = 1 if counts["failed"] else 0
    tell_received(plan)
    if args.phase == "peek":
        from .here import tell_inflation

        tell_inflation(checkout.RUNS)
    if told := table(plan.runs, reported=not args.no_report):
        print(f"\n{told}\n")
    if not args.no_report:
        status = max(status, report(args))
    return status
