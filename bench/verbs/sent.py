"""Runs handed to a scheduler, as the options say; shared by submit, retry and cancel. No torch."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.own import note
from methods.outside import folders
from results.schema import RunResult, RunSpec
from results.spoken import many

from .. import checkout
from ..planning.request import UsageError
from ..planning.settings import whole

if TYPE_CHECKING:
    from ..dispatch.jobs import Submission
    from ..dispatch.local import Job
    from ..planning.profile import Profile

CLUSTERS = ("slurm", "local", "debug")


def to_whom(parser: argparse.ArgumentParser) -> None:
    """To whom, and what to ask for."""
    group = parser.add_argument_group("the scheduler, and what is asked of it")
    group.add_argument("--cluster", choices=CLUSTERS, default=None, help="slurm (default), processes on this machine, "
                       "or debug: here, now, one after the other")
    group.add_argument("--profile", metavar="NAME", help="of cluster.yaml")
    group.add_argument("--cluster-file", type=Path, metavar="FILE", help="another file than cluster.yaml")
    for name in ("partition", "account", "qos", "constraint"):
        group.add_argument(f"--{name}", help="as sbatch takes it")
    for name, about in (("cpus", "per task"), ("gpus", "per task"), ("time-min", "minutes, a task's limit; over 10"),
                       ("max-array", "tasks in an array at most"), ("parallel", "tasks of an array at work together")):
        group.add_argument(f"--{name}", type=whole, metavar="N", help=about)
    group.add_argument("--mem-gb", type=float, metavar="GB", help="per task")
    group.add_argument("--setup", nargs="+", action="extend", default=[], metavar="LINE",
                       help="shell lines before the task, for instance 'module load cuda'")
    group.add_argument("--slurm", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="any further option of sbatch")
    group.add_argument("--no-srun", action="store_true", help="where srun is unwanted inside batch jobs")
    group.add_argument("--dry-run", action="store_true", help="print what sbatch would get; submit nothing")




def pack(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or whole(text) < 1:
        raise argparse.ArgumentTypeError(f"takes auto or a number of 1 or more, not {text!r}")
    return whole(text)


def check_cluster(cluster: str, dry_run: bool) -> None:
    from ..dispatch import slurm

    if cluster == "slurm" and not dry_run:
        slurm.need_slurm()


def hand_over(args: argparse.Namespace, cluster: str, suite: str, ready: Sequence[Job], known: Sequence[RunResult],
               wanted: Profile) -> int:
    """Pack, copy the code, write the ledger, submit, say how to look."""
    from .. import checkout
    from ..dispatch import devices, jobs, packing, slurm, snapshot
    from . import words

    times = packing.Known(known)
    seconds = {j.spec.id: times.seconds(j.spec) for j in ready}
    name = jobs.new_id()
    most = min(wanted.max_array, slurm.max_array_size(guess=args.dry_run)) if cluster == "slurm" else len(ready)
    size: int | None = args.pack
    if cluster == "local":  # as many tasks as may work together, each with its share of the runs
        at_once = devices.at_once(words.workers(args) if hasattr(args, "jobs") else 1, wanted.gpus,
                                  devices.visible() if wanted.gpus else (), [j.where.device for j in ready])
        size = -(-len(ready) // at_once)
    elif cluster == "debug":
        size = len(ready)
    arrays = packing.arrays(ready, wanted, seconds, size, most, name)
    tasks = sum(len(a.tasks) for a in arrays)
    print(f"suite {suite}: {many(len(ready), 'run')} in {many(tasks, 'task')}, {many(len(arrays), 'array')}")
    if args.dry_run:
        for array in arrays:
            print(f"\n# array {array.number}: {many(len(array.tasks), 'task')}, "
                  f"{many(sum(map(len, array.tasks)), 'run')}")
            print(slurm.script(array, checkout.JOBS / name, checkout.SNAPSHOTS / "HASH", wanted.parallel).rstrip())
        return 0
    copy = snapshot.make()
    roots = jobs.Roots(checkout.RUNS, checkout.CLAIMS, checkout.ROOT)
    made = jobs.create(checkout.JOBS, suite, cluster, copy.hash, arrays, ready, roots, sys.argv[1:], name)
    if cluster == "debug":
        failed = slurm.run_debug(made)
        print(f"suite {suite}: {len(ready) - failed} ok" + (f", {failed} did not end well" if failed else ""))
        return 1 if failed else 0
    made = slurm.submit(made, copy.folder, wanted.parallel, print)
    if cluster == "local":
        print(f"processes {', '.join(str(pid) for a in made.arrays for pid, _ in a.pids)} work in the background")
    print(f"submission {made.id}, code {copy.hash}\n"
          f"look:   {look(suite, [job.spec for job in ready])}\n"
          f"logs:   {_short(made.folder / 'submitit')}\n"
          f"cancel: python -m bench cancel {made.id}\n"
          "again:  python -m bench retry   (what was lost, killed or cut short)")
    return 0


def look(suite: str, specs: Sequence[RunSpec]) -> str:
    """The command that shows how far these runs are; it names users' folders, which no suite does."""
    sets = sorted({spec.dataset for spec in specs})
    named = ["--datasets", *sets] if any(note.MARK in name for name in sets) else []
    named += ["--partial"] if any(spec.partial for spec in specs) else []
    parts = [word for folder in folders() for word in ("--extra", str(folder))]
    return shlex.join(["python", "-m", "bench", "status", "--suite", suite, *named, "--watch", *parts])


def _short(path: Path) -> Path:
    return path.relative_to(checkout.ROOT) if path.is_relative_to(checkout.ROOT) else path


def named_among(words: Sequence[str], every: Sequence[Submission]) -> list[Submission]:
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
