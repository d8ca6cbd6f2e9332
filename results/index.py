"""Every record below a folder as columns, and the cache that keeps only changed files being parsed again.

Predictions are held against their records here (`results.evidence`), so that no table prints what they contradict.
The cache (`.index` beside the records, deletable, ignored by git) holds the columns by path, size and modification
time of record and predictions; without it the columns are the same. Measured in tests/perf/test_perf_reports.py.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import door, packs, sealed
from .columns import OWN, Columns, Stamp
from .evidence import faults
from .parsing import parse as parsed
from .schema import RecordError, from_json
from .store import ROOT, write_atomic
from .strict import sound

INDEX = ".index"
PIECE, MANY = 1000, 20_000  # files parsed at a time; files from which a second process pays
RECENT_NS = 2_000_000_000  # a file this young when the index is written may change again within its time stamp


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The record as parsed JSON, after the same checks as `schema.from_json`; raises RecordError as it does."""
    try:
        body = parsed(data.decode())
    except ValueError:
        body = None
    if isinstance(body, dict) and sound(body):
        return body
    from_json(_decoded(data, where), where)  # says what is wrong; numbers written as 1 for 1.0 come through
    checked: dict[str, Any] = json.loads(data)
    return checked


def read(root: Path | None = None, *, index: bool = True, on_error: Callable[[RecordError], None] | None = None,
         progress: Callable[[int, int], None] | None = None) -> Columns:
    """Columns of every record below a root, in the order of paths. Strict, unless `on_error` takes what fails."""
    base = root if root is not None else ROOT / "runs"
    files = list(_scan(base))
    old = load_index(base) if index else None
    if old is not None and [stamp for _, stamp in files] == old.stamp and [p for p, _ in files] == old.text["path"]:
        return old
    known = {} if old is None else {p: row for row, p in enumerate(old.text["path"])}
    columns, fresh = Columns(base), False
    waiting: list[tuple[str, Stamp]] = []
    held = [0, 0]  # rows of `old`, from one to before the other, that come next as they are

    def copy() -> None:
        if old is not None and held[0] < held[1]:
            columns.extend(old.part(*held))
        held[:] = [0, 0]

    def flush() -> None:
        for part in _parsed(base, waiting, progress):
            columns.extend(part)
            for error in part.unreadable:
                if on_error is None:
                    raise error
                on_error(error)
        waiting.clear()

    for path, stamp in files:
        row = known.get(path, -1)
        if old is not None and row >= 0 and old.stamp[row] == stamp:
            if waiting:  # rows stay in the order of paths
                flush()
            if row != held[1] or held[0] == held[1]:
                copy()
                held[:] = [row, row]
            held[1] = row + 1
        else:
            copy()
            waiting.append((path, stamp))
            fresh = True
    copy()
    flush()
    columns.text.setdefault("path", [])
    changed = old is None or len(old) != len(columns) or (fresh and not _same(old, columns))
    if index and not columns.unreadable and changed:
        save_index(columns)
    return columns


def _parsed(base: Path, files: Sequence[tuple[str, Stamp]],
            progress: Callable[[int, int], None] | None) -> Iterator[Columns]:
    """The files' columns in order, piece by piece; many files are shared between two processes."""
    pieces = [files[i:i + PIECE] for i in range(0, len(files), PIECE)]
    work = partial(_piece, base)
    alone = len(files) < MANY or threading.active_count() > 1 or len(os.sched_getaffinity(0)) < 2
    if alone:  # forking a process with threads is not safe, and for few files not worth it
        found: Iterator[Columns] = map(work, pieces)
        yield from _told(found, len(files), progress)
        return
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        yield from _told(pool.map(work, pieces), len(files), progress)


def _told(pieces: Iterator[Columns], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Columns]:
    for done, piece in enumerate(pieces, 1):
        if progress is not None:
            progress(min(done * PIECE, total), total)
        yield piece


def _piece(base: Path, files: Sequence[tuple[str, Stamp]]) -> Columns:
    columns = Columns(base)
    for path, stamp in files:
        try:
            data = _bytes(base, path)
            body = parse(data, path)
            if not path.endswith(f"{body['run_id']}.json"):
                raise RecordError(f"{path}: holds the record of run {body['run_id']}")
            columns.add(body, path, stamp, sha256(data).hexdigest()[:16], faults_of(body, (base / path).parent))
        except RecordError as error:
            columns.unreadable.append(_printable(error))
    columns.close()
    return columns


def _printable(error: RecordError) -> RecordError:
    """A file's name may be no UTF-8; what is said of it goes into files that are."""
    return RecordError(str(error).encode(errors="backslashreplace").decode())


def faults_of(body: dict[str, Any], folder: Path) -> dict[str, tuple[str, str]]:
    """What the stored predictions of a parsed record do not support: see `evidence.faults`."""
    artifacts = [(a["kind"], a["path"], a["sha256"]) for a in body["artifacts"]]
    metric = (body["dataset"] or {}).get("metric", "top1")
    known = body["status"] == "ok" or artifacts
    return faults(folder, body["phase"], body["metrics"], artifacts, metric) if known else {}


def _scan(base: Path) -> Iterator[tuple[str, Stamp]]:
    """Relative path and stamp of every record, as store.record_files orders them."""
    if not base.is_dir():
        return
    loose, pack = _scan_folders(base), packs.find(base)
    yield from loose if pack is None else sorted({**_scan_pack(pack), **dict(loose)}.items())


def _scan_pack(pack: packs.Pack) -> dict[str, Stamp]:
    """Every record of a pack, under the name that its file would have; all change when the pack does."""
    return {name: (len(line), *pack.stamp) for name, line in pack.lines.items()}


