"""Every configuration of a study on test, for the budget curve: records of phase `peek`, which no table accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from results.schema import RunResult, RunSpec
from results.selections import Study, Trial

from ..planning.existing import look_up
from ..planning.held import settled
from ..planning.request import Request
from ..planning.resolve import Planned, resolve
from .rules import candidates, records_of


def peeks(trial: Trial, records: dict[str, RunResult]) -> list[RunSpec] | None:
    """The runs that test a configuration: a peek for each data set and seed; None when a record of it is missing."""
    if any(run not in records for run in trial.runs):
        return None
    specs = [settled(replace(records[run].spec, phase="peek", fold="", select="last", until=0)) for run in trial.runs]
    return list({s.id: s for s in specs}.values())


def to_score(request: Request, studies: Sequence[Study], runs: Path) -> list[Planned]:
    """What has to be run so that every configuration has a score on test."""
    found = resolve(replace(request, sets=(), epochs=None, batch_size=None,
                             methods=tuple(dict.fromkeys(s.method for s in studies)),
                             datasets=tuple(dict.fromkeys(d for s in studies for d in s.datasets)),
                             backbones=tuple(dict.fromkeys(s.backbone for s in studies))))
    records = records_of({run for s in studies for t in s.trials for run in t.runs}, runs)
    planned = {}
    for study in studies:
        for trial in study.trials:
            for spec in peeks(trial, records) or []:
                one = Planned(spec, study.method, {"suite": found.suite.name, "method": study.method},
                              found.data_root, found.weights[study.backbone].file,
                              head=found.head.file if found.head else None)
                planned[spec.id] = look_up(one, runs, set())
    return list(planned.values())


def scored(studies: Sequence[Study], runs: Path) -> Iterator[tuple[Study, list[float], list[float] | None]]:
    """(study, val of each configuration, test of each or None); configurations without a val score are left out.

    So are pruned studies: what they set aside has no score that could be compared.
    """
    records = records_of({run for s in studies for t in s.trials for run in t.runs}, runs)
    wanted = {spec.id for s in studies for t in s.trials for spec in peeks(t, records) or []}
    looked = records_of(wanted, runs)
    for study in studies:
        if study.cost:
            continue
        val: list[float] = []
        test: list[float | None] = []
        for trial, candidate in zip(study.trials, candidates(study, records), strict=True):
            if candidate.score is None:
                continue
            val.append(candidate.score)
            test.append(_mean([looked.get(s.id) for s in peeks(trial, records) or []]))
        if val:
            yield study, val, None if None in test else [t for t in test if t is not None]


def _mean(found: Sequence[RunResult | None]) -> float | None:
    values = [r.metrics.get("peek.top1") if r is not None and r.status == "ok" else None for r in found]
    return None if not values or None in values else fmean(v for v in values if v is not None)
