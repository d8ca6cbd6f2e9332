"""The ledger of submissions: what was handed to a scheduler, which runs are in which task, and how the tasks are.

    results/jobs/<submission id>/
        submission.json      who holds which runs; whole or not at all, before sbatch and after each job id
        runs.jsonl           a first line for all, then a line per run: what a task needs to carry it out
        beats/<array>-<task>.json   a sign of life of each task, with the progress of its run
        submitit/            submitit's pickles and logs
        cancelled            there after `cancel`

Nothing here decides what is done: records do. The ledger says what has been asked of whom, so that nothing is asked
twice. It is the user's own and git ignores it; paths in it are absolute. No torch, no submitit.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from methods.outside import folders
from results import door, store
from results.parsing import parse
from results.schema import RecordError, Scalar, _build, spec_from_json

from .. import checkout
from ..engine.where import Where
from ..planning.resolve import Planned
from .local import Job

FRESH_S = 60.0
Key = tuple[str, int, int]  # submission, array, task


@dataclass(frozen=True)
class Resources:
    """What a task asks for; runs that ask for the same share an array."""

    cpus: int = 1
    gpus: int = 0
    mem_gb: float | None = None
    time_min: int = 30
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    slurm: tuple[tuple[str, str], ...] = ()
    srun: bool = True


@dataclass(frozen=True)
class Array:
    """One sbatch: tasks that ask for the same. The job's name, not its number, says that it is ours."""

    number: int
    name: str
    resources: Resources
    tasks: tuple[tuple[str, ...], ...]  # run ids of each task
    job: str | None = None  # None: not submitted, or we died before we could note it
    refused: str = ""  # in sbatch's words
    pids: tuple[tuple[int, str], ...] = ()  # cluster local: the process of each task and when it began


@dataclass(frozen=True)
class Submission:
    """What one `submit` or `retry` asked for."""

    id: str
    folder: Path
    cluster: str  # slurm, local, debug
    made: str  # UTC
    suite: str
    snapshot: str
    arrays: tuple[Array, ...]
    words: tuple[str, ...] = ()  # as typed
    cancelled: str = ""  # UTC
    extra: tuple[str, ...] = ()  # folders of parts outside the checkout, for `retry`

    def runs(self) -> list[str]:
        """The ids of all its runs."""
        return [run for array in self.arrays for task in array.tasks for run in task]


@dataclass(frozen=True)
class Beat:
    """A task's sign of life."""

    job: str | None
    host: str
    pid: int
    born: str | None
    life: int  # 0, then one more after every requeue
    started: float  # of this life, seconds since the epoch
    beaten: float
    running: dict[str, tuple[float, float]]  # run -> (share done, since)
    ended: dict[str, str]  # run -> status, in this life; "elsewhere": its record was there already
    over: str = ""  # "", done, failed, requeued, stopped

    @property
    def fresh(self) -> bool:
        return not self.over and abs(time.time() - self.beaten) < FRESH_S


@dataclass(frozen=True)
class Place:
    """Where a run was sent."""

    submission: Submission
    array: Array
    task: int

    @property
    def key(self) -> Key:
        return self.submission.id, self.array.number, self.task

    @property
    def job(self) -> str | None:
        """The scheduler's id of the task: `4905776_3`; a single task is no array, and a local one a process."""
        if self.array.pids:
            return str(self.array.pids[self.task][0]) if self.task < len(self.array.pids) else None
        if self.array.job is None or len(self.array.tasks) == 1:
            return self.array.job
        return f"{self.array.job}_{self.task}"

    @property
    def stdout(self) -> Path:
        return self.submission.folder / "submitit" / f"{self.job}_0_log.out"

    @property
    def stderr(self) -> Path:
        return self.submission.folder / "submitit" / f"{self.job}_0_log.err"

    def beat(self) -> Beat | None:
        """The task's last sign of life; None before the first."""
        return read_beat(beat_path(self.submission.folder, self.array.number, self.task))


@dataclass(frozen=True)
class Roots:
    """Where the tasks of a submission find and put things, whatever folder their code lies in."""

    runs: Path
    claims: Path
    checkout: Path


