"""Profiles: what a site's partitions are called and what a run may ask of them, from a file `cluster.yaml`.

The file is looked for as `--cluster-file`, then as the variable REGATTA_CLUSTER, then beside the Makefile;
`cluster.example.yaml` shows every key. The command line wins over the profile. Without a file everything has a
default that a cluster with one partition accepts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from results.schema import WHOLE

from .. import checkout
from . import written
from .request import UsageError

FILE = "cluster.yaml"
SHORTEST_MIN = 11  # submitit takes every preemption for a time-out when the limit is 10 minutes or less
NAMES_OURS = {"array": "--max-array and --pack", "job-name": "nothing: the name is how a job is recognised",
              "output": "nothing", "error": "nothing", "signal": "nothing", "time": "--time-min", "chdir": "nothing",
              "partition": "--partition", "account": "--account", "qos": "--qos", "constraint": "--constraint",
              "gpus-per-node": "--gpus", "cpus-per-task": "--cpus", "mem": "--mem-gb", "requeue": "nothing",
              "no-requeue": "nothing", "open-mode": "nothing", "wckey": "nothing", "nodes": "nothing",
              "ntasks-per-node": "nothing"}


@dataclass(frozen=True)
class Profile:
    """One entry of cluster.yaml; every key is optional."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus: int = 1  # per task; a run with more threads asks for as many
    gpus: int = 0
    mem_gb: float | None = None  # None: the partition's default
    gpu_mem_gb: float | None = None  # of one GPU of the partition; what needs more is refused
    time_min: int | None = None  # None: from recorded times, 30 at least
    max_array: int = 1000  # tasks in one array; the cluster's MaxArraySize counts too
    parallel: int = 256  # tasks of one array at work together
    setup: tuple[str, ...] = ()  # shell lines before the task
    slurm: dict[str, str] = field(default_factory=dict)  # further sbatch options; "" for one without a value
    srun: bool = True  # False: Python takes the place of the batch shell


def load(name: str | None = None, file: Path | None = None) -> Profile:
    """The named profile, or the file's default; raises UsageError with every problem of the file."""
    path = _find(file)
    if path is None:
        if name is not None:
            raise UsageError([f"--profile {name}: there is no {FILE}; cluster.example.yaml shows how to write one"])
        return Profile()
    entries, default = _read(path)
    chosen = name if name is not None else default
    if chosen is None:
        return Profile()
    if chosen not in entries:
        near = get_close_matches(chosen, entries, n=1)
        raise UsageError([f"{path.name} has no profile {chosen!r}; "
                          + (f"did you mean {near[0]}?" if near else f"it has: {', '.join(entries) or 'none'}")])
    return _profile(entries[chosen], f"{path.name}, profile {chosen}")


def _find(file: Path | None) -> Path | None:
    told = file or (Path(os.environ["REGATTA_CLUSTER"]) if os.environ.get("REGATTA_CLUSTER") else None)
    if told is not None:
        if not told.is_file():
            raise UsageError([f"there is no file {told.name!r} of cluster profiles"])
        return told
    return checkout.ROOT / FILE if (checkout.ROOT / FILE).is_file() else None


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    told = written.read(path, path.name)
    right = isinstance(told, dict) and not told.keys() - {"default", "profiles"}
    if not right or not isinstance(told.get("profiles"), dict):
        raise UsageError([f"{path.name} must hold `profiles:` with a name for each, and may hold `default: NAME`; "
                          "cluster.example.yaml shows it"])
    default = told.get("default")
    if default is not None and not written.plain(default):
        raise UsageError([f"{path.name}: default must be a name, not {written.shown(default)}"])
    entries = {str(k): v for k, v in told["profiles"].items()}
    return entries, str(default) if default is not None else next(iter(entries), None)


def _profile(entry: Any, where: str) -> Profile:
    if not isinstance(entry, dict):
        raise UsageError([f"{where} must hold key: value lines"])
    known = {f.name: str(f.type) for f in fields(Profile)}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in entry.items():
        name = str(key).replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            problems.append(f"{where} has the key {key!r}; "
                            + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"))
        elif value is not None:
            values[name] = _value(name, known[name], value, where, problems)
    if problems:
        raise UsageError(problems)
    return check(Profile(**values), where)


def _value(name: str, kind: str, value: Any, where: str, problems: list[str]) -> Any:
    if name == "setup":
        rows = value if isinstance(value, list) else [value]
        if not all(written.plain(row) for row in rows):
            problems.append(f"{where}: setup must be a line or a list of lines, not {written.shown(value)}")
            return ()
        return tuple(str(row) for row in rows)
    if name == "slurm":
        if not isinstance(value, dict) or not all(v is None or written.plain(v) for v in value.values()):
            problems.append(f"{where}: slurm must be a map such as {{exclude: n7}}")
            return {}
        return {str(k): "" if v is True or v is None else str(v) for k, v in value.items()}
    if kind.startswith("bool"):
        good, wanted = isinstance(value, bool), "true or false"
    elif kind.startswith("str"):
        good, wanted, value = written.plain(value), "a word", str(value) if written.plain(value) else value
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool) and (
            abs(value) <= WHOLE and (kind.startswith("float") or value == int(value)))
        wanted = "a number" if kind.startswith("float") else "a whole number"
    if not good:
        problems.append(f"{where}: {name} must be {wanted}, not {written.shown(value)}")
        return None
    return int(value) if kind.startswith("int") else value


def check(profile: Profile, where: str) -> Profile:
    """The profile, if its numbers can be; raises UsageError."""
    problems = [f"{where}: {name} must be {low} or more, not {value}"
                for name, low in (("cpus", 1), ("gpus", 0), ("max_array", 1), ("parallel", 1))
                if (value := getattr(profile, name)) < low]
    problems += [f"{where}: {name} must be more than 0, not {value:g}" for name in ("mem_gb", "gpu_mem_gb")
                 if (value := getattr(profile, name)) is not None and not 0 < value < float("inf")]
    if profile.time_min is not None and profile.time_min < SHORTEST_MIN:
        problems.append(f"{where}: time_min must be {SHORTEST_MIN} or more, not {profile.time_min}: with ten minutes "
                        "or less every preemption would be taken for the time limit")
    told = [f"{k}={v}" for k, v in profile.slurm.items()]
    told += [str(v) for v in (profile.partition, profile.account, profile.qos, profile.constraint) if v is not None]
    problems += [f"{where}: {text!r} holds a line break" for text in told if not text.isprintable()]
    for key in profile.slurm:
        if key.replace("_", "-") in NAMES_OURS:
            problems.append(f"{where}: the sbatch option {key!r} is ours; use {NAMES_OURS[key.replace('_', '-')]}")
    if problems:
        raise UsageError(problems)
    return profile


def with_words(profile: Profile, args: Any) -> Profile:
    """What was typed, laid over the profile."""
    typed = {f.name: value for f in fields(Profile)
             if f.name not in ("setup", "slurm", "srun") and (value := getattr(args, f.name, None)) is not None}
    problems, slurm = [], dict(profile.slurm)
    for text in args.slurm:
        key, _, value = text.lstrip("-").partition("=")
        if not key:
            problems.append(f"--slurm takes key=value, as in exclude=n7, not {text!r}")
        slurm[key] = value
    if problems:
        raise UsageError(problems)
    return check(replace(profile, **typed, slurm=slurm, setup=(*profile.setup, *args.setup),
                         srun=profile.srun and not args.no_srun), "the command line")
