"""Where records lie and how they get there: temporary file in the same folder, fsync, rename. Never half a record.

    <root>/runs/<dataset>/<method>-<backbone>-s<seed>-<id>.json     the user's, predictions beside it as .npz
    <root>/reference/<suite>/...                                    the repository's own, packed (results/packs.py)
    <root>/scratch/...                                              runs that did not count: interrupted, or failed
                                                                    where a result lay already
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import naming, packs
from .schema import RecordError, RunResult, RunSpec, from_json, to_json

ROOT = Path(__file__).parent
Writer = Callable[[Path], None]


def stem_of(spec: RunSpec) -> str:
    """`lora+pace-regatta_vit_48-s0-0123456789ab`: safe in every shell and file system."""
    return naming.stem(spec.method, spec.model, spec.seed, spec.id)


def path_of(spec: RunSpec, root: Path | None = None) -> Path:
    """The record's file below a results root (default: this folder's runs/)."""
    base = root if root is not None else ROOT / "runs"
    return base / naming.folder_of(spec.dataset) / f"{stem_of(spec)}.json"


def write_atomic(path: Path, write: Writer, over: bool = True) -> None:
    """Call `write` on a temporary file beside `path`, make it durable, and only then give it its name.

    With `over` false a file that has the name keeps it, and FileExistsError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        if over:
            temporary.replace(path)
        else:
            os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, over: bool = True) -> None:
    """Atomically write UTF-8 text; `over` as in `write_atomic`."""

    def put(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    write_atomic(path, put, over)


def save(result: RunResult, root: Path | None = None) -> Path:
    """Store a record where its spec says, and return where; artifacts must have been written before.

    A result is never lost to a failure: looking at what lies there and taking its place are one step among all
    programs that store, and a failure that comes to lie on a result goes to `scratch` beside the root instead.
    """
    path, text = path_of(result.spec, root), to_json(result)
    with _alone(path.parent) as locked:
        if result.status == "ok":
            write_text(path, text)
            return path
        if not _is_result(path):
            with contextlib.suppress(FileExistsError):
                write_text(path, text, over=locked)  # unlocked, a result may come to lie there at any moment
                return path
    aside = aside_of(result.spec, root)
    write_text(aside, text)
    return aside


def aside_of(spec: RunSpec, root: Path | None = None) -> Path:
    """Where the record of a run lies that does not count."""
    return path_of(spec, (root if root is not None else ROOT / "runs").parent / "scratch")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """A lock among those who store in this folder; False where the file system has none."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # by name: a process forked meanwhile holds the handle too
        os.close(handle)


def _is_result(path: Path) -> bool:
    try:
        return load(path).status == "ok"
    except RecordError:
        return False


def load(path: Path) -> RunResult:
    """Read one record. Raises RecordError naming the file and the field."""
    try:
        text = packs.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: cannot be read ({error.__class__.__name__})") from None
    record = from_json(text, f"{path.parent.name}/{path.name}")
    if not path.stem.endswith(record.run_id):  # a copy, or a file that was moved: it is not the run of this name
        raise RecordError(f"{path.parent.name}/{path.name}: holds the record of run {record.run_id}")
    return record


def record_files(root: Path) -> list[Path]:
    """Every record below a root, in a fixed order; temporary and hidden files are no records.

    Those of a pack stand among them under the names that their files would have.
    """
    loose = {p for p in root.glob("*/*.json") if not p.name.startswith(".")}
    pack = packs.find(root)
    return sorted(loose | {root / name for name in (pack.lines if pack else ())})


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
