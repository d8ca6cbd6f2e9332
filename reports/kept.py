"""What was built before: a suite whose records, code and libraries are the same is not drawn again.

The note lies beside the files (`site/.built.json`, deletable). Files that someone changed or removed are built again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from results import door
from results.columns import Columns
from results.evidence import CONTRADICTED, UNPROVEN
from results.selections import selection_path, trials_path, tuned_suite
from results.store import ROOT, write_text
from results.suites import SuiteView

NOTE = ".built.json"
FAULTS = (f"{CONTRADICTED}.", f"{UNPROVEN}.")
LIBRARIES = ("matplotlib", "numpy", "scipy", "tabulate")


@dataclass
class Kept:
    """The note of one folder of files."""

    folder: Path
    notes: dict[str, Any]

    def section(self, name: str, key: str) -> str | None:
        """The suite's section, when it and all its files are still what was written under this key."""
        note = self._note(name)
        if note.get("key") != key:
            return None
        try:
            for file, digest in note["files"].items():
                if sha256(door.read(self.folder / file, door.LARGE)).hexdigest() != digest:
                    return None
        except OSError:
            return None
        return str(note["section"])

    def files(self, name: str) -> set[str]:
        """Names of the files written for a suite before; none that leads out of the folder."""
        return {f for f in self._note(name).get("files", ()) if Path(f).name == f}

    def _note(self, name: str) -> dict[str, Any]:
        """What was put for a suite, as it was put; empty where there is nothing or something else."""
        note = self.notes.get(name)
        try:
            return note if isinstance(note, dict) and note.get("sha256") == _seal(name, note) else {}
        except RecursionError:
            return {}

    def put(self, name: str, key: str, section: str, files: dict[str, str]) -> None:
        digests = {file: sha256(text.encode()).hexdigest() for file, text in files.items()}
        note = {"key": key, "section": section, "files": digests}
        self.notes[name] = note | {"sha256": _seal(name, note)}
        text = json.dumps(self.notes, indent=1, sort_keys=True) + "\n"
        path = self.folder / NOTE
        if not door.holds(path, text):
            with contextlib.suppress(IsADirectoryError):  # in a folder's place there is no note
                write_text(path, text)


def _seal(name: str, note: Mapping[str, Any]) -> str:
    """Of all that a note says, so that a changed section is not shown."""
    body = {k: v for k, v in note.items() if k != "sha256"}
    return sha256(json.dumps([name, body], sort_keys=True).encode()).hexdigest()


def kept(folder: Path) -> Kept:
    """Read the note; one that is damaged counts as none."""
    try:
        notes = json.loads(door.read_text(folder / NOTE, door.LARGE))
    except (OSError, ValueError, RecursionError):
        notes = {}
    return Kept(folder, notes if isinstance(notes, dict) else {})


def key_maker() -> Callable[[str], str]:
    """records hash -> key: together with our code, the printed rows and the libraries that draw."""
    digest = sha256()
    here = Path(__file__).parent
    ours = [path for kind in ("py", "js", "css") for path in here.glob(f"*.{kind}")]
    for path in sorted([*ours, *ROOT.glob("*.py"), *ROOT.glob("published/*.json")]):
        digest.update(path.read_bytes())
    for name in LIBRARIES:
        try:
            digest.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{name} ?\n".encode())
    base = digest.hexdigest()
    return lambda records: sha256(f"{base} {records}".encode()).hexdigest()


def records_hash(suite: SuiteView, records: Columns, by_run: Mapping[str, int], selections: Path | None = None) -> str:
    """Of what a suite's tables depend on: the suite itself, the bytes of its records, how its settings were chosen."""
    digest = sha256(repr(replace(suite, entries=())).encode())
    digest.update("".join([f"{r.method}|{r.backbone}|{r.pool}\n" for r in suite.rows if r.pool]).encode())
    digest.update("\n".join(f"{e.run_id}|{e.dataset}|{e.method}|{e.backbone}|{e.seed}|{e.refused}"
                            for e in suite.entries).encode())
    shas = records.text.get("sha256", [])
    runs = sorted([e.run_id for e in suite.entries if e.run_id in by_run])
    digest.update("".join([f"{run_id} {shas[by_run[run_id]]}\n" for run_id in runs]).encode())
    for name in sorted(n for n in records.text if n.startswith(FAULTS)):  # predictions that are not what they were
        words = records.text[name]
        digest.update("".join([f"{name} {words[by_run[run_id]]}\n" for run_id in runs
                               if words[by_run[run_id]]]).encode())
    for row, phase in enumerate(records.text.get("phase", [])):
        if phase != "final":  # tune: budget curves; peek: what peeking would have gained
            digest.update(f"{phase} {records.get_text('run_id', row)} {shas[row]}\n".encode())
    name = tuned_suite(suite.name)
    for path in (selection_path(name, selections), trials_path(name, selections)) if selections else ():
        digest.update(_content(path))
    return digest.hexdigest()[:16]


def marks(suite: SuiteView, records: Columns, by_run: Mapping[str, int]) -> str:
    """Which runs of a suite were received, and their verdicts: tables show them, the records are the same."""
    said = [f"{e.run_id} {told} {records.get_text('received', by_run[e.run_id])}" for e in suite.entries
            if e.run_id in by_run and (told := records.get_text("verdict", by_run[e.run_id]))]
    return "".join(f"\n{one}" for one in sorted(said))


def _content(path: Path) -> bytes:
    """Of a file that may be missing; what cannot be read is a content of its own, its reader says so."""
    try:
        return door.read(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        return type(error).__name__.encode()
