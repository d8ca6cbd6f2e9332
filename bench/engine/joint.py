"""One combination of runs in, one record out: tested once, with what it is made of in its spec.

What its ingredients trained on stands in the record: a trial of a search has seen the training list alone, a final run
train and val together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets import registry
from datasets.images import split_hash
from methods import weights
from methods.grammar import from_record
from results import store
from results.schema import (
    Artifact,
    Attempt,
    DatasetInfo,
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

from . import env
from .build import Built
from .combine import Ingredient, Soup, model_stock, opened, tested, trained, uniform
from .describe import method_info
from .evaluate import Found, metrics_of
from .loaders import TuneData
from .outcome import content_hash, params_of
from .record import classify, stored_file
from .where import Where

ENSEMBLES = ("ensemble", "seeds")
SOUPS = ("soup_uniform", "soup_greedy", "model_stock")


def execute(spec: RunSpec, parts: Sequence[Ingredient], passed: dict[str, Scalar], where: Where, root: Path
            ) -> RunResult:
    """Test a combination and store its record below `root`; a failure becomes a record with a status."""
    started, began = env.now(), time.perf_counter()
    status: Status = "ok"
    failure: Failure | None = None
    found: Found | None = None
    artifacts: tuple[Artifact, ...] = ()
    params: Params | None = None
    facts: DatasetInfo | None = None
    passes = 0
    try:
        data = opened(spec, where)
        soup = mixed(spec, parts, where, data) if spec.combined in SOUPS else None
        found, items = tested(iter([(soup, 1.0)]) if soup else trained(parts, spec, where, data), where, data)
        passes = data.test_passes
        artifacts = _store(spec, found, items, soup, parts[0], root)
        facts = _dataset(parts, data, where, found)
        params = params_of(soup.method.adapter, soup.fit.model, soup.backbone_sizes) if soup else _sum(parts)
    except Exception as error:
        status, failure = classify(error, None)
    end, seconds = env.now(), time.perf_counter() - began
    first = parts[0].record
    ok = found is not None and status == "ok"
    result = RunResult(
        spec=spec, passed=passed, status=status, failure=failure,
        attempts=(Attempt(started, end, status, 0, env.job_id()),), dataset=facts,
        backbone=first.backbone, method=method_info(spec), metrics=_metrics(spec, where, found) if ok else {},
        test_passes=passes, params=params if ok else None, memory=None, time=Time(None, None, None, seconds, seconds),
        throughput=Throughput(None, None), diagnostics=_told(parts) if ok else {}, artifacts=artifacts if ok else (),
        provenance=env.provenance(where.device, where.deterministic, started,
                                  from_record(spec.method, spec.options).requires))
    store.save(result, root)
    return result


def mixed(spec: RunSpec, parts: Sequence[Ingredient], where: Where, data: TuneData) -> Built:
    """The model whose weights are the soup's."""
    soup = Soup(spec, parts, where, data)
    return soup.put(model_stock(soup.all, soup.start) if spec.combined == "model_stock" else uniform(soup.all))


def _metrics(spec: RunSpec, where: Where, found: Found | None) -> dict[str, float | None]:
    assert found is not None
    card = registry.get(spec.dataset, where.data_root)
    told = metrics_of(found, "test", f1=card.group == "own", metric=card.metric)
    return {k: finite(v) for k, v in told.items()}


def _dataset(parts: Sequence[Ingredient], data: TuneData, where: Where, found: Found) -> DatasetInfo:
    """The data set as a final run of it knows it, so that both are cells of one column; `train` is what the ingredient
    that saw fewest images has trained on."""
    seen = [p.record.dataset for p in parts if p.record.dataset is not None]
    least = min(seen, key=lambda d: d.train)
    return replace(least, val=None, test=len(found.pred), split_hash=split_hash(data.train.items, where.data_root),
                   content_hash=content_hash(data.train))


def _sum(parts: Sequence[Ingredient]) -> Params:
    """Weights of all the members together: each is stored, and run for every image."""
    every = [p.record.params for p in parts if p.record.params is not None]
    stored = [p.stored_bytes for p in every]
    merged = [p.extra_inference_merged for p in every]
    return Params(
        total=sum(p.total for p in every), trained=sum(p.trained for p in every),
        trained_adapter=sum(p.trained_adapter for p in every), trained_head=sum(p.trained_head for p in every),
        trained_backbone=sum(p.trained_backbone for p in every), extra_inference=sum(p.extra_inference for p in every),
        extra_inference_merged=None if None in merged else sum(m for m in merged if m is not None),
        stored_bytes=None if None in stored else sum(s for s in stored if s is not None))


def _told(parts: Sequence[Ingredient]) -> dict[str, float | None]:
    """How many runs it is made of, and how many of them trained on the training list alone."""
    return {"combined.runs": float(len(parts)),
            "combined.runs_on_train": float(sum(p.spec.phase == "tune" for p in parts))}


def _store(spec: RunSpec, found: Found, items: str, soup: Built | None, first: Ingredient, root: Path
           ) -> tuple[Artifact, ...]:
    record = store.path_of(spec, root)
    made = [stored_file("predictions", record.with_suffix(".npz"), lambda path: found.save(path, items))]
    if soup is not None:
        header, model = weights.read_header(first.weights), soup.fit.model

        def write(path: Path) -> None:
            try:
                weights.save(path, model, header)
            finally:
                path.with_name(path.name + ".part").unlink(missing_ok=True)  # what a full disk leaves behind

        made.append(stored_file("adapter", record.with_suffix(".safetensors"), write))
    return tuple(made)
