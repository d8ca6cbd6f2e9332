"""Claims: which runner works on which run. A claim is a small file; a dead runner's claim expires.

A claim is taken under a lock, holds the runner's host and process, and is touched while the run is alive. It counts
as dead when its process is gone (same host), when it has not been touched for `STALE_S` or bears a time so far ahead
(another host), and when it is anything that this program does not write; `take` and `sweep` say which file that was.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from results import door

HEARTBEAT_S = 10.0
STALE_S = 120.0
CLAIM_BYTES = 4096


class Claims:
    """The claims of one results root."""

    def __init__(self, root: Path) -> None:
        self.folder = root

    def path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.claim"

    def take(self, run_id: str) -> bool:
        """Claim the run for this process; False when a living runner has it."""
        with self._locked():
            if self._holds(run_id):
                return False
            self._forget(run_id)
            claim = {"host": _host(), "pid": os.getpid(), "born": _birth(os.getpid())}
            self.path(run_id).write_text(json.dumps(claim))
            return True

    def touch(self, run_id: str) -> None:
        """Still alive. A claim that is gone, or cannot be reached for the moment, is not worth a run."""
        with contextlib.suppress(OSError):
            os.utime(self.path(run_id))

    def release(self, run_id: str) -> None:
        """Give the run up. What cannot be removed counts as dead when this process ends."""
        with contextlib.suppress(OSError):
            self.path(run_id).unlink(missing_ok=True)

    def alive(self, run_id: str) -> bool:
        """Whether a living runner holds the run; whatever is no claim is a dead one."""
        held = _read(self.path(run_id))
        if held is None:
            return False
        if held.host == _host():
            return held.born == _birth(held.pid)
        return abs(time.time() - held.touched) < STALE_S

    def _holds(self, run_id: str) -> bool:
        """`alive`, and a sentence about a file that is no claim."""
        path = self.path(run_id)
        if os.path.lexists(path) and _read(path) is None:
            print(f"regatta: {path.name} is no claim of this program; it holds no run back", file=sys.stderr)
        return self.alive(run_id)

    def _forget(self, run_id: str) -> None:
        """Remove a dead claim, whatever it is."""
        path = self.path(run_id)
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}"))
        else:
            path.unlink(missing_ok=True)

    def living(self) -> set[str]:
        """The ids of all runs that somebody works on now."""
        return {p.stem for p in self.folder.glob("*.claim") if self.alive(p.stem)}

    def sweep(self) -> None:
        """Remove dead claims."""
        with self._locked():
            for path in self.folder.glob("*.claim"):
                if not self._holds(path.stem):
                    self._forget(path.stem)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with door.locked(self.folder / ".lock"):
            yield


@dataclass(frozen=True)
class _Claim:
    host: str
    pid: int
    born: str
    touched: float


def _read(path: Path) -> _Claim | None:
    """A claim as `take` writes it; None for everything else, without waiting for anything but a small file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as stream:
            stat = os.fstat(handle)
            if not S_ISREG(stat.st_mode) or stat.st_size > CLAIM_BYTES:
                return None
            held = json.loads(stream.read(CLAIM_BYTES))
            host, pid, born = held["host"], held["pid"], held["born"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(host) is str and type(pid) is int and 0 < pid < 2**31 and type(born) is str:
        return _Claim(host, pid, born, stat.st_mtime)
    return None


def _host() -> str:
    """A name for this machine that says nothing about its owner."""
    import hashlib

    boot = Path("/proc/sys/kernel/random/boot_id")
    text = boot.read_text() if boot.exists() else socket.gethostname()
    with contextlib.suppress(OSError):
        text += str(Path("/proc/self/ns/pid").readlink())  # a container counts its processes for itself
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _birth(pid: int) -> str | None:
    """When a process began, so that a reused number is not taken for it; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "?"
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
