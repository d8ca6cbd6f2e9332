"""Runs that came from elsewhere, what was found when they were checked, and which of them count.

    results/received/<hash of the archive>/...              an unpacked archive (results/archive.py), never edited
    results/received/<hash of the archive>/verdicts.json    what `submit-check` found here, run by run

A verdict is of this checkout alone: none is taken from an archive, and one is void when its record's file is another.
Nothing that is received counts unless it is asked for, and an own record always comes first.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from . import archive, door, index
from .columns import Columns
from .parsing import parse
from .schema import RecordError
from .store import ROOT, record_files, write_text

FOLDER = ROOT / "received"
VERDICTS = "verdicts.json"
Verdict = Literal["verified", "consistent", "claimed", "refused"]
LEVELS: tuple[Verdict, ...] = get_args(Verdict)  # the best first
LEAST: Verdict = "consistent"  # what counts where nothing else is asked for


@dataclass(frozen=True)
class Judged:
    """One run's verdict."""

    verdict: Verdict
    why: str
    record: str  # sha256 of the record's file


@dataclass(frozen=True)
class Received:
    """A run that counts although it was made elsewhere."""

    path: Path
    pack: str
    verdict: Verdict
    why: str


def save(folder: Path, found: Mapping[str, Judged]) -> None:
    """Write the verdicts (by run) of an unpacked archive."""
    body = {run: asdict(one) for run, one in sorted(found.items())}
    write_text(folder / VERDICTS, json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def verdicts(folder: Path) -> dict[str, Judged]:
    """Run -> verdict, of records that are still those that were judged; empty where nothing was checked.

    Raises RecordError for a file that is none of ours.
    """
    try:
        body = parse(door.read_text(folder / VERDICTS))
        found = {run: Judged(**told) for run, told in body.items()}
        if any(one.verdict not in LEVELS for one in found.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        raise RecordError(f"{folder.name}/{VERDICTS}: cannot be read; `submit-check` writes it anew") from None
    files = {run_of(path): path for path in record_files(folder)}
    return {run: one for run, one in found.items() if run in files and sha_of(files[run]) == one.record}


def sha_of(path: Path) -> str:
    """Of a record's file. Raises RecordError."""
    try:
        return sha256(door.read(path)).hexdigest()
    except OSError as error:
        raise RecordError(f"{path.parent.name}/{path.name}: cannot be read ({type(error).__name__})") from None


def run_of(path: Path) -> str:
    """The run whose record bears this name."""
    return path.stem.rpartition("-")[2]


def folders(wanted: Sequence[str], root: Path = FOLDER) -> list[Path]:
    """Unpacked archives by their file, by the first digits of their hash, or `all`. Raises RecordError."""
    there = sorted(p for p in root.iterdir() if re.fullmatch(r"[0-9a-f]{16}", p.name)) if root.is_dir() else []
    found: list[Path] = []
    for name in wanted:
        if name == "all":
            found += there
            continue
        file = Path(name).is_file()
        digest = archive.digest_of(Path(name)) if file else name
        hits = [p for p in there if len(digest) >= 6 and p.name.startswith(digest)]
        if len(hits) != 1:
            raise RecordError(f"{Path(name).name}: " + (
                "has not been checked here; `python -m bench submit-check FILE` does" if file else
                f"{len(hits) or 'no'} received packs begin so; give a file, six digits or more of a hash, or all"))
        found += hits
    return list(dict.fromkeys(found))


def accepted(wanted: Sequence[str], least: Verdict = LEAST, root: Path = FOLDER) -> dict[str, Received]:
    """Run -> the record that counts for it, of these archives; the better verdict of two. Nothing refused ever counts.

    Raises RecordError for an archive that has not been checked.
    """
    found: dict[str, Received] = {}
    for folder in folders(wanted, root):
        judged = verdicts(folder)
        if not judged:
            raise RecordError(f"{folder.name}: has not been checked here; `python -m bench submit-check` does")
        for path in record_files(folder):
            one = judged.get(run_of(path))
            if one is None or one.verdict == "refused" or LEVELS.index(one.verdict) > LEVELS.index(least):
                continue
            before = found.get(run_of(path))
            if before is None or LEVELS.index(one.verdict) < LEVELS.index(before.verdict):
                found[run_of(path)] = Received(path, folder.name, one.verdict, one.why)
    return found


def beside(own: Columns, counted: Mapping[str, Received]) -> Columns:
    """One's own records, then those received ones that stand in for no result of one's own.

    The columns "received" (the archive's hash) and "verdict" are empty for one's own.
    """
    text = own.text
    done = {run for run, status in zip(text.get("run_id", []), text.get("status", []), strict=True) if status == "ok"}
    extra = {run: one for run, one in counted.items() if run not in done}
    found = own.rows([row for row, run in enumerate(text.get("run_id", [])) if run not in extra])
    for name in dict.fromkeys(one.pack for one in extra.values()):
        folder = next(one.path.parents[1] for one in extra.values() if one.pack == name)
        columns = index.read(folder, index=False, on_error=lambda error: None)  # what was accepted can be read
        wanted = [row for row, run in enumerate(columns.text["run_id"]) if run in extra and extra[run].pack == name]
        part = columns.rows(wanted)
        part.text["path"] = [f"{os.path.relpath(folder, own.root)}/{path}" for path in part.text["path"]]
        part.text["received"] = [name] * len(part)
        part.text["verdict"] = [extra[run].verdict for run in part.text["run_id"]]
        found.extend(part)
    return found
