"""The code that queued jobs run: a copy of tracked files, and of untracked ones that git does not ignore.

A copy is named by the hash of its files, so two submissions of the same code share it, and what is edited after a
submission reaches no job of it. `.snapshot.json` in the copy says what it is; the records of its runs repeat that.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .. import checkout
from ..engine import env

NOTE = env.SNAPSHOT_NOTE
LEFT_OUT = (".snapshots", ".git", ".venv", ".cache", "results/jobs", "results/runs")  # whatever git says of them
WITHOUT_GIT = (*LEFT_OUT, "data", "results/checkpoints", "results/claims", "results/scratch", "results/suites")


@dataclass(frozen=True)
class Snapshot:
    """A copy of the code."""

    hash: str
    folder: Path


def files_of(root: Path) -> list[str]:
    """The files that a copy holds, relative to the checkout, sorted."""
    try:
        told = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root,
                              capture_output=True, timeout=60, check=True).stdout.decode()
        names = {n for n in told.split("\0") if n and not _below(n, LEFT_OUT)}
    except (OSError, subprocess.SubprocessError):  # an unpacked archive: everything but what is made by running
        names = {str(p.relative_to(root)) for p in root.rglob("*")
                 if "__pycache__" not in p.parts and not _below(str(p.relative_to(root)), WITHOUT_GIT)}
    return sorted(n for n in names if (root / n).is_file())


def _below(name: str, folders: tuple[str, ...]) -> bool:
    return any(name == f or name.startswith(f + "/") for f in folders)


def hash_of(root: Path, names: list[str], commit: str) -> str:
    """12 hex digits over names and contents, and the commit that records will name."""
    digest = sha256(f"{commit}\n".encode())
    for name in names:
        digest.update(f"{name}\0{sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def make(root: Path = checkout.ROOT, folder: Path | None = None) -> Snapshot:
    """Copy the code as it is now, unless that very copy is there and whole."""
    names = files_of(root)
    commit, dirty, diff = env.code_state()
    name = hash_of(root, names, commit)
    target = (folder if folder is not None else checkout.SNAPSHOTS) / name
    if _whole(target, names, commit):
        return Snapshot(name, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        for one in names:
            copy = building / one
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / one, copy)
        made = hash_of(building, names, commit)
        if made != name:  # somebody is saving a file at this moment: the copy is what it is
            name, target = made, target.parent / made
        (building / NOTE).write_text(json.dumps({"hash": name, "commit": commit, "dirty": dirty, "diff_hash": diff}))
        building.chmod(0o755)
        if target.exists():  # damaged
            shutil.rmtree(target)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Snapshot(name, target)


def _whole(target: Path, names: list[str], commit: str) -> bool:
    try:
        return (target / NOTE).is_file() and hash_of(target, names, commit) == target.name
    except OSError:
        return False
