"""Claims: which runner works on which run. A claim is a small file; a dead runner's claim expires.

A claim is taken under a lock, holds the runner's host and process, and is touched while the run is alive. It counts
as dead when its process is gone (same host) or when it has not been touched for `STALE_S` (another host).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

HEARTBEAT_S = 10.0
STALE_S = 120.0


class Claims:
    """The claims of one results root."""

    def __init__(self, root: Path) -> None:
        self.folder = root

    def path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.claim"

    def take(self, run_id: str) -> bool:
        """Claim the run for this process; False when a living runner has it."""
        with self._locked():
            path = self.path(run_id)
            if path.exists() and self.alive(run_id):
                return False
            path.write_text(json.dumps({"host": _host(), "pid": os.getpid(), "born": _birth(os.getpid())}))
            return True

    def touch(self, run_id: str) -> None:
        """Still alive."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(run_id))

    def release(self, run_id: str) -> None:
        self.path(run_id).unlink(missing_ok=True)

    def alive(self, run_id: str) -> bool:
        """Whether a living runner holds the run; an unreadable claim is a dead one."""
        path = self.path(run_id)
        try:
            held = json.loads(path.read_text())
            age = time.time() - path.stat().st_mtime
            host, pid, born = held["host"], int(held["pid"]), held["born"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if host == _host():
            return born == _birth(pid)
        return age < STALE_S

    def living(self) -> set[str]:
        """The ids of all runs that somebody works on now."""
        return {p.stem for p in self.folder.glob("*.claim") if self.alive(p.stem)}

    def sweep(self) -> None:
        """Remove dead claims."""
        with self._locked():
            for path in self.folder.glob("*.claim"):
                if not self.alive(path.stem):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


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
