"""`retry`: submit again what was submitted and has no finished record. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from results import store
from results.schema import RecordError
from results.spoken import many

from ..extra import joined, named
from ..planning.existing import AGAIN
from .sent import check_cluster, hand_over, named_among, pack, to_whom
from .words import Verb, accepting

if TYPE_CHECKING:
    from ..dispatch.jobs import Submission
    from ..dispatch.local import Job
    from ..planning.profile import Profile

CLASSES = ("lost", "timeout", "preempted", "cancelled", "killed", "node", "oom", "diverged", "failed", "data", "code",
           "method", "memory", "numbers", "protocol")
UNASKED = frozenset({"lost", "timeout", "preempted", "killed", "node"})  # these say nothing about the run itself

ORDER = 60  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    again = verb("retry", act, "submit again what was submitted and has no finished record: lost, killed, "
                 "preempted, out of time; --only names other classes")
    again.add_argument("submissions", nargs="*", metavar="SUBMISSION", help="their ids, or enough of the first digits "
                       "(default: all)")
    again.add_argument("--suite", help="only what was submitted for this suite")
    again.add_argument("--only", type=_classes, default=None, metavar="CLASS,...", help="any of " + ", ".join(CLASSES)
                       + " (default: " + ", ".join(c for c in CLASSES if c in UNASKED) + "; cancelled too when "
                       "submissions are named)")
    accepting(again)
    to_whom(again)
    again.add_argument("--pack", type=pack, default=1, metavar="N", help="runs in a task (default: 1, so that a run "
                       "that takes its task along takes no other)")


def _classes(text: str) -> set[str]:
    from difflib import get_close_matches

    found = {word.strip() for word in text.split(",") if word.strip()}
    for word in sorted(found - set(CLASSES)):
        near = get_close_matches(word, CLASSES, n=1)
        raise argparse.ArgumentTypeError(f"knows no class {word!r}; "
                                         + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(CLASSES)}"))
    return found


def act(args: argparse.Namespace) -> int:
    from .. import checkout
    from ..dispatch import jobs, queue
    from ..planning import profile
    from . import here

    with jobs.locked(checkout.JOBS):
        every = jobs.read_all(checkout.JOBS)
        held = {*queue.at_work(every), *_claimed()}
        chosen = named_among(args.submissions, every) if args.submissions else every
        chosen = [s for s in chosen if args.suite is None or s.suite == args.suite]
        only = args.only or (UNASKED | {"cancelled"} if args.submissions else UNASKED)
        there = here.counted(args)
        every_hole = holes(chosen, held, only)
        found = [one for one in every_hole if one[0].spec.id not in there]
        if len(found) < len(every_hole):
            print(f"{many(len(every_hole) - len(found), 'run')} not submitted again: received in a pack")
        if not found:
            print("nothing to submit again" + (f"; {many(len(held), 'run')} queued or running" if held else ""))
            return 0
        last = max((p for _, p, _ in found), key=lambda p: p.id)
        cluster = args.cluster or last.cluster
        wanted = profile.load(args.profile, args.cluster_file)
        wanted = profile.with_words(wanted if args.profile or args.cluster_file else _as_before(last, wanted), args)
        check_cluster(cluster, args.dry_run)
        classes: dict[str, int] = {}
        for _, _, kind in found:
            classes[kind] = classes.get(kind, 0) + 1
        print("again: " + ", ".join(f"{n} {kind}" for kind, n in sorted(classes.items())))
        suites = list(dict.fromkeys(s.suite for _, s, _ in found))
        status = 0
        for suite in suites:
            ready = [job for job, s, _ in found if s.suite == suite]
            folders = [folder for _, s, _ in found if s.suite == suite for folder in s.extra]
            with named(joined(folders)):
                status = max(status, hand_over(args, cluster, suite, ready, [], wanted))
        return status


def _claimed() -> set[str]:
    from . import here

    found: set[str] = here.claims().living()
    return found


def _as_before(one: Submission, otherwise: Profile) -> Profile:
    """The profile that a submission was made with, as far as its ledger tells."""
    from dataclasses import replace

    if not one.arrays:
        return otherwise
    first = one.arrays[0].resources
    return replace(otherwise, partition=first.partition, account=first.account, qos=first.qos,
                   constraint=first.constraint, cpus=first.cpus, gpus=first.gpus, mem_gb=first.mem_gb,
                   time_min=max(a.resources.time_min for a in one.arrays), setup=first.setup,
                   slurm=dict(first.slurm), srun=first.srun)


def holes(submissions: Sequence[Submission], held: set[str],
          only: AbstractSet[str]) -> list[tuple[Job, Submission, str]]:
    """(run, the submission that had it last, its class) of what is in nobody's hands and has no record, or one of the
    classes asked for."""
    from dataclasses import replace

    from ..dispatch import jobs

    by_submission: dict[str, tuple[Submission, list[str]]] = {}
    for run, place in jobs.places(submissions).items():
        if run not in held:
            by_submission.setdefault(place.submission.id, (place.submission, []))[1].append(run)
    found = []
    for submission, runs in by_submission.values():
        root = jobs.roots_of(submission).runs
        for job in jobs.jobs_of(submission, runs):
            kinds, record = classes_of(store.path_of(job.spec, root))
            if submission.cancelled and kinds & {"lost", "preempted"}:
                kinds = {"cancelled"}  # that was the user's wish
            if kinds & only:
                found.append((replace(job, again=record), submission, sorted(kinds & only)[0]))
    return found


def classes_of(path: Path) -> tuple[set[str], bool]:
    """(what a run's record makes of it, whether there is one): its status and the kind of its failure; `lost` without
    a record; nothing for one that ended well."""
    if not path.exists():
        return {"lost"}, False
    try:
        record = store.load(path)
    except RecordError:
        return {"lost"}, True
    if record.status == "ok":
        return set(), True
    kind = record.failure.kind if record.failure else ""
    if record.status in ("timeout", "preempted", "cancelled"):
        return {record.status}, True
    # killed and node are no failures of the run's own
    return ({kind} if record.status == "failed" and kind in AGAIN else {record.status, kind} - {""}), True
