"""What tests of submission hand over: runs that are specs alone, and records of how they ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.dispatch.ending import died
from bench.dispatch.local import Job
from bench.engine.where import Where
from methods.grammar import parse
from results import store
from results.schema import Failure, RunSpec, Status


def spec(seed: int = 0, **changes: Any) -> RunSpec:
    text = parse("linear")
    values: dict[str, Any] = dict(
        dataset="digits", model="regatta_vit_48", method=text.name, options=text.options, seed=seed, epochs=1,
        batch_size=64, eval_batch_size=64, lr=0.1, weight_decay=0.0, warmup_epochs=0, image_size=48, augment="none",
        normalise="native", precision="fp32", phase="final", select="last", data="shipped:digits", weights="random",
        optimizer="adamw", schedule="cosine", clip=0.0, drop_path=0.0, head_lr_scale=1.0, drop_last=False,
        attention="fused", threads=1, holdout=0.0)
    return RunSpec(**values | changes)


def jobs_for(count: int, **changes: Any) -> list[Job]:
    return [Job(spec(seed, **changes), {}, Where(Path("/data"), None, None)) for seed in range(count)]


def record(root: Path, job: Job, status: Status, kind: str = "") -> Path:
    """A record of the run that ended so."""
    made = died(job, status, Failure(kind, "as the test wants it", "train"))
    return store.save(made if status != "ok" else replace(made, failure=None), root)
