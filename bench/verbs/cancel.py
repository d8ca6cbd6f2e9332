"""`cancel`: take submissions back; what is at work stores where it stands. No torch."""

from __future__ import annotations

import argparse
import sys

from results.spoken import many

from .sent import named_among
from .words import Verb

ORDER = 70  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    taking = verb("cancel", act, "take submissions back; what is at work stores where it stands", parts=False)
    taking.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="ids, enough of the first digits, or all")


def act(args: argparse.Namespace) -> int:
    from .. import checkout
    from ..dispatch import jobs, queue, slurm

    with jobs.locked(checkout.JOBS):
        chosen = named_among(args.submissions, jobs.read_all(checkout.JOBS))
        held = queue.at_work(chosen)
        living = [s for s in chosen if any(run in held for run in s.runs())]
        problems = slurm.cancel(living)
    for problem in problems:
        print(f"regatta: {problem}", file=sys.stderr)
    print(f"{many(len(living), 'submission')} cancelled, {many(len(held), 'run')} taken back"
          if living else "nothing is queued or running there")
    return 1 if problems else 0
