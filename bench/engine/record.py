"""One spec in, one record out, whatever happens in between: success, divergence, out of memory, broken data, a bug."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from datasets import registry
from datasets.card import DataError
from methods.grammar import MethodError
from results import store
from results.schema import (
    Artifact,
    Attempt,
    Failure,
    RunResult,
    RunSpec,
    Scalar,
    Status,
    Throughput,
    Time,
    finite,
)

from . import env
from .describe import method_info
from .train import Diverged, Session, Trained
from .where import Where

TRACEBACK_LINES = 12


def execute(spec: RunSpec, passed: dict[str, Scalar], where: Where, root: Path,
            progress: Callable[[int, int], None] | None = None) -> RunResult:
    """Run the spec, store its artifacts and its record below `root`, and return the record.

    Every failure becomes a record with a status; only KeyboardInterrupt and SystemExit pass through.
    """
    started = env.now()
    session: Session | None = None
    trained: Trained | None = None
    status: Status = "ok"
    failure: Failure | None = None
    artifacts: tuple[Artifact, ...] = ()
    try:
        session = Session(spec, registry.get(spec.dataset), where)
        trained = session.run(progress)
        artifacts = _store_artifacts(spec, trained, root)
    except Exception as error:
        status, failure = classify(error, session)
        trained = None
    result = RunResult(
        spec=spec, passed=passed, status=status, failure=failure,
        attempts=(Attempt(started, env.now(), status, 0, env.job_id()),),
        dataset=trained.dataset if trained else None, backbone=trained.backbone if trained else None,
        method=method_info(spec), metrics={k: finite(v) for k, v in trained.metrics.items()} if trained else {},
        test_passes=trained.test_passes if trained else 0, params=trained.params if trained else None,
        memory=trained.memory if trained else None, time=_times(session),
        throughput=Throughput(trained.train_images_per_s, trained.eval_images_per_s) if trained
        else Throughput(None, None),
        diagnostics={k: finite(v) for k, v in trained.diagnostics.items()} if trained else {},
        artifacts=artifacts, provenance=env.provenance(where.device, where.deterministic, started),
        history=tuple({k: finite(v) for k, v in h.items()} for h in trained.history) if trained else ())
    store.save(result, root)
    return result


def classify(error: BaseException, session: Session | None) -> tuple[Status, Failure]:
    """Which status an exception means, and what to say about it."""
    stage, step = (session.stage, session.step or None) if session else ("data", None)
    text = re.sub(r"(/[\w.+-]+)+/", "", str(error).strip() or type(error).__name__)[:500]
    if isinstance(error, Diverged):
        return "diverged", Failure("numbers", text, stage, error.step)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "oom", Failure("memory", f"{text} (batch {session.spec.batch_size})" if session else text, stage, step)
    if isinstance(error, DataError):
        return "failed", Failure("data", text, stage, step)
    if isinstance(error, MethodError):
        return "failed", Failure("method", text, stage, step)
    lines = traceback.format_exception(error)
    tail = "".join(lines).replace(str(env.ROOT) + "/", "").splitlines()[-TRACEBACK_LINES:]
    shown = re.sub(r'File "/[^"]*/(site-packages|lib/python[\d.]+)/', 'File "', "\n".join(tail))
    return "failed", Failure("code", f"{type(error).__name__}: {text}", stage, step, shown)


def _times(session: Session | None) -> Time:
    seconds = session.seconds if session else {}
    total = sum(seconds.values()) if seconds else None
    return Time(*(seconds.get(name) for name in ("data", "build", "train", "evaluate")), total)


def _store_artifacts(spec: RunSpec, trained: Trained, root: Path) -> tuple[Artifact, ...]:
    """Predictions beside the record, written before it: a record's artifacts always exist."""
    made = []
    record = store.path_of(spec, root)
    for split, found in trained.predictions.items():
        path = record.with_suffix(f".{split}.npz") if split != "test" else record.with_suffix(".npz")

        def write(temporary: Path, found=found, split=split) -> None:  # type: ignore[no-untyped-def]
            found.save(temporary, trained.items_hash[split])

        store.write_atomic(path, write)
        content = path.read_bytes()
        made.append(Artifact("predictions", path.name, sha256(content).hexdigest(), len(content)))
    return tuple(made)
