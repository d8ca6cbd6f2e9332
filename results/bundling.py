"""Records become a pack: read strictly, with the predictions that they name, and written so that equal gives equal."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from .evidence import unstored
from .naming import name_of
from .packs import FILES, RECORDS, as_file, as_line, read
from .parsing import parse
from .schema import RecordError, RunResult, from_json
from .store import write_atomic

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can name


def pack(paths: Sequence[Path], out: Path) -> tuple[int, int]:
    """Pack these records, files or members of another pack, into a folder; returns (records, files of predictions).

    Raises RecordError, before anything is written, for a record that cannot be read, lies under another name than its
    own, was made from a tree with changes, or whose predictions are missing or are not the ones that were stored.
    """
    lines: dict[str, bytes] = {}
    members: dict[str, bytes] = {}
    for path in paths:
        name = f"{path.parent.name}/{path.name}"
        try:
            content = read(path)
            record = from_json(content.decode(), name)
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{name}: cannot be read ({type(error).__name__})") from None
        line = as_line(content)
        if name_of(parse(line.decode())) != name or as_file(line) != content:
            raise RecordError(f"{name}: is not the file that this program writes for its record")
        if record.provenance.dirty:
            raise RecordError(f"{name}: was made from a tree with changes; what is published comes from a clean one")
        lines[name] = line
        members |= _predictions(record, path, name)
    out.mkdir(parents=True, exist_ok=True)
    text = b"".join(lines[name] + b"\n" for name in sorted(lines))
    write_atomic(out / FILES, lambda temporary: _zipped(temporary, members))
    write_atomic(out / RECORDS, lambda temporary: _put(temporary, text))
    return len(lines), len(members)


def _predictions(record: RunResult, path: Path, name: str) -> dict[str, bytes]:
    """Member -> bytes; weights, curves and logs are not published."""
    found = {}
    for split in unstored(record.spec.phase, record.metrics, [a.kind for a in record.artifacts]):
        raise RecordError(f"{name}: no predictions are stored for metrics.{split}.top1; they are published together")
    for artifact in record.artifacts:
        if not artifact.kind.startswith("predictions"):
            continue
        if Path(artifact.path).name != artifact.path:
            raise RecordError(f"{name}: artifact {artifact.path!r} lies elsewhere")
        try:
            held = read(path.with_name(artifact.path))
        except OSError as error:
            raise RecordError(f"{name}: artifact {artifact.path!r} cannot be read ({type(error).__name__})") from None
        if sha256(held).hexdigest() != artifact.sha256:
            raise RecordError(f"{name}: artifact {artifact.path!r} is not the file that was stored")
        found[f"{path.parent.name}/{artifact.path}"] = held
    return found


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # predictions are compressed already
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr, info.create_system = 0o644 << 16, 3  # of whatever system writes
            archive.writestr(info, members[name])
