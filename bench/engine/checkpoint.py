"""Resume inside a run: what a killed run needs to go on bit for bit, written now and then, whole or not at all.

    <folder>/<run id>/<step>.pt        weights, optimizer, random streams, parts, position, curve: at most two
    <folder>/<run id>/attempts.json    when the run was tried, and from which step

A run that a search stops before its last epoch (`until`) shares the folder of the whole run, which goes on from there.

Checkpoints are read with `weights_only`. One that another program wrote (other code, other torch, another kind of
device) is left aside: going on from it would give numbers that no single program gives. A checkpoint that cannot be
written is no reason to stop: the run goes on, and would be repeated from the one before.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods.grammar import from_record
from results import store
from results.schema import Attempt, RunSpec, Status

from . import env

if TYPE_CHECKING:
    import torch

EVERY_S = 60.0  # seconds from one checkpoint to the next, unless the command line says otherwise
KEEP = 2
SHARE = 0.02  # of the time at most goes into writing checkpoints
HERE = Path(__file__).resolve().parent
UNFINISHED = ("preempted", "timeout", "cancelled")  # statuses after which the same run will go on


class Interrupted(RuntimeError):
    """The run was told to stop, or its time is over; it was stored where it stands and can go on."""

    def __init__(self, status: Status, step: int) -> None:
        words = {"timeout": "the time given to the run is over", "cancelled": "interrupted by the user"}.get(
            status, "the machine was wanted back")
        super().__init__(f"{words} at step {step}; the same command goes on from there")
        self.status: Status = status
        self.step = step


@dataclass
class Stop:
    """A wish to stop, set by a signal handler and looked at after every step; a process does one run at a time."""

    wanted: Status | None = None

    def ask(self, status: Status) -> None:
        self.wanted = status


STOP = Stop()


@dataclass
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    key: str  # what a checkpoint must have been written by
    started: str  # of this attempt, UTC
    every_s: float = EVERY_S  # 0: after every step
    every_epochs: int = 0  # 0: by the clock alone
    job: str | None = None
    kept: bool = False  # the run stops before its last epoch, and a longer one may go on from where it stood
    attempts: list[Attempt] = field(default_factory=list)  # earlier ones
    resumed_from: int = 0
    set_aside: str = ""  # why a checkpoint was not used
    _last: float = field(default_factory=time.monotonic)
    _cost: float = 0.0
    _noted: bool = False

    def due(self, epoch_over: int = 0) -> bool:
        """After a step: by the clock. After an epoch (its number, from 1): also every so many epochs."""
        if epoch_over and self.every_epochs and epoch_over % self.every_epochs == 0:
            return True
        return time.monotonic() - self._last >= (self.every_s and max(self.every_s, self._cost / SHARE))

    def save(self, step: int, state: dict[str, Any]) -> bool:
        """Write one, keep the newest two; False when it could not be written."""
        import torch

        began = time.monotonic()

        def put(path: Path) -> None:
            with path.open("wb") as stream:
                torch.save({"key": self.key, "step": step, "state": state}, stream)

        if not self._noted:
            self._note()
        try:
            store.write_atomic(self.folder / f"{step:010d}.pt", put)
            for old in self._files()[KEEP:]:
                old.unlink(missing_ok=True)
            written = True
        except (OSError, RuntimeError):  # a full disk; torch reports some failed writes as RuntimeError
            written = False
        self._last = time.monotonic()
        self._cost = self._last - began
        return written

    def load(self, device: torch.device, until: int = 0) -> dict[str, Any] | None:
        """The newest whole checkpoint of this program, or None; reads the earlier attempts too.

        `until`: none from after so many epochs, which a longer run of the same settings may have left.
        """
        import torch

        self.attempts = [replace(a, reason="killed") if a.end is None else a for a in self._journal()]
        for path in self._files():
            try:
                found = torch.load(path, map_location=device, weights_only=True)
                key, step, state = found["key"], int(found["step"]), dict(found["state"])
            except Exception as error:  # whatever a damaged file makes the reader say: it is no checkpoint
                self.set_aside = f"{path.name} cannot be read ({type(error).__name__})"
                continue
            if key != self.key:
                self.set_aside = f"{path.name} was written by other code"
                continue
            if until and (state["course"]["epoch"], state["course"]["batch"]) > (until, 0):
                continue
            self.resumed_from = step
            self._note()
            return state
        return None

    def close(self, end: str, status: str) -> tuple[Attempt, ...]:
        """All attempts, this one ended. What is left on disk goes, unless the run will go on from it."""
        done = (*self.attempts, Attempt(self.started, end, status, self.resumed_from, self.job))
        if (self.kept or status in UNFINISHED) and self._noted:
            self._write(done)
        return done

    def clear(self) -> None:
        """The run is over and its record stored: nothing will go on from here."""
        for path in [*self.folder.glob("*"), *self.folder.glob(".tmp-*")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or another copy of the run writes into it still
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted((p for p in self.folder.glob("*.pt") if not p.name.startswith(".")), reverse=True)

    def _journal(self) -> list[Attempt]:
        try:
            return [Attempt(**a) for a in json.loads((self.folder / "attempts.json").read_text())]
        except (OSError, ValueError, TypeError, RecursionError):
            return []

    def _note(self) -> None:
        self._write((*self.attempts, Attempt(self.started, None, "running", self.resumed_from, self.job)))
        self._noted = True

    def _write(self, attempts: tuple[Attempt, ...]) -> None:
        with contextlib.suppress(OSError):  # a full disk: the run is worth more than its history
            store.write_text(self.folder / "attempts.json", json.dumps([asdict(a) for a in attempts], indent=1) + "\n")


def key_of(spec: RunSpec, device: str) -> str:
    """What must be equal for a run to go on: the spec, the code that trains it, torch, the kind of device."""
    import torch

    method = from_record(spec.method, spec.options)
    further = [env.versions(method.requires)[package] for package in method.requires]
    return "-".join((spec.id, method.source_hash[:12], _code_hash(), torch.__version__, device.partition(":")[0],
                     *further))


@cache
def _code_hash() -> str:
    """Of the engine and of what all methods share."""
    files = [*sorted(HERE.glob("*.py")), *sorted((HERE.parents[1] / "methods").glob("*.py"))]
    return sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]
