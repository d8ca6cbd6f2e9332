"""Made-up records: enough of a run for tables, with predictions of a chosen accuracy. No training, no torch."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from results import schema
from results.store import path_of, save
from results.suites import Column, Entry, Row, SuiteView

BACKBONE = "regatta_vit_48"
GROUPS = {"natural": "Natural", "specialized": "Specialized", "structured": "Structured", "fgvc": "FGVC",
          "imagenet": "ImageNet", "real": "Real data"}


def spec(dataset: str = "cifar100", method: str = "lora", seed: int = 0, **changes: Any) -> schema.RunSpec:
    base = schema.RunSpec(
        dataset=dataset, model=BACKBONE, method=method, options=(("lora.rank", 8),), seed=seed, epochs=4,
        batch_size=32, eval_batch_size=64, lr=1e-3, weight_decay=1e-4, warmup_epochs=1, image_size=48, augment="none",
        normalise="native", precision="fp32", phase="final", select="last", data=f"standin:{dataset}", weights="aa",
        optimizer="adamw", schedule="cosine", clip=0.0, drop_path=0.0, head_lr_scale=1.0, drop_last=False,
        attention="fused", threads=1, holdout=0.0)
    return replace(base, **changes)


def record(run: schema.RunSpec, top1: float | None = 0.5, n: int = 200, classes: int = 10, **changes: Any,
           ) -> schema.RunResult:
    """A finished run; the numbers that no test looks at are the same everywhere."""
    size = len(run.method) * 1000
    metrics = {} if top1 is None else {"test.top1": top1, "test.n": float(n), "test.majority": 1.5 / classes}
    result = schema.RunResult(
        spec=run, passed={}, status="ok", failure=None,
        attempts=(schema.Attempt("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z", "ok"),),
        dataset=schema.DatasetInfo(classes, 160, 0, None, n, "ab", "cd", run.dataset, "", "top1", run.standin),
        backbone=schema.BackboneInfo(300_000, "ee", "vit", 48),
        method=schema.MethodInfo(run.method, "src-" + run.method), metrics=metrics, test_passes=1,
        params=schema.Params(300_000 + size, size + 49 * classes, size, 49 * classes, 0, size, 0, 4 * size),
        memory=schema.Memory(32 * 100 * size, 100.0 * size, 1_200_000, 4 * size, 4 * size, 8 * size),
        time=schema.Time(0.1, 0.1, 2.0, 0.2, 2.4),
        throughput=schema.Throughput(1e6 / size, 3e6 / size), diagnostics={}, artifacts=(),
        provenance=schema.Provenance("c0ffee", False, None, {"torch": "2"}, "cpu", "some cpu", 2, None, True,
                                     "2026-01-01T00:00:00Z"))
    return replace(result, **changes)


def answers(dataset: str, skill: float, n: int = 200, salt: str = "") -> tuple[np.ndarray, np.ndarray]:
    """(pred, label) with exactly round(skill * n) right answers; easier items are right for every method."""
    order = np.random.default_rng(list(sha256(dataset.encode()).digest())).permutation(n)
    labels = np.arange(n) % 10
    noise = np.random.default_rng(list(sha256(f"{dataset}{salt}".encode()).digest())).normal(0, 0.15 * n, n)
    right = np.argsort(order + noise)[: round(skill * n)]
    pred = (labels + 1) % 10
    pred[right] = labels[right]
    return pred, labels


def store(root: Path, result: schema.RunResult, pred: np.ndarray | None = None, label: np.ndarray | None = None,
          ) -> schema.RunResult:
    """Save a record, with predictions beside it when given."""
    if pred is not None and label is not None:
        path = path_of(result.spec, root).with_suffix(".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, pred=pred, label=label, margin=np.zeros(len(pred)), items=np.array(result.spec.dataset))
        data = path.read_bytes()
        result = replace(result, artifacts=(schema.Artifact("predictions", path.name, sha256(data).hexdigest(),
                                                            len(data)),))
    save(result, root)
    return result


def scored(root: Path, run: schema.RunSpec, skill: float, n: int = 200, **changes: Any) -> schema.RunResult:
    """A run with predictions; its accuracy is exactly round(skill * n) / n."""
    pred, label = answers(run.dataset, skill, n, run.id)
    return store(root, record(run, float(np.mean(pred == label)), n, **changes), pred, label)


def suite(specs: list[schema.RunSpec], columns: tuple[Column, ...], methods: list[str], **changes: Any) -> SuiteView:
    rows = tuple(Row(m, BACKBONE, "3 configurations on val", "", f"src-{m}") for m in methods)
    entries = tuple(Entry(s.id, s.dataset, s.method, BACKBONE, s.seed) for s in specs)
    used = {c.group for c in columns}
    view = SuiteView("demo", "Demo", "Settings were chosen on val.", "4 epochs, batch 32, AdamW", columns,
                     {k: v for k, v in GROUPS.items() if k in used}, rows, entries)
    return replace(view, **changes)