def new_id() -> str:
    """Never given out before: job numbers can come back, these do not. In the order of time, to the millisecond."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{uuid.uuid4().hex[:8]}"


def create(folder: Path, suite: str, cluster: str, snapshot: str, arrays: Sequence[Array], jobs: Sequence[Job],
           roots: Roots, words: Sequence[str] = (), made_id: str | None = None) -> Submission:
    """Write a submission down before anything is submitted; the ids of its jobs follow with `save`."""
    name = made_id or new_id()
    made = Submission(name, folder / name, cluster, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), suite, snapshot,
                      tuple(arrays), tuple(words), extra=tuple(map(str, folders())))
    (made.folder / "beats").mkdir(parents=True)
    places = list(dict.fromkeys(j.where.with_files(None, None) for j in jobs))
    lines: list[dict[str, Any]] = [{"roots": {k: str(v) for k, v in asdict(roots).items()},
              "where": [{k: str(v) if isinstance(v, Path) else v for k, v in asdict(w).items()} for w in places]}]
    lines += [{"id": j.spec.id, "spec": asdict(j.spec), "passed": j.passed, "again": j.again,
               "where": places.index(j.where.with_files(None, None)),
               "weights": _path(j.where.weights_file), "head": _path(j.where.head_file)} for j in jobs]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    store.write_text(made.folder / "runs.jsonl", text)
    save(made)
    return made


def save(submission: Submission) -> None:
    """Write its present state."""
    body = asdict(submission) | {"schema": 1}
    del body["folder"]
    store.write_text(submission.folder / "submission.json", json.dumps(body) + "\n")


def read(folder: Path) -> Submission:
    """One submission. Raises RecordError naming the file."""
    try:
        body = parse(door.read_text(folder / "submission.json"))
        if body.pop("schema") != 1:
            raise ValueError("another schema")
        arrays = tuple(_array(a) for a in body.pop("arrays"))
        body["words"], body["extra"] = tuple(body["words"]), tuple(body.get("extra", ()))
        marked = folder / "cancelled"
        body["cancelled"] = door.read_text(marked).strip() if marked.exists() else body["cancelled"]
        return Submission(folder=folder, arrays=arrays, **body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{folder.name}/submission.json: cannot be read ({error}); remove the folder to forget that "
                          "submission") from None


def _array(body: dict[str, Any]) -> Array:
    wanted = dict(body["resources"])
    wanted["setup"] = tuple(wanted["setup"])
    wanted["slurm"] = tuple((k, v) for k, v in wanted["slurm"])
    return Array(**body | {"resources": Resources(**wanted), "tasks": tuple(tuple(t) for t in body["tasks"]),
                           "pids": tuple((int(p), str(b)) for p, b in body["pids"])})


def read_all(folder: Path | None = None) -> list[Submission]:
    """Every submission, oldest first; a folder that has no ledger yet is being made or was given up."""
    root = folder if folder is not None else checkout.JOBS
    return [read(path.parent) for path in sorted(root.glob("*/submission.json"))]


def places(submissions: Sequence[Submission]) -> dict[str, Place]:
    """Run -> where it was sent last."""
    return {run: Place(s, array, number) for s in submissions for array in s.arrays
            for number, task in enumerate(array.tasks) for run in task}


def tasks(submissions: Sequence[Submission]) -> list[Place]:
    """Every task, oldest first."""
    return [Place(s, array, number) for s in submissions for array in s.arrays for number in range(len(array.tasks))]


@contextlib.contextmanager
def _lines(submission: Submission) -> Iterator[TextIO]:
    """The submission's runs, a line each; raises RecordError for what is damaged."""
    try:
        with TextIOWrapper(door.opened(submission.folder / "runs.jsonl"), encoding="utf-8") as lines:
            yield lines
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{submission.id}/runs.jsonl: cannot be read ({error}); remove the folder to forget that "
                          "submission") from None


def roots_of(submission: Submission) -> Roots:
    with _lines(submission) as lines:
        return Roots(**{k: Path(v) for k, v in parse(lines.readline())["roots"].items()})


def jobs_of(submission: Submission, only: Sequence[str] | None = None) -> list[Job]:
    """Its runs, or those named, ready to be carried out; in the order asked for."""
    wanted = None if only is None else set(only)
    found: dict[str, Job] = {}
    with _lines(submission) as lines:
        where = [_where(w) for w in parse(lines.readline())["where"]]
        for line in lines:
            if wanted is not None and line[7:19] not in wanted:  # {"id":"0123456789ab", and the rest need not be read
                continue
            body = parse(line)
            passed: dict[str, Scalar] = body["passed"]
            files = (Path(body[name]) if body.get(name) else None for name in ("weights", "head"))
            here = where[body["where"]].with_files(*files)
            found[body["id"]] = Job(spec_from_json(body["spec"], submission.id), passed, here, body["again"])
    missing = (wanted or set()) - found.keys()
    if missing:
        raise RecordError(f"{submission.id}/runs.jsonl has no run {sorted(missing)[0]}")
    return list(found.values()) if only is None else [found[run] for run in only]


def _where(body: dict[str, Any]) -> Where:
    paths = {f.name for f in fields(Where) if "Path" in str(f.type)}
    values: dict[str, Any] = {k: Path(v) if k in paths and v is not None else v for k, v in body.items()}
    return Where(**values)


def job_of(planned: Planned, where: Where, again: bool) -> Job:
    """A planned run as a job, its paths made absolute: it will be carried out elsewhere."""
    files = (file.resolve() if file else None for file in (planned.weights, planned.head))
    here = replace(where, data_root=planned.data_root.resolve()).with_files(*files)
    return Job(planned.spec, planned.passed, here, again)


def _path(file: Path | None) -> str | None:
    return str(file) if file else None


def beat_path(folder: Path, array: int, task: int) -> Path:
    return folder / "beats" / f"{array}-{task}.json"


def write_beat(path: Path, beat: Beat) -> None:
    """Whole or not at all, but not to the disk's depth: the next one comes soon."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a sign of life is not worth a run
        temporary.write_text(json.dumps(asdict(beat)))
        temporary.replace(path)


def read_beat(path: Path) -> Beat | None:
    """The task's last sign of life; None for none, and for what is none."""
    try:
        beat: Beat = _build(Beat, parse(door.read_text(path)), path.name, "")
        return beat
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def locked(folder: Path | None = None) -> Iterator[None]:
    """One at a time looks at what is queued and adds to it."""
    root = folder if folder is not None else checkout.JOBS
    root.mkdir(parents=True, exist_ok=True)
    with door.locked(root / ".lock"):
        yield
