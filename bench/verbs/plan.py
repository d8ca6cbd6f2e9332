"""`plan`: what is done, missing, failed or stale, and what the rest would cost; runs nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from results.spoken import many

from .. import checkout
from ..planning.plan import Plan
from ..planning.price import lines, past, price, refuse
from ..planning.profile import Profile
from ..planning.request import UsageError
from .here import made, tell_graphs, tell_received
from .words import Verb, accepting, request_of, what, which, workers

ORDER = 30  # in the list of commands
FEW = 6  # data sets that are named one by one


def add(verb: Verb) -> None:
    """The command and its options."""
    planning = verb("plan", act, "what is done, missing, failed, stale, and what the rest would cost; runs nothing")
    what(planning)
    which(planning)
    accepting(planning)
    planning.add_argument("--why", action="store_true", help="name each run that is not done, and why")
    planning.add_argument("--json", action="store_true", help="for a program to read")
    planning.add_argument("--memory", action="store_true", help="also the exact training memory of every method, from "
                          "the shapes alone (imports torch, needs no GPU)")
    planning.add_argument("--profile", help="the price in tasks of this profile of cluster.yaml; what does not fit is "
                          "refused")
    planning.add_argument("--cluster-file", type=Path, help="the file of profiles (default: cluster.yaml)")


def act(args: argparse.Namespace) -> int:
    at_once = workers(args)
    try:
        plan = made(args)
    except UsageError as error:
        if not args.memory or args.json or args.tuned:
            raise
        return _memory_alone(args, error)
    if args.json:
        from ..planning.plan import as_json

        print(json.dumps(as_json(plan), indent=1))
        return 0
    profile = None
    if args.profile or args.cluster_file:
        from ..planning.profile import load

        profile = load(args.profile, args.cluster_file)
    tell(plan, checkout.RUNS, at_once, profile)
    if args.memory:
        from ..planning.memory import table

        print(table(plan.runs))
    if args.why:
        for run in plan.runs:
            if run.state != "done":
                print(f"{run.state:<8} {run.spec.id}  {run.spec.dataset}  {run.text}  {run.spec.model}  "
                      f"seed {run.spec.seed}{f'  ({run.why})' if run.why else ''}")
    return 0


def _memory_alone(args: argparse.Namespace, error: UsageError) -> int:
    """`plan --memory` where data or weights are not here: its table. Raises the error when more than that is wrong."""
    from ..planning.memory import table
    from ..planning.resolve import without_inputs

    try:
        planned = without_inputs(request_of(args))
    except UsageError:
        raise error from None
    print(table(planned))
    for problem in error.problems:
        print(f"runs are not counted: {problem}")
    return 0


def tell(plan: Plan, runs: Path, at_once: int, profile: Profile | None = None) -> None:
    """Print what is done and what the missing would cost: here, or in tasks of a profile."""
    counts = plan.count()
    print(f"suite {plan.view.name}: {many(len(plan.runs), 'run')}, "
          + ", ".join(f"{n} {state}" for state, n in counts.items() if n or state in ("done", "missing")))
    tell_received(plan)
    for line in (*plan.lacking, *drawn(plan)):
        print(line)
    todo = plan.to_do()
    tell_graphs(todo)
    if todo:
        columns = past(runs)
        gpu = bool(profile and profile.gpus)
        if profile is not None:
            refuse(todo, columns, profile, forecast=True)
            at_once = profile.parallel
        units = 1 if profile is None else profile.gpus or profile.cpus
        whole = plan.suite.cost if plan.whole() else ""
        for line in lines(price(todo, columns, gpu or None), at_once, units, "GPU" if gpu else "core", whole):
            print(line)


def drawn(plan: Plan) -> list[str]:
    """A line where data sets are stand-ins: whoever typed a set's name may have meant the real one."""
    every = list(dict.fromkeys(run.spec.dataset for run in plan.runs))
    found = [name for name in every if any(r.spec.standin for r in plan.runs if r.spec.dataset == name)]
    if not found:
        return []
    which = ", ".join(found) if len(found) <= FEW else f"{len(found)} of {len(every)} data sets"
    return [f"stand-ins, drawn by a program, not the real images: {which}; --root FOLDER without --suite takes "
            "real ones"]
