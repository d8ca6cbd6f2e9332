"""The commands of the cluster: submit, retry, cancel. Laid beside `cli`, which parses what they share. No torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from results import store
from results.schema import RecordError, RunResult

from . import plan
from .plan import AGAIN, Planned, UsageError
from .settings import whole

if TYPE_CHECKING:
    from .dispatch.jobs import Submission
    from .dispatch.local import Job
    from .dispatch.profile import Profile

Verb = Callable[..., argparse.ArgumentParser]
Adder = Callable[[argparse.ArgumentParser], None]
CLUSTERS = ("slurm", "local", "debug")
CLASSES = ("lost", "timeout", "preempted", "cancelled", "killed", "node", "oom", "diverged", "failed", "data", "code",
           "method", "memory", "numbers", "protocol")
UNASKED = frozenset({"lost", "timeout", "preempted", "killed", "node"})  # these say nothing about the run itself


def add_verbs(verb: Verb, what: Adder, which: Adder, how: Adder) -> None:
    """Add the commands to the parser of `cli`."""
    submitting = verb("submit", _submit, "hand what is missing to a scheduler and return at once")
    what(submitting)
    which(submitting)
    how(submitting)
    submitting.add_argument("--again", choices=("stale", "failed", "all"), help="also what is stale or failed, or "
                            "everything, once more")
    _where(submitting)
    submitting.add_argument("--pack", type=_pack, default=None, metavar="N", help="runs in a task; auto (default): as "
                            "many as recorded times allow")
    again = verb("retry", _retry, "submit again what was submitted and has no finished record: lost, killed, "
                 "preempted, out of time; --only names other classes")
    again.add_argument("submissions", nargs="*", metavar="SUBMISSION", help="their ids, or enough of the first digits "
                       "(default: all)")
    again.add_argument("--suite", help="only what was submitted for this suite")
    again.add_argument("--only", type=_classes, default=None, metavar="CLASS,...", help="any of " + ", ".join(CLASSES)
                       + " (default: " + ", ".join(c for c in CLASSES if c in UNASKED) + "; cancelled too when "
                       "submissions are named)")
    _where(again)
    again.add_argument("--pack", type=_pack, default=1, metavar="N", help="runs in a task (default: 1, so that a run "
                       "that takes its task along takes no other)")
    taking = verb("cancel", _cancel, "take submissions back; what is at work stores where it stands")
    taking.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="ids, enough of the first digits, or all")


def _where(parser: argparse.ArgumentParser) -> None:
    """To whom, and what to ask for."""
    parser.add_argument("--cluster", choices=CLUSTERS, default=None, help="slurm (default), processes on this machine, "
                        "or debug: here, now, one after the other")
    parser.add_argument("--profile", metavar="NAME", help="of cluster.yaml")
    parser.add_argument("--cluster-file", type=Path, metavar="FILE", help="another file than cluster.yaml")
    for name in ("partition", "account", "qos", "constraint"):
        parser.add_argument(f"--{name}", help="as sbatch takes it")
    for name, about in (("cpus", "per task"), ("gpus", "per task"), ("time-min", "minutes, a task's limit; over 10"),
                        ("max-array", "tasks in an array at most"), ("parallel", "tasks of an array at work together")):
        parser.add_argument(f"--{name}", type=whole, metavar="N", help=about)
    parser.add_argument("--mem-gb", type=float, metavar="GB", help="per task")
    parser.add_argument("--setup", nargs="+", action="extend", default=[], metavar="LINE",
                        help="shell lines before the task, for instance 'module load cuda'")
    parser.add_argument("--slurm", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="any further option of sbatch")
    parser.add_argument("--no-srun", action="store_true", help="where srun is unwanted inside batch jobs")
    parser.add_argument("--dry-run", action="store_true", help="print what sbatch would get; submit nothing")


def _pack(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or whole(text) < 1:
        raise argparse.ArgumentTypeError(f"takes auto or a number of 1 or more, not {text!r}")
    return whole(text)


def _classes(text: str) -> set[str]:
    from difflib import get_close_matches

    found = {word.strip() for word in text.split(",") if word.strip()}
    for word in sorted(found - set(CLASSES)):
        near = get_close_matches(word, CLASSES, n=1)
        raise argparse.ArgumentTypeError(f"knows no class {word!r}; "
                                         + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(CLASSES)}"))
    return found


def _submit(args: argparse.Namespace) -> int:
    from results.suites import amending, save_suite

    from . import cli, pricing
    from .dispatch import jobs, profile, queue

    cluster = args.cluster or "slurm"
    wanted = profile.with_words(profile.load(args.profile, args.cluster_file), args)
    _check_cluster(cluster, args.dry_run)
    with jobs.locked(jobs.JOBS), amending():
        held = queue.at_work(jobs.read_all(jobs.JOBS))
        made = plan.make(cli.request_of(args), plan.RUNS, cli._claims().living() | held.keys())
        todo = to_submit(made.runs, args.again, set(held))
        counts = made.count()
        if not todo:
            print(f"suite {made.view.name}: nothing to submit; "
                  + ", ".join(f"{n} {'queued or running' if s == 'running' else s}" for s, n in counts.items() if n))
            return 1 if counts["failed"] else 0
        if cluster == "slurm":
            pricing.refuse(todo, pricing.past(plan.RUNS), wanted)
        device = args.device if args.device != "auto" else "cuda" if wanted.gpus else "cpu"
        where = cli._where(args, Path(), device)
        ready = [jobs.job_of(p, where, again=p.record is not None) for p in todo]
        if not args.dry_run:
            if args.phase == "final":
                save_suite(made.view)
            cli._need_standins(todo)
        known = [p.record for p in made.runs if p.record is not None]
        return _hand_over(args, cluster, made.suite.name, ready, known, wanted)


def to_submit(runs: Sequence[Planned], again: str | None, held: set[str]) -> list[Planned]:
    """What is missing, and what is wanted once more; never what a living task holds."""
    states = {"stale": ("missing", "stale"), "failed": ("missing", "failed"),
              "all": ("missing", "stale", "failed", "done")}.get(again or "", ("missing",))
    return [r for r in runs if r.state in states and r.spec.id not in held]


def _check_cluster(cluster: str, dry_run: bool) -> None:
    from .dispatch import slurm

    if cluster == "slurm" and not dry_run:
        slurm.need_slurm()


def _hand_over(args: argparse.Namespace, cluster: str, suite: str, ready: Sequence[Job], known: Sequence[RunResult],
               wanted: Profile) -> int:
    """Pack, copy the code, write the ledger, submit, say how to look."""
    from . import cli
    from .dispatch import jobs, packing, slurm, snapshot

    times = packing.Known(known)
    seconds = {j.spec.id: times.seconds(j.spec) for j in ready}
    name = jobs.new_id()
    most = min(wanted.max_array, slurm.max_array_size(guess=args.dry_run)) if cluster == "slurm" else len(ready)
    size: int | None = args.pack
    if cluster == "local":  # as many tasks as may work together, each with its share of the runs
        at_once = cli.workers(args) if hasattr(args, "jobs") else 1
        size = -(-len(ready) // at_once)
    elif cluster == "debug":
        size = len(ready)
    arrays = packing.arrays(ready, wanted, seconds, size, most, name)
    tasks = sum(len(a.tasks) for a in arrays)
    print(f"suite {suite}: {_many(len(ready), 'run')} in {_many(tasks, 'task')}, {_many(len(arrays), 'array')}")
    if args.dry_run:
        for array in arrays:
            print(f"\n# array {array.number}: {_many(len(array.tasks), 'task')}, "
                  f"{_many(sum(map(len, array.tasks)), 'run')}")
            print(slurm.script(array, jobs.JOBS / name, snapshot.SNAPSHOTS / "HASH", wanted.parallel).rstrip())
        return 0
    copy = snapshot.make()
    roots = jobs.Roots(plan.RUNS, plan.CLAIMS, plan.ROOT)
    made = jobs.create(jobs.JOBS, suite, cluster, copy.hash, arrays, ready, roots, sys.argv[1:], name)
    if cluster == "debug":
        failed = slurm.run_debug(made)
        print(f"suite {suite}: {len(ready) - failed} ok" + (f", {failed} did not end well" if failed else ""))
        return 1 if failed else 0
    made = slurm.submit(made, copy.folder, wanted.parallel, print)
    if cluster == "local":
        print(f"processes {', '.join(str(pid) for a in made.arrays for pid, _ in a.pids)} work in the background")
    print(f"submission {made.id}, code {copy.hash}\n"
          f"look:   python -m bench status --suite {suite} --watch\n"
          f"logs:   {_short(made.folder / 'submitit')}\n"
          f"cancel: python -m bench cancel {made.id}\n"
          "again:  python -m bench retry   (what was lost, killed or cut short)")
    return 0


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _short(path: Path) -> Path:
    return path.relative_to(plan.ROOT) if path.is_relative_to(plan.ROOT) else path


def _retry(args: argparse.Namespace) -> int:
    from .dispatch import jobs, profile, queue

    with jobs.locked(jobs.JOBS):
        every = jobs.read_all(jobs.JOBS)
        held = {*queue.at_work(every), *_claimed()}
        chosen = _named(args.submissions, every) if args.submissions else every
        chosen = [s for s in chosen if args.suite is None or s.suite == args.suite]
        only = args.only or (UNASKED | {"cancelled"} if args.submissions else UNASKED)
        found = holes(chosen, held, only)
        if not found:
            print("nothing to submit again" + (f"; {_many(len(held), 'run')} queued or running" if held else ""))
            return 0
        last = max((p for _, p, _ in found), key=lambda p: p.id)
        cluster = args.cluster or last.cluster
        wanted = profile.load(args.profile, args.cluster_file)
        wanted = profile.with_words(wanted if args.profile or args.cluster_file else _as_before(last, wanted), args)
        _check_cluster(cluster, args.dry_run)
        classes: dict[str, int] = {}
        for _, _, kind in found:
            classes[kind] = classes.get(kind, 0) + 1
        print("again: " + ", ".join(f"{n} {kind}" for kind, n in sorted(classes.items())))
        suites = list(dict.fromkeys(s.suite for _, s, _ in found))
        status = 0
        for suite in suites:
            ready = [job for job, s, _ in found if s.suite == suite]
            status = max(status, _hand_over(args, cluster, suite, ready, [], wanted))
        return status


def _claimed() -> set[str]:
    from . import cli

    found: set[str] = cli._claims().living()
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

    from .dispatch import jobs

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


def _named(words: Sequence[str], every: Sequence[Submission]) -> list[Submission]:
    if list(words) == ["all"]:
        return list(every)
    found, problems = [], []
    for word in words:
        fitting = [s for s in every if s.id.startswith(word) or s.id.endswith(word)]
        if not fitting:
            problems.append(f"there is no submission {word!r}; the last are: "
                            f"{', '.join(s.id for s in list(every)[-3:]) or 'none'}")
        found += fitting
    if problems:
        raise UsageError(problems)
    return list({s.id: s for s in found}.values())


def _cancel(args: argparse.Namespace) -> int:
    from .dispatch import jobs, queue, slurm

    with jobs.locked(jobs.JOBS):
        chosen = _named(args.submissions, jobs.read_all(jobs.JOBS))
        held = queue.at_work(chosen)
        living = [s for s in chosen if any(run in held for run in s.runs())]
        problems = slurm.cancel(living)
    for problem in problems:
        print(f"regatta: {problem}", file=sys.stderr)
    print(f"{_many(len(living), 'submission')} cancelled, {_many(len(held), 'run')} taken back"
          if living else "nothing is queued or running there")
    return 1 if problems else 0
