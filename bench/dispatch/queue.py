"""What the scheduler says of our tasks. A hint: records say what is done, signs of life what is at work.

Jobs are asked for by name, which holds the submission's id: a controller that lost its state gives job numbers out
again. squeue comes first, because a requeued job is NODE_FAIL in the accounts for a while; sacct only for what squeue
no longer knows, and it may be absent. A controller that does not answer changes nothing: what it held counts as alive.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .jobs import Array, Key, Place, Submission, tasks
from .state import _birth

FINAL = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
         "TIMEOUT", "REVOKED", "LOST", "REFUSED", "ENDED"}
AT_ONCE = 50  # names in one question
ANSWER_S = 60


@dataclass(frozen=True)
class Seen:
    """A task as the scheduler sees it."""

    state: str  # SLURM's word, or LOST (nobody knows it), UNKNOWN (no answer), REFUSED, ENDED (by its own last sign)
    reason: str = ""
    node: str = ""
    source: str = ""  # squeue, sacct, pid, beat


def alive(seen: Seen) -> bool:
    """Whether the task may still carry its runs out."""
    return seen.state not in FINAL


def look(submissions: Sequence[Submission]) -> dict[Key, Seen]:
    """Every task's state; one question for many jobs, none for those that have said goodbye."""
    found: dict[Key, Seen] = {}
    asked: list[Place] = []
    for place in tasks(submissions):
        beat = place.beat()
        if place.array.refused:
            found[place.key] = Seen("REFUSED", place.array.refused)
        elif beat is not None and beat.over in ("done", "failed"):
            found[place.key] = Seen("ENDED", beat.over, "", "beat")
        elif place.submission.cluster != "slurm":
            found[place.key] = _process(place)
        elif shutil.which("squeue") is None:
            fresh = beat is not None and beat.fresh
            found[place.key] = Seen("RUNNING" if fresh else "UNKNOWN", "no squeue here", "", "beat")
        else:
            asked.append(place)
    return found | _ask(asked)


def at_work(submissions: Sequence[Submission], seen: Mapping[Key, Seen] | None = None) -> dict[str, str]:
    """Runs that a living task holds: run -> "queued" or "running". They must not be submitted again."""
    seen = look(submissions) if seen is None else seen
    found: dict[str, str] = {}
    for place in tasks(submissions):
        if not alive(seen[place.key]):
            continue
        beat = place.beat()
        for run in place.array.tasks[place.task]:
            if beat is not None and run in beat.ended and beat.over == "":
                continue  # its record says how it went
            found[run] = "running" if beat is not None and beat.fresh and run in beat.running else "queued"
    return found


def names(arrays: Iterable[Array]) -> list[str]:
    return list(dict.fromkeys(a.name for a in arrays))


def _process(place: Place) -> Seen:
    """A task of the local executor: its process says whether it lives. A debug task lives in its submitter's."""
    beat = place.beat()
    if place.submission.cluster == "debug":
        held = beat is not None and beat.born is not None and _birth(beat.pid) == beat.born
        return Seen("RUNNING" if held else "LOST", "", "", "pid")
    if place.task >= len(place.array.pids):
        return Seen("LOST", "it was never started", "", "pid")
    pid, born = place.array.pids[place.task]
    return Seen("RUNNING" if _birth(pid) == born else "LOST", "", "", "pid")


def _ask(places: Sequence[Place]) -> dict[Key, Seen]:
    found: dict[Key, Seen] = {}
    by_name: dict[str, list[Place]] = {}
    for place in places:
        by_name.setdefault(place.array.name, []).append(place)
    every = list(by_name)
    for start in range(0, len(every), AT_ONCE):
        some = every[start:start + AT_ONCE]
        told = squeue(some)
        if told is None:
            found |= {p.key: Seen("UNKNOWN", "the controller does not answer") for n in some for p in by_name[n]}
            continue
        gone = [n for n in some if any(_index(p) not in told.get(n, {}) for p in by_name[n])]
        accounts = sacct(gone, min(p.submission.made for n in gone for p in by_name[n])) if gone else {}
        for name in some:
            for place in by_name[name]:
                index = _index(place)
                found[place.key] = (told.get(name, {}).get(index) or accounts.get(name, {}).get(index)
                                    or Seen("LOST", "neither squeue nor sacct knows it"))
    return found


def _index(place: Place) -> int | None:
    return place.task if len(place.array.tasks) > 1 else None


def _index_of(job: str) -> int | None:
    tail = job.partition("_")[2]
    return int(tail) if tail.isdigit() else None


def squeue(some: Sequence[str]) -> dict[str, dict[int | None, Seen]] | None:
    """Job name -> task -> state; None when the controller does not answer."""
    told = _run(["squeue", "-h", "-r", "-t", "all", "-o", "%i|%j|%T|%N|%r", f"--name={','.join(some)}"])
    if told is None:
        return None
    found: dict[str, dict[int | None, Seen]] = {}
    for line in told.splitlines():
        job, name, state, node, reason = (line.split("|", 4) + [""] * 5)[:5]
        found.setdefault(name, {})[_index_of(job)] = Seen(state, "" if reason == "None" else reason, node, "squeue")
    return found


def sacct(some: Sequence[str], since: str) -> dict[str, dict[int | None, Seen]]:
    """The same from the accounts; nothing where there are none. `since` is UTC, SLURM reads local time: a day more."""
    from datetime import datetime, timedelta

    start = (datetime.fromisoformat(since.removesuffix("Z")) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    told = _run(["sacct", "-X", "-n", "--array", "--parsable2", "-S", start, "-o", "JobID,JobName,State,NodeList",
                 f"--name={','.join(some)}"]) if shutil.which("sacct") else None
    found: dict[str, dict[int | None, Seen]] = {}
    for line in (told or "").splitlines():
        job, name, state, node = (line.split("|", 3) + [""] * 4)[:4]
        word = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"
        found.setdefault(name, {})[_index_of(job)] = Seen(word, state.partition(" ")[2], node, "sacct")
    return found


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
