"""`verify`: a finished run's stored weights, on its backbone, tested again and compared with stored predictions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from results import store
from results.schema import Artifact, RunResult

from .engine.where import Where
from .plan import STANDINS, UsageError

CLOSE = 1e-4  # margins may differ so much where the device differs


def runs_of(names: Sequence[str], runs: Path) -> list[Path]:
    """Records by id, by the first digits of an id, or all that hold weights."""
    by_id = {p.stem.rpartition("-")[2]: p for p in store.record_files(runs)}
    found, problems = [], []
    for name in names:
        hits = [p for run_id, p in by_id.items() if run_id.startswith(name) or name == "all"]
        if name == "all":
            found += [p for p in hits if p.with_suffix(".safetensors").exists()]
        elif len(hits) == 1:
            found += hits
        else:
            problems.append(f"{name!r} begins {len(hits)} ids; give more digits" if hits
                            else f"no run is called {name!r}")
    if problems or not found:
        raise UsageError(problems or ["no run has stored weights"])
    return found


def check(path: Path, data: str | None, weights: Path | None, where: Where) -> tuple[bool, str]:
    """(the same predictions?, a sentence)."""
    from datasets import registry

    from .engine import backbones
    from .engine.train import Session

    record = store.load(path)
    told = f"{record.run_id} {record.spec.dataset} {record.method.text} seed {record.spec.seed}"
    kept = {a.kind: a for a in record.artifacts}
    if record.status != "ok" or record.spec.phase != "final":
        return False, f"{told}: {record.status}, phase {record.spec.phase}; only finished final runs can be verified"
    for kind in ("adapter", "predictions"):
        problem = _problem(path, kept.get(kind), kind)
        if problem:
            return False, f"{told}: {problem}"
    root = STANDINS if record.spec.standin else Path(data or os.environ.get("DATA") or "")
    random = record.spec.weights == "random"
    backbone = backbones.find_weights(record.spec.model, weights, random)
    if backbone.sha256 != record.spec.weights:
        return False, f"{told}: the weights of {record.spec.model} on this machine are others than the run's"
    session = Session(record.spec, registry.get(record.spec.dataset), replace(where, data_root=root,
                                                                              weights_file=backbone.file))
    found, items = session.test_again(path.with_name(kept["adapter"].path))
    return _compare(record, told, np.load(path.with_name(kept["predictions"].path)), found.pred, found.margin, items)


def _problem(path: Path, artifact: Artifact | None, kind: str) -> str:
    """What is wrong with a stored file, or nothing."""
    if artifact is None:
        return f"the run stored no {kind}" + ("; `run --keep-weights all` does" if kind == "adapter" else "")
    try:
        content = path.with_name(artifact.path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path, not a name
        return f"{artifact.path} cannot be read ({type(error).__name__})"
    return "" if sha256(content).hexdigest() == artifact.sha256 else f"{artifact.path} is not the file that was stored"


def _compare(record: RunResult, told: str, stored: np.lib.npyio.NpzFile, pred: np.ndarray, margin: np.ndarray,
             items: str) -> tuple[bool, str]:
    if str(stored["items"]) != items:
        return False, f"{told}: the test images are others, or in another order"
    same = int((stored["pred"] == pred).sum())
    drift = float(np.abs(stored["margin"] - margin).max())
    words = f"{same} of {len(pred)} predictions are the same, margins differ by {drift:.1e} at most"
    top1 = record.metrics.get("test.top1")
    return same == len(pred) and drift <= CLOSE, f"{told}: {words} (test top-1 {100 * (top1 or 0):.2f} %)"
