"""A run in a process of its own that dies by kill -9 at a chosen moment. Imports no pytest: many are started."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from bench.engine import env
from bench.engine.record import execute
from bench.engine.where import Where
from results import store
from results.schema import RunSpec

from . import tiny


def run(spec: RunSpec, where: Where, root: Path, moment: int) -> None:
    """Kill ourselves at the n-th event: a step, an fsync, a rename (before and after)."""
    tiny.use()
    env.code_state = lambda: ("test", False, None)  # git is slow, and not what is killed here
    left = moment

    def event(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, rename = os.fsync, Path.replace

    def fsyncing(handle: int) -> None:
        event()
        fsync(handle)

    def renaming(self: Path, target: Path) -> Path:
        event()
        done = rename(self, target)
        event()
        return done

    os.fsync, Path.replace = fsyncing, renaming  # type: ignore[assignment, method-assign]
    execute(spec, {}, where, root, event)


def killed_once(job: Any, root: Path, pipe: Any) -> None:
    """What a runner's process does: the first time it dies in the seventh step, the second time it runs to its end."""
    tiny.use()
    env.code_state = lambda: ("test", False, None)

    def progress(step: int, steps: int) -> None:
        if step == 7 and not store.path_of(job.spec, root).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    pipe.send(("outcome", execute(job.spec, job.passed, job.where, root, progress).status))


def killed_at_once(job: Any, root: Path, pipe: Any) -> None:
    """What a runner's process does: nothing, it dies."""
    os.kill(os.getpid(), signal.SIGKILL)
