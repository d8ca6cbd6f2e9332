"""Which runs share a task, which tasks share an array. Pure: nothing is submitted here.

Short runs share a task, since a job has its price (the queue, Python, torch) and SLURM counts in minutes; runs that
ask for different resources cannot share an array; an array holds no more tasks than the cluster allows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from results.schema import RunResult, RunSpec

from ..planning.profile import Profile
from .jobs import Array, Resources
from .local import Job

FLOOR_MIN = 30  # the shortest limit that is asked for unasked
UNKNOWN_MIN = 60  # the limit for runs like which none is recorded; what is not finished goes on afterwards
TASK_S = 1200.0  # of work in a task: well below the floor
LEAST_S = 60.0
SPREAD = 8  # tasks at least, when there is work enough


class Known:
    """What runs took before, by likeness: same method on the same data set, else same method, else any."""

    def __init__(self, records: Iterable[RunResult]) -> None:
        self.cells: dict[tuple[str, ...], list[float]] = {}
        for record in records:
            if record.status == "ok" and record.time.total_s is not None and not record.spec.until:
                for key in self._keys(record.spec):
                    self.cells.setdefault(key, []).append(record.time.total_s / max(1, record.spec.epochs))

    def seconds(self, spec: RunSpec) -> float | None:
        """What the run will take, as far as records tell; None when nothing like it is recorded."""
        for key in self._keys(spec):
            if key in self.cells:
                return statistics.median(self.cells[key]) * spec.epochs
        return None

    @staticmethod
    def _keys(spec: RunSpec) -> tuple[tuple[str, ...], ...]:
        return ((spec.model, spec.method, spec.dataset), (spec.model, spec.method), (spec.model,))


def resources_of(spec: RunSpec, profile: Profile) -> Resources:
    """What a run asks for; its time is settled when it has been packed."""
    return Resources(cpus=max(profile.cpus, spec.threads), gpus=profile.gpus, mem_gb=profile.mem_gb,
                     time_min=profile.time_min or FLOOR_MIN, partition=profile.partition, account=profile.account,
                     qos=profile.qos, constraint=profile.constraint, setup=profile.setup,
                     slurm=tuple(sorted(profile.slurm.items())), srun=profile.srun)


def groups(jobs: Sequence[Job], profile: Profile) -> dict[Resources, list[Job]]:
    """Runs that ask for the same, in the order they came."""
    found: dict[Resources, list[Job]] = {}
    for job in jobs:
        found.setdefault(resources_of(job.spec, profile), []).append(job)
    return found


def pack(jobs: Sequence[Job], seconds: Mapping[str, float | None], size: int | None) -> list[list[Job]]:
    """Tasks of `size` runs; None: of some minutes of recorded work each, a run whose time is unknown by itself."""
    if size is not None:
        return [list(jobs[start:start + size]) for start in range(0, len(jobs), size)]
    known = [s for j in jobs if (s := seconds.get(j.spec.id)) is not None]
    full = min(TASK_S, max(LEAST_S, sum(known) / SPREAD))
    tasks: list[list[Job]] = []
    filled = full
    for job in jobs:
        one = seconds.get(job.spec.id)
        if one is None:
            tasks.append([job])
            filled = full
        elif tasks and filled + one <= full:
            tasks[-1].append(job)
            filled += one
        else:
            tasks.append([job])
            filled = one
    return tasks


def limit_min(tasks: Sequence[Sequence[Job]], seconds: Mapping[str, float | None], told: int | None) -> int:
    """The time limit: as told, else half as much again as the longest task and ten minutes, half an hour at least."""
    if told is not None:
        return told
    known = [s for task in tasks if None not in (each := [seconds.get(j.spec.id) for j in task])
             for s in [sum(e for e in each if e is not None)]]
    least = UNKNOWN_MIN if len(known) < len(tasks) else FLOOR_MIN
    return max(least, math.ceil(1.5 * max(known, default=0.0) / 60) + 10)


def chunks(tasks: Sequence[Sequence[Job]], most: int) -> list[list[Sequence[Job]]]:
    """Arrays of so many tasks at most."""
    return [list(tasks[start:start + most]) for start in range(0, len(tasks), most)]


def arrays(jobs: Sequence[Job], profile: Profile, seconds: Mapping[str, float | None], size: int | None, most: int,
           submission: str) -> list[Array]:
    """Everything together: what would be submitted, numbered and named."""
    made: list[Array] = []
    for resources, some in groups(jobs, profile).items():
        packed = pack(some, seconds, size)
        wanted = replace(resources, time_min=limit_min(packed, seconds, profile.time_min))
        for chunk in chunks(packed, most):
            number = len(made)
            made.append(Array(number, f"regatta-{submission}-{number}", wanted,
                              tuple(tuple(j.spec.id for j in task) for task in chunk)))
    return made
