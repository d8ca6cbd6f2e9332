"""Runs in one file, to be carried from one checkout to another, and taken out again without trusting who made it.

    pack.json                        format, suite, commits, and the sha256 of every other member
    suite.json                       where a whole suite was packed: which runs it wants
    records/<data set>/<name>.json   the records' own files, with predictions (.npz) and small adapters beside them

A zip whose members are stored as they are, sorted, without times: equal records give equal bytes. Taking out looks at
every name, kind, size and hash before a byte is written, writes what records name and nothing else, below a folder that
bears the archive's own hash, and reads no pickle. (A checkout's committed packs are another form: `results.packs`.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from . import door, evidence, packs
from .bundling import EPOCH
from .naming import name_of
from .parsing import parse
from .schema import Artifact, RecordError, RunResult, from_json, to_json
from .spoken import word
from .store import write_atomic
from .suites import SuiteView, suite_from_json, suite_to_json

FORMAT = 1
NOTE, SUITE, HOME = "pack.json", "suite.json", "records/"
ADAPTER_BYTES = 2**24  # of trained weights; larger ones stay at home, and their runs can be no more than consistent
MEMBERS, ALL_BYTES = 2**18, 2**33
_NAME = re.compile(r"records/[A-Za-z0-9_][A-Za-z0-9_.]{0,120}/[A-Za-z0-9_][^/\\\x00-\x1f\x7f]{0,250}")
_SCRATCH = ".tmp-"  # begins the folders of archives that are being taken out
_ENDS = {"predictions": ".npz", "adapter": ".safetensors"}


class PackError(RecordError):
    """An archive that nothing is taken out of; the message names it and says why."""


@dataclass
class Packed:
    """What went into an archive, and what did not, a sentence each."""

    records: int = 0
    adapters: int = 0
    left_out: list[str] = field(default_factory=list)


def write(paths: Sequence[Path], out: Path, suite: SuiteView | None = None) -> Packed:
    """Pack these records. Raises RecordError, before anything is written, for one that cannot be read, is not the file
    that this program writes for it, or beside which lie other predictions or weights than were stored."""
    told, members, commits = Packed(), dict[str, bytes](), set[str]()
    for path in paths:
        where = f"{path.parent.name}/{path.name}"
        record, content = _record(path, where)
        if record.status != "ok" or record.spec.phase != "final":
            told.left_out.append(f"{where}: {record.status}, phase {record.spec.phase}; finished final runs are packed")
            continue
        members[f"{HOME}{where}"] = content
        commits.add(record.provenance.commit)
        told.records += 1
        for artifact in record.artifacts:
            held = _held(path, where, artifact, told)
            if held is not None:
                members[f"{HOME}{path.parent.name}/{artifact.path}"] = held
                told.adapters += artifact.kind == "adapter"
    if not told.records:
        raise RecordError("there is no finished final run to pack")
    if suite is not None:
        members[SUITE] = suite_to_json(suite).encode()
    note = {"format": FORMAT, "suite": suite.name if suite else "", "runs": told.records, "commits": sorted(commits),
            "files": {name: sha256(members[name]).hexdigest() for name in sorted(members)}}
    members[NOTE] = (json.dumps(note, indent=1) + "\n").encode()
    write_atomic(out, lambda temporary: _zip(temporary, members))
    return told


def _record(path: Path, where: str) -> tuple[RunResult, bytes]:
    try:
        content = packs.read(path)
        record = from_json(content.decode(), where)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{where}: cannot be read ({type(error).__name__})") from None
    if to_json(record).encode() != content or name_of(parse(content.decode())) != where:
        raise RecordError(f"{where}: is not the file that this program writes for its record")
    return record, content


def _held(path: Path, where: str, artifact: Artifact, told: Packed) -> bytes | None:
    """The bytes of predictions and of small weights; None for what is not packed."""
    kind = artifact.kind.partition(":")[0]
    if kind not in _ENDS:
        return None
    if kind == "adapter" and artifact.bytes > ADAPTER_BYTES:
        told.left_out.append(f"{where}: its weights of {artifact.bytes:,} {word(artifact.bytes, 'byte')} stay here; "
                             f"larger than {ADAPTER_BYTES:,} are not packed")
        return None
    try:
        return evidence.stored(path.parent, artifact.path, artifact.sha256)
    except evidence.PredictionError as error:
        if packs.there(path.with_name(artifact.path)):
            raise RecordError(f"{where}: {artifact.path} {error}") from None
        told.left_out.append(f"{where}: {artifact.path} is not here")
        return None


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr, info.create_system = 0o100644 << 16, 3
            archive.writestr(info, members[name])


def digest_of(path: Path) -> str:
    """What names an archive: 16 digits of the sha256 of its bytes."""
    return _opened(path)[1]


def unpack(path: Path, root: Path) -> Path:
    """Take an archive out below `root`, into a folder that bears its hash; one that is there already is left as it is.

    One at a time below a root: the folder has its name when all of it is on the disk, and what one that was killed left
    behind is removed by the next. Raises RecordError (PackError mostly), and leaves nothing behind, for anything but
    what `write` writes.
    """
    stream, digest = _opened(path)
    with stream:
        target = root / digest
        if target.is_dir():
            return target
        root.mkdir(parents=True, exist_ok=True)
        with door.locked(root / ".lock"):
            if target.is_dir():  # by another, while this one waited
                return target
            for left in root.glob(f"{_SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=root) as scratch:
                _taken_out(stream, Path(scratch) / "pack", path.name).rename(target)
    return target


def _taken_out(stream: BinaryIO, home: Path, where: str) -> Path:
    """The folder of an archive's members, under a name of its own."""
    try:
        with zipfile.ZipFile(stream) as archive:
            _take_out(archive, home, where)
    except RecordError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError) as odd:
        raise PackError(f"{where}: is no pack, or damaged ({type(odd).__name__})") from None
    return home


