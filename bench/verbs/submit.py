"""`submit`: hand what is missing to a scheduler and return at once. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import checkout
from ..planning import plan
from ..planning.existing import RECEIVED
from ..planning.request import UsageError
from ..planning.resolve import Planned
from .sent import check_cluster, hand_over, pack, to_whom
from .words import Verb, accepting, how, what, which

ORDER = 50  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    submitting = verb("submit", act, "hand what is missing to a scheduler and return at once")
    what(submitting)
    which(submitting)
    how(submitting)
    accepting(submitting)
    submitting.add_argument("--again", choices=("stale", "failed", "all"), help="also what is stale or failed, or "
                            "everything, once more")
    to_whom(submitting)
    submitting.add_argument("--pack", type=pack, default=None, metavar="N", help="runs in a task; auto (default): as "
                            "many as recorded times allow")


def act(args: argparse.Namespace) -> int:
    from results.suites import amending, save_suite

    from ..dispatch import jobs, queue
    from ..planning import price, profile
    from . import here, words

    cluster = args.cluster or "slurm"
    wanted = profile.with_words(profile.load(args.profile, args.cluster_file), args)
    check_cluster(cluster, args.dry_run)
    with jobs.locked(checkout.JOBS), amending():
        held = queue.at_work(jobs.read_all(checkout.JOBS))
        made = plan.make(words.request_of(args), checkout.RUNS, here.claims().living() | held.keys(),
                         here.counted(args))
        made.check()
        todo = to_submit(made.runs, args.again, set(held))
        counts = made.count()
        here.tell_received(made)
        elsewhere = {p.spec.id for p in made.runs if p.why.startswith(RECEIVED)}  # its times are of another machine
        if not todo:
            print(f"suite {made.view.name}: nothing to submit; "
                  + ", ".join(f"{n} {'queued or running' if s == 'running' else s}" for s, n in counts.items() if n))
            return 1 if counts["failed"] else 0
        if cluster == "slurm":
            price.refuse(todo, price.past(checkout.RUNS), wanted)
        device = args.device if args.device != "auto" else "cuda" if wanted.gpus else "cpu"
        if device == "cpu" and any(p.spec.precision == "tf32" for p in todo):  # a task's own processor is not this one
            raise UsageError(["precision=tf32 exists on GPUs alone and these runs are for the CPU; add --gpus 1"])
        here.tell_graphs(todo, device)
        where = here.where_of(args, Path(), device)
        ready = [jobs.job_of(p, where, again=p.record is not None) for p in todo]
        if not args.dry_run:
            if args.phase == "final":
                save_suite(made.view)
            here.need_standins(todo)
        known = [p.record for p in made.runs if p.record is not None and p.spec.id not in elsewhere]
        return hand_over(args, cluster, made.suite.name, ready, known, wanted)


def to_submit(runs: Sequence[Planned], again: str | None, held: set[str]) -> list[Planned]:
    """What is missing, and what is wanted once more; never what a living task holds."""
    states = {"stale": ("missing", "stale"), "failed": ("missing", "failed"),
              "all": ("missing", "stale", "failed", "done")}.get(again or "", ("missing",))
    return [r for r in runs if r.state in states and r.spec.id not in held]
