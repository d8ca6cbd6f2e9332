"""One spec in, one record out, whatever happens in between: success, divergence, out of memory, broken data, a bug."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from datasets import registry
from datasets.card import DataError
from methods import weights
from methods.grammar import MethodError, from_record
from methods.pointing import in_error
from results import store
from results.schema import (
    Artifact,
    Attempt,
    Failure,
    Params,
    RunResult,
    RunSpec,
    Scalar,
    Status,
    Throughput,
    Time,
    finite,
)

from ..telling import missing
from . import env
from .checkpoint import UNFINISHED, Checkpoints, Interrupted, key_of
from .course import Diverged
from .describe import method_info
from .evaluate import Predictions
from .loaders import SealedTest
from .outcome import Trained
from .session import Session
from .where import Where

TRACEBACK_LINES = 12
SMALL_SHARE, SMALL_BYTES = 0.25, 2**20  # trained weights are stored unasked when so small beside the model, or at all
DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EIO: "the disk fails",
        errno.EROFS: "the disk is read-only", errno.EFBIG: "a file may not grow so large"}


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
    params: Params | None = None
    saver: Checkpoints | None = None
    try:
        saver = _checkpoints(spec, where, started)
        session = Session(spec, registry.get(spec.dataset, where.data_root), where, saver)
        trained = session.run(progress)
        session.stage = "store"
        artifacts = _store_artifacts(spec, trained, where, root)
        size = next((a.bytes for a in artifacts if a.kind == "adapter"), None)
        params = replace(trained.params, stored_bytes=size or weights_bytes(trained))
    except Exception as error:
        status, failure = classify(error, session)
        trained = None
    end = env.now()
    attempts = saver.close(end, status) if saver else (Attempt(started, end, status, 0, env.job_id()),)
    result = RunResult(
        spec=spec, passed=passed, status=status, failure=failure, attempts=attempts,
        dataset=trained.dataset if trained else None, backbone=trained.backbone if trained else None,
        method=method_info(spec), metrics={k: finite(v) for k, v in trained.metrics.items()} if trained else {},
        test_passes=trained.test_passes if trained else 0, params=params if trained else None,
        memory=trained.memory if trained else None, time=_times(session),
        throughput=Throughput(trained.train_images_per_s, trained.eval_images_per_s) if trained
        else Throughput(None, None),
        diagnostics={k: finite(v) for k, v in trained.diagnostics.items()} if trained else {},
        artifacts=artifacts if trained else (), provenance=env.provenance(
            where.device, where.deterministic, started, from_record(spec.method, spec.options).requires),
        history=tuple({k: finite(v) for k, v in h.items()} for h in trained.history) if trained else ())
    store.save(result, root.parent / "scratch" if status == "cancelled" else root)  # what a user stops is no finding
    goes_on = saver is not None and saver.kept and status == "ok"
    if saver is not None and not goes_on and status not in UNFINISHED and not (failure and failure.kind == "node"):
        saver.clear()
    return result


def _checkpoints(spec: RunSpec, where: Where, started: str) -> Checkpoints | None:
    if where.checkpoints is None:
        return None
    whole = replace(spec, until=0)
    return Checkpoints(where.checkpoints / whole.id, key_of(whole, where.device), started, where.checkpoint_every_s,
                       where.checkpoint_every_epochs, env.job_id(), kept=bool(spec.until))


def classify(error: BaseException, session: Session | None) -> tuple[Status, Failure]:
    """Which status an exception means, and what to say about it."""
    stage, step = (session.stage, session.step or None) if session else ("data", None)
    text = re.sub(r"(?<![\w.])(/[\w.+-]+)+/", "", str(error).strip() or type(error).__name__)[:500]
    if isinstance(error, Diverged):
        return "diverged", Failure("numbers", text, stage, error.step)
    if isinstance(error, Interrupted):
        return error.status, Failure("node", text, stage, error.step)
    if isinstance(error, SealedTest):
        return "failed", Failure("protocol", text, stage, step)
    if isinstance(error, OSError) and error.errno in DISK:
        return "failed", Failure("node", DISK[error.errno], stage, step)
    if "no space left on device" in str(error).lower():  # as safetensors says it
        return "failed", Failure("node", DISK[errno.ENOSPC], stage, step)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "oom", Failure("memory", f"{text} (batch {session.spec.batch_size})" if session else text, stage, step)
    if isinstance(error, OSError) and stage == "data" and (away := missing(error)) is not None:
        own = f" of {session.spec.dataset}" if session else ""
        return "failed", Failure("data", f"{away.name!r}{own} is missing, though it was there when the run was planned",
                                 stage, step)
    if isinstance(error, DataError):
        return "failed", Failure("data", text, stage, step)
    if isinstance(error, MethodError):
        return "failed", Failure("method", text, stage, step)
    lines = traceback.format_exception(error)
    tail = "".join(lines).replace(str(env.ROOT) + "/", "").splitlines()[-TRACEBACK_LINES:]
    shown = re.sub(r'File "/[^"]*/(site-packages|lib/python[\d.]+)/', 'File "', "\n".join(tail))
    place = in_error(error)
    told = f"{type(error).__name__}: {text}{f' ({place})' if place else ''}"
    return "failed", Failure("code", told, stage, step, shown)


def _times(session: Session | None) -> Time:
    seconds = session.seconds if session else {}
    total = sum(seconds.values()) if seconds else None
    return Time(seconds.get("data"), seconds.get("build"), seconds.get("train"), seconds.get("evaluate"), total)


def _store_artifacts(spec: RunSpec, trained: Trained, where: Where, root: Path) -> tuple[Artifact, ...]:
    """Predictions and weights beside the record, written before it: a record's artifacts always exist."""
    made = []
    record = store.path_of(spec, root)
    for split, found in trained.predictions.items():
        path = record.with_suffix(f".{split.replace(':', '.')}.npz" if split != "test" else ".npz")

        def write(temporary: Path, found=found, split=split) -> None:  # type: ignore[no-untyped-def]
            found.save(temporary, trained.items_hash[split])

        _, further, name = split.partition(":")
        made.append(stored_file(f"predictions{further}{name}", path, write))
        if isinstance(found, Predictions) and found.probabilities is not None:
            made.append(stored_file("probabilities", path.with_suffix(".probs.npz"), found.save_probabilities))
    member = any(one.kind == "probabilities" for one in made)
    if member or (spec.phase == "final" and _kept(trained, where)):
        made.append(stored_file("adapter", record.with_suffix(".safetensors"),
                                lambda path: _save_weights(path, trained)))
    return tuple(made)


