"""Where records lie and how they get there: temporary file in the same folder, fsync, rename. Never half a record.

    <root>/runs/<dataset>/<method>-<backbone>-s<seed>-<id>.json     the user's, predictions beside it as .npz
    <root>/reference/<suite>/...                                    the repository's own, same layout
    <root>/scratch/...                                              runs that did not count: interrupted
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .schema import RecordError, RunResult, RunSpec, from_json, to_json

ROOT = Path(__file__).parent
Writer = Callable[[Path], None]


def stem_of(spec: RunSpec) -> str:
    """`lora+pace-regatta_vit_48-s0-0123456789ab`: safe in every shell and file system."""
    model = re.sub(r"[^A-Za-z0-9_.]", "_", spec.model)
    method = spec.method if len(spec.method) <= 80 else spec.method[:79] + "~"
    return f"{method}-{model}-s{spec.seed}-{spec.id}"


def path_of(spec: RunSpec, root: Path | None = None) -> Path:
    """The record's file below a results root (default: this folder's runs/)."""
    base = root if root is not None else ROOT / "runs"
    return base / re.sub(r"[^A-Za-z0-9_.]", "_", spec.dataset) / f"{stem_of(spec)}.json"


def write_atomic(path: Path, write: Writer) -> None:
    """Call `write` on a temporary file beside `path`, make it durable, and only then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Atomically write UTF-8 text."""

    def put(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    write_atomic(path, put)


def save(result: RunResult, root: Path | None = None) -> Path:
    """Store a record where its spec says; artifacts must have been written before."""
    path = path_of(result.spec, root)
    write_text(path, to_json(result))
    return path


def load(path: Path) -> RunResult:
    """Read one record. Raises RecordError naming the file and the field."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: cannot be read ({error.__class__.__name__})") from None
    return from_json(text, f"{path.parent.name}/{path.name}")


def record_files(root: Path) -> list[Path]:
    """Every record below a root, in a fixed order; temporary and hidden files are no records."""
    return sorted(p for p in root.glob("*/*.json") if not p.name.startswith("."))


def load_all(root: Path | None = None, on_error: Callable[[RecordError], None] | None = None) -> Iterator[RunResult]:
    """Every record below a root. Strict: the first unreadable one raises, unless `on_error` takes it."""
    for path in record_files(root if root is not None else ROOT / "runs"):
        try:
            yield load(path)
        except RecordError as error:
            if on_error is None:
                raise
            on_error(error)


class Store:
    """A results root, asked by spec."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else ROOT / "runs"

    def path(self, spec: RunSpec) -> Path:
        return path_of(spec, self.root)

    def get(self, spec: RunSpec) -> RunResult | None:
        path = self.path(spec)
        return load(path) if path.exists() else None

    def save(self, result: RunResult) -> Path:
        return save(result, self.root)
