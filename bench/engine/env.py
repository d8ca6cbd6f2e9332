"""Where a run happens: commit, dirty flag with the hash of the difference, versions, device. No names, no paths."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from results.schema import Provenance

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT_NOTE = ".snapshot.json"  # in a copy of the code that queued jobs run; `bench.dispatch.snapshot` writes it
SOURCES = ("bench", "datasets", "methods", "results/*.py", "reports/*.py", "pyproject.toml", "Makefile")


def now() -> str:
    """UTC, ISO 8601, seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


@cache
def code_state() -> tuple[str, bool, str | None]:
    """(commit, dirty, hash of the difference) of the source paths alone; a fork server's children ask once."""
    note = snapshot_note()
    if note:
        return str(note["commit"]), bool(note["dirty"]), note["diff_hash"]
    commit = os.environ.get("REGATTA_COMMIT") or _git("rev-parse", "HEAD").strip() or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *SOURCES)
    if not changed.strip():
        return commit, False, None
    digest = hashlib.sha256(_git("diff", "HEAD", "--", *SOURCES).encode())
    for line in sorted(changed.splitlines()):
        digest.update(line.encode())
        path = ROOT / line[3:]
        if line.startswith("??") and path.is_file():
            digest.update(path.read_bytes())
    return commit, True, digest.hexdigest()[:12]


@cache
def snapshot_note() -> dict[str, Any]:
    """What the copy of the code that we run says of itself; empty in a checkout."""
    try:
        note: dict[str, Any] = json.loads((ROOT / SNAPSHOT_NOTE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note


def snapshot() -> str | None:
    """The hash of the copy of the code that we run; None in a checkout."""
    return snapshot_note().get("hash")


@cache
def cpu_name() -> str:
    """The processor's model as the kernel names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(further: Iterable[str] = ()) -> dict[str, str]:
    """Of what may move the numbers: what every installation has, and what a method `requires` beside."""
    return _versions() | {package: _version(package) for package in further}


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "timm", "numpy", "pillow"):
        found[package] = _version(package)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def provenance(device: str, deterministic: bool, started: str, further: Iterable[str] = ()) -> Provenance:
    """Gather it; `device` is torch's name of it, `further` are packages beside those of every installation."""
    import torch

    commit, dirty, diff = code_state()
    cuda = device.startswith("cuda")
    return Provenance(
        commit=commit, dirty=dirty, diff_hash=diff, versions=versions(further),
        device=torch.cuda.get_device_name(device) if cuda else "cpu", cpu=cpu_name(), cores=os.cpu_count() or 1,
        driver=torch.version.cuda if cuda else None, deterministic=deterministic, started=started,
        snapshot=snapshot(), place=device if ":" in device else "",
    )


def job_id() -> str | None:
    """SLURM's job id, with the array's index, where there is one."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
