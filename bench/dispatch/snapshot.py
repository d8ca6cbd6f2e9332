"""The code that queued jobs run: a copy of tracked files, and of untracked ones that git does not ignore.

A copy is named by the hash of its files, so two submissions of the same code share it, and what is edited after a
submission reaches no job of it. `.snapshot.json` in the copy says what it is; the records of its runs repeat that.
Folders of parts outside the checkout are copied with it, to `.extra/` (`bench.extra`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .. import checkout, extra
from ..engine import env

NOTE = env.SNAPSHOT_NOTE
# Whatever git says of them.
LEFT_OUT = (".snapshots", extra.COPIES, ".git", ".venv", ".cache", "results/jobs", "results/runs")
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


def hash_of(files: Mapping[str, Path], commit: str) -> str:
    """12 hex digits over names and contents, and the commit that records will name."""
    digest = sha256(f"{commit}\n".encode())
    for name, file in files.items():
        digest.update(f"{name}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def make(root: Path = checkout.ROOT, folder: Path | None = None) -> Snapshot:
    """Copy the code as it is now, unless that very copy is there and whole."""
    sources = {name: root / name for name in files_of(root)} | extra.copied()
    commit, dirty, diff = env.code_state()
    name = hash_of(sources, commit)
    target = (folder if folder is not None else checkout.SNAPSHOTS) / name
    if _whole(target, sources, commit):
        return Snapshot(name, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        for one, file in sources.items():
            copy = building / one
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        made = hash_of({one: building / one for one in sources}, commit)
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


def _whole(target: Path, names: Iterable[str], commit: str) -> bool:
    try:
        return (target / NOTE).is_file() and hash_of({n: target / n for n in names}, commit) == target.name
    except OSError:
        return False
