"""Which GPU does which run: what `--devices` names, how many runs share one, who gets the next. Pure but for `look`.

GPUs are numbered as CUDA numbers them, among those that CUDA_VISIBLE_DEVICES leaves to see; nothing here changes that
variable for a run, which is told its GPU as `cuda:1`. A task in the background (`submit --cluster local`) is another
program: it sees its own GPUs alone, through the variable, in whatever words it held before (numbers or UUIDs).

How many runs share a GPU by default follows from the forecast of their memory; more than four would wait for one
another (at batch 64 a step's kernels and their launching take like times). That number is a guess: not measured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..planning.request import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

VISIBLE = "CUDA_VISIBLE_DEVICES"
AT_MOST = 4  # runs on one GPU, unless the command line says more
ROOM = 0.9  # of a GPU's memory, for all its runs together
TEMPORARIES = 1.25  # a step's peak over its forecast, which has no temporaries
CONTEXT_BYTES = 2**30  # CUDA's context, the libraries' workspaces and a small data set's pixels, for each process
PATIENCE_S = 300.0  # the first start of CUDA on a large machine takes a while


@dataclass(frozen=True)
class Gpu:
    """A GPU that this program sees: its name and its memory."""

    name: str
    bytes: int


def chosen(told: str, count: int, limited: bool = False) -> tuple[int, ...]:
    """What `--devices` names, of `count` visible GPUs: `all`, or numbers with commas, each once and in that order.

    `limited`: CUDA_VISIBLE_DEVICES is set. Raises UsageError for what is no list and for a GPU that is not there.
    """
    if told == "all":
        return tuple(range(count))
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", told):
        raise UsageError([f"--devices takes all or numbers of GPUs, as in 0,1,3, not {told[:60]!r}"])
    numbers = tuple(dict.fromkeys(int(word) for word in told.split(",")))
    if missing := [n for n in numbers if n >= count]:
        there = "no GPU" if not count else "GPU 0 alone" if count == 1 else f"GPUs 0 to {count - 1}"
        raise UsageError([f"--devices {told}: there is no GPU {missing[0]}; this machine has {there}"
                          + (f" that {VISIBLE} leaves to see" if limited else "")])
    return numbers


def slots(gpus: Iterable[int], per_device: int) -> tuple[str, ...]:
    """A place for every run that may be at work: one on each GPU, then the second ones, so that few runs spread."""
    numbers = list(gpus)
    return tuple(f"cuda:{n}" for _ in range(per_device) for n in numbers)


def free(places: Sequence[str], taken: Iterable[str]) -> str | None:
    """The place of the next run: on the GPU with the fewest, the first of equals; None while all are taken."""
    left = list(places)
    for one in taken:
        if one in left:
            left.remove(one)
    return max(dict.fromkeys(left), key=left.count, default=None)


def fitting(need_bytes: int | None, gpu_bytes: int, cores: int, gpus: int) -> int:
    """Runs on each GPU by default: as memory and cores allow, at most four; 1 where the need is unknown."""
    if need_bytes is None:
        return 1
    by_memory = int(ROOM * gpu_bytes / (TEMPORARIES * need_bytes + CONTEXT_BYTES))
    return max(1, min(AT_MOST, by_memory, cores // max(1, gpus)))


def names(count: int, told: str | None) -> tuple[str, ...]:
    """How CUDA_VISIBLE_DEVICES calls the `count` GPUs that are seen while it holds `told` (None: it is not set)."""
    if told is None:
        return tuple(map(str, range(count)))
    return tuple(word.strip() for word in told.split(",") if word.strip())[:count]


def shares(tasks: int, each: int, visible: Sequence[str]) -> list[tuple[str, ...]]:
    """The GPUs of each background task, `each` of them; tasks beyond the last GPU begin again with the first.

    Raises UsageError where a task asks for more than there are.
    """
    if each > len(visible):
        there = f"{len(visible)} GPU{'' if len(visible) == 1 else 's'}"
        raise UsageError([f"a task asks for {each} GPU{'' if each == 1 else 's'} and this machine shows {there}; use "
                          f"--gpus {len(visible)}" + ("" if visible else " --device cpu")])
    groups = len(visible) // each if each else 0
    return [tuple(visible[n % groups * each:(n % groups + 1) * each]) if each else () for n in range(tasks)]


def at_once(workers: int, each: int, visible: Sequence[str], wanted: Iterable[str]) -> int:
    """Background tasks that may work together on this machine: `workers`, and no more than have GPUs of their own.

    `wanted` are the devices that the runs name. Raises UsageError for one that a task with `each` GPUs does not see.
    """
    for device in dict.fromkeys(wanted):
        kind, _, number = device.partition(":")
        if kind == "cuda" and int(number or 0) >= each:
            raise UsageError([f"the runs want {device} and a task asks for {each or 'no'} GPU{'s' * (each > 1)}; use "
                              f"--gpus {int(number or 0) + 1}" + (" and --device cuda" if number else "")])
    shares(1, each, visible)
    return min(workers, len(visible) // each) if each else workers


def visible() -> tuple[str, ...]:
    """The names of the GPUs that this program sees."""
    import torch

    return names(torch.cuda.device_count(), os.environ.get(VISIBLE))


def look(context: Any) -> tuple[Gpu, ...]:
    """Every visible GPU, asked for in a process of `context` that ends at once, so that ours holds no memory there.

    Empty where the process does not answer.
    """
    ours, theirs = context.Pipe(duplex=False)
    asked = context.Process(target=_tell, args=(theirs,), daemon=True)
    asked.start()
    theirs.close()
    try:
        return tuple(ours.recv()) if ours.poll(PATIENCE_S) else ()
    except EOFError:
        return ()
    finally:
        asked.kill()
        asked.join()


def _tell(pipe: Connection) -> None:
    import torch

    found = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    pipe.send([Gpu(one.name, one.total_memory) for one in found])
    pipe.close()