def _opened(path: Path) -> tuple[BinaryIO, str]:
    try:
        stream = door.opened(path, ALL_BYTES)
    except FileNotFoundError:
        raise PackError(f"{path.name}: there is no such file") from None
    except OSError as error:
        raise PackError(f"{path.name}: cannot be read ({type(error).__name__})") from None
    digest = sha256()
    while piece := stream.read(2**20):
        digest.update(piece)
    stream.seek(0)
    return stream, digest.hexdigest()[:16]


def _take_out(archive: zipfile.ZipFile, home: Path, where: str) -> None:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) != len(archive.infolist()) or len(infos) > MEMBERS:
        raise PackError(f"{where}: holds a member twice, or too many")
    for name, info in infos.items():
        if why := _odd(name, info):
            raise PackError(f"{where}: {name[:80]!r} {why}")
    if sum(info.file_size for info in infos.values()) > ALL_BYTES:
        raise PackError(f"{where}: is larger than {ALL_BYTES:,} bytes")
    note = _note(archive, infos, where)
    if note["files"].keys() != infos.keys() - {NOTE}:
        raise PackError(f"{where}: its members are not those that its {NOTE} lists")
    records = {name for name in infos if name.endswith(".json") and name.startswith(HOME)}
    named = {NOTE, SUITE, *records}
    for name in sorted(records):
        named |= _named(_checked(archive, infos[name], note, where), name, where)
    if extra := sorted(infos.keys() - named):
        raise PackError(f"{where}: no record names {extra[0]!r}")
    if not records:
        raise PackError(f"{where}: holds no record")
    if SUITE in infos:
        suite_from_json(_checked(archive, infos[SUITE], note, where).decode(), f"{where}/{SUITE}")
    for name, info in sorted(infos.items()):
        target = home / name.removeprefix(HOME)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(_checked(archive, info, note, where))
            stream.flush()
            os.fsync(stream.fileno())


def _odd(name: str, info: zipfile.ZipInfo) -> str:
    """Why a member is none of a pack; empty when it is."""
    if name not in (NOTE, SUITE) and not (_NAME.fullmatch(name) and name.endswith((".json", *_ENDS.values()))):
        return "is no name of a pack"
    if info.external_attr >> 16 & 0o170000 not in (0, 0o100000):
        return "is no regular file"
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
        return "is compressed or locked; members of a pack are stored as they are"
    most = door.SMALL if name.endswith(".json") else ADAPTER_BYTES if name.endswith("s") else evidence.FILE_BYTES
    return f"is larger than {most:,} bytes" if info.file_size > most else ""


def _note(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], where: str) -> dict[str, Any]:
    if NOTE not in infos:
        raise PackError(f"{where}: is no pack; it has no {NOTE}")
    note = parse(archive.read(infos[NOTE]).decode())
    if not isinstance(note, dict) or note.get("format") != FORMAT or not isinstance(note.get("files"), dict):
        raise PackError(f"{where}: {NOTE} is not of format {FORMAT}, which this program reads")
    return note


def _checked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, note: dict[str, Any], where: str) -> bytes:
    content = archive.read(info)
    if info.filename != NOTE and sha256(content).hexdigest() != note["files"][info.filename]:
        raise PackError(f"{where}: {info.filename!r} is not the file that was packed: its hash is another")
    return content


def _named(content: bytes, name: str, where: str) -> set[str]:
    """Members that this record names. Raises RecordError for a record that cannot be read or lies elsewhere."""
    record = from_json(content.decode(), f"{where}/{name}")
    found = HOME + name_of(parse(content.decode()))
    if found != name:
        raise PackError(f"{where}: {name!r} holds the record of {found.removeprefix(HOME)}")
    folder = name.rpartition("/")[0]
    return {f"{folder}/{a.path}" for a in record.artifacts
            if (end := _ENDS.get(a.kind.partition(":")[0])) and "/" not in a.path and a.path.endswith(end)}