def stored_file(kind: str, path: Path, write: Callable[[Path], None]) -> Artifact:
    """Write a run's file beside its record, whole or not at all; its entry in the record."""
    store.write_atomic(path, write)
    content = path.read_bytes()
    return Artifact(kind, path.name, sha256(content).hexdigest(), len(content))


def _kept(trained: Trained, where: Where) -> bool:
    """Whether the trained weights are stored: what is small beside the model or small at all, unless told otherwise."""
    if where.keep_weights != "small":
        return where.keep_weights == "all"
    params = trained.params
    return params.trained <= SMALL_SHARE * params.total or weights_bytes(trained) <= SMALL_BYTES


def weights_bytes(trained: Trained) -> int:
    """Bytes of what `methods.weights` stores of a run; its file also has a header."""
    return sum(t.numel() * t.element_size() for t in weights.trained(trained.model).values())


def header_of(trained: Trained, spec: RunSpec) -> weights.Header:
    """What the stored weights say of themselves."""
    plain = weights.Header(spec.model, spec.weights, trained.method.text.text(full=True), spec.dataset,
                           trained.dataset.classes)
    if not trained.dataset.class_names:
        return plain
    backbone = trained.backbone
    return replace(plain, class_names=trained.dataset.class_names, image_size=backbone.image_size, mean=backbone.mean,
                   std=backbone.std, augment=spec.augment)


def _save_weights(path: Path, trained: Trained) -> None:
    try:
        weights.save(path, trained.model, header_of(trained, trained.spec))
    finally:
        path.with_name(path.name + ".part").unlink(missing_ok=True)  # what a full disk leaves behind
