"""A suite with one row of each kind, written once; tests read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from results import schema
from results.suites import Column, Entry, SuiteView, save_suite
from tests.reports import fakes

COLUMNS = (Column("cifar100", "CIFAR-100", "natural", True, 10), Column("eurosat", "EuroSAT", "specialized", True, 10),
           Column("dmlab", "DMLab", "structured", True, 10), Column("digits", "Digits", "real", False, 10))
METHODS = ["linear", "lora", "missing", "failed", "oom", "diverged", "timeout", "preempted", "cancelled", "stale",
           "partial", "chance", "dirty", "refused", "wrong", "peek", "empty", "lora+tent"]


@dataclass(frozen=True)
class Zoo:
    root: Path
    suite: SuiteView

    @property
    def records(self) -> Path:
        return self.root / "runs"

    @property
    def suites(self) -> Path:
        return self.root / "suites"


def specs_of(method: str, column: Column) -> list[schema.RunSpec]:
    data = ("standin:" if column.standin else "real:") + column.name
    phase = "peek" if method == "peek" else "final"
    return [fakes.spec(column.name, method, seed, data=data, phase=phase)
            for seed in ((0, 1, 2) if method in ("lora", "partial") else (0,))]


def write_run(root: Path, run: schema.RunSpec, column: Column) -> None:
    """Accuracy by method; everything wrong happens on CIFAR-100 alone."""
    here = column.name == "cifar100"
    status = run.method if run.method in ("failed", "oom", "diverged", "timeout", "preempted", "cancelled") else "ok"
    if here and (run.method == "missing" or (run.method == "partial" and run.seed == 2) or run.method == "refused"):
        return
    if here and status != "ok":
        failure = schema.Failure("code", f"it went {run.method}", "train", 7)
        fakes.store(root, fakes.record(run, None, status=status, failure=failure))
    elif here and run.method == "wrong":
        fakes.store(root, fakes.record(replace(run, data="real:cifar100"), 0.5))
    elif here and run.method == "empty":
        fakes.store(root, fakes.record(run, None))
    else:
        skill = {"linear": 0.5, "lora": 0.6 + 0.01 * run.seed, "chance": 0.17}.get(run.method, 0.55)
        result = fakes.record(run, skill)
        if run.method == "stale" and here:
            result = replace(result, method=replace(result.method, source_hash="older"))
        if run.method == "dirty" and here:
            result = replace(result, provenance=replace(result.provenance, dirty=True, diff_hash="dd"))
        if run.method == "lora+tent":
            result = replace(result, method=replace(result.method, adapts_at_test="online", ours="our reading: one"),
                             metrics=result.metrics | {"test:noadapt.top1": 0.53})
        pred, label = fakes.answers(run.dataset, skill, 200, run.id)
        fakes.store(root, result, pred, label)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    root = tmp_path_factory.mktemp("zoo")
    specs = []
    for method in METHODS:
        for column in COLUMNS:
            for run in specs_of(method, column):
                write_run(root / "runs", run, column)
                wrong = method == "wrong" and column.name == "cifar100"
                specs.append(replace(run, data="real:cifar100") if wrong else run)
    suite = fakes.suite(specs, COLUMNS, METHODS)
    entries = tuple(Entry("", e.dataset, e.method, e.backbone, e.seed, "it needs a convolution")
                    if e.method == "refused" and e.dataset == "cifar100" else e for e in suite.entries)
    suite = replace(suite, entries=entries)
    save_suite(suite, root / "suites")
    return Zoo(root, suite)