def _scan_folders(base: Path) -> Iterator[tuple[str, Stamp]]:
    for folder in sorted(e.name for e in os.scandir(base) if e.is_dir()):
        inside = os.open(base / folder, os.O_RDONLY)  # names are then looked up in it, not from the root on
        try:
            names = sorted(os.listdir(inside))  # noqa: PTH208 (pathlib knows no handles)
            held = [name for name in names if name.endswith(".npz")]
            for name in names:
                if name.endswith(".json") and not name.startswith("."):
                    yield f"{folder}/{name}", _stamp(inside, name, held)
        finally:
            os.close(inside)


def _stamp(inside: int, name: str, held: Sequence[str]) -> Stamp:
    """Of a record and of the predictions that bear its name; `held` are the folder's, in order."""
    stem = name.removesuffix("json")
    try:
        stat = os.stat(name, dir_fd=inside)
        newest, beside = stat.st_mtime_ns, []
        for i in range(bisect_left(held, stem), len(held)):
            if not held[i].startswith(stem):
                break
            one = os.stat(held[i], dir_fd=inside)
            newest = max(newest, one.st_mtime_ns)
            beside.append(f"{held[i]} {one.st_size} {one.st_mtime_ns}")
    except OSError:  # a link to nowhere: reading it says so
        return 0, 0, 0
    names = os.fsencode("\n".join(beside))  # a name may be no UTF-8
    return stat.st_size, newest, int.from_bytes(sha256(names).digest()[:7], "little") if beside else 0


def _same(old: Columns, new: Columns) -> bool:
    """Whether files that were read again, being young, held what the index already says: then it stays as it is."""
    return old.text == new.text and {n: c.tobytes() for n, c in old.number.items()} == {
        n: c.tobytes() for n, c in new.number.items()}


def _bytes(base: Path, path: str) -> bytes:
    try:
        return door.read(f"{base}/{path}")  # a path as text: pathlib took a fifth of the reading
    except FileNotFoundError:
        pack = packs.find(base)
        if pack is not None and path in pack.lines:
            return pack.record(path)
        raise RecordError(f"{path}: cannot be read (FileNotFoundError)") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.__class__.__name__})") from None


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: cannot be read ({error.__class__.__name__})") from None


def load_index(base: Path) -> Columns | None:
    """The cached columns, or None when there are none of this program's making; any damage counts as none."""
    try:
        data = sealed.opened(door.read(base / INDEX, door.LARGE))
        return None if data is None else _unpacked(base, data)
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return None


def _unpacked(base: Path, view: memoryview) -> Columns | None:
    size = int.from_bytes(view[:8], "little")
    head, at = json.loads(bytes(view[8:8 + size])), 8 + size
    if head["code"] != _code():
        return None
    columns = Columns(base)
    rows: int = head["rows"]

    def take(kind: str) -> array[Any]:
        nonlocal at
        values = array(kind)
        size = rows * values.itemsize
        values.frombytes(view[at:at + size])
        at += size
        return values

    for name in head["number"]:
        columns.number[name] = take("d")
    for name, words in head["text"]:
        columns.text[name] = [words[code] for code in take("I")]
    sizes, times, marks = take("q"), take("q"), take("q")
    for name in head["own"]:  # a word per row, in one piece
        size = int.from_bytes(view[at:at + 8], "little")
        columns.text[name] = bytes(view[at + 8:at + 8 + size]).decode().split("\n")
        at += 8 + size
    columns.stamp = list(zip(sizes, times, marks, strict=True))
    lengths = {len(columns), *map(len, columns.number.values()), *map(len, columns.text.values())}
    return columns if at == len(view) and lengths == {rows} else None


def save_index(columns: Columns) -> None:
    """Write the cache atomically; a folder that cannot be written, or has names that are no text, is without one."""
    rows, now = len(columns), time.time_ns()
    own = [n for n in OWN if rows and n in columns.text]
    words, body = [], [column.tobytes() for column in columns.number.values()]
    for name, texts in columns.text.items():
        if name in own:
            continue
        codes = {word: code for code, word in enumerate(dict.fromkeys(texts))}
        words.append((name, list(codes)))
        body.append(array("I", [codes[word] for word in texts]).tobytes())
    body.append(array("q", [size for size, _, _ in columns.stamp]).tobytes())
    body.append(array("q", [when if when < now - RECENT_NS else -1 for _, when, _ in columns.stamp]).tobytes())
    body.append(array("q", [mark for _, _, mark in columns.stamp]).tobytes())
    try:
        blobs = ["\n".join(columns.text[name]).encode() for name in own]
    except UnicodeEncodeError:  # a file's name is no UTF-8
        return
    if any(blob.count(b"\n") >= rows for blob in blobs):  # a file's name has two lines
        return
    for blob in blobs:
        body += [len(blob).to_bytes(8, "little"), blob]
    head = json.dumps({"code": _code(), "rows": rows, "number": list(columns.number), "text": words,
                       "own": own}).encode()
    with contextlib.suppress(OSError):  # a read-only folder: the tables are the same without the cache
        write_atomic(columns.root / INDEX, partial(sealed.write, [len(head).to_bytes(8, "little"), head, *body]))


def _code() -> str:
    """What the index depends on: the schema, the checks and this file."""
    here = Path(__file__).parent
    names = ("schema.py", "strict.py", "ranges.py", "parsing.py", "evidence.py", "door.py", "packs.py", "columns.py",
             "sealed.py", "index.py")
    return sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()
