"""Rules that choose a setting on validation, and the final runs that follow from the choice. No torch.

    best_val     the highest score
    one_se       within one standard error of the highest: the fewest trained weights, then the lowest learning rate
    kfold_mean   the highest mean over the folds of a cross-validation; needs `tune --folds K`

Equal scores are settled by fewest trained weights, then lowest learning rate, then the order of trying. The tie set
of a choice holds every configuration within one standard error of the best: what validation could not tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import fmean, variance

from results import store
from results.schema import RunResult, RunSpec, Scalar
from results.selections import Candidate, Choice, Study

from ..planning.held import settled
from ..planning.request import Request, UsageError
from ..planning.resolve import Planned, resolve, specs_of, suite_of
from .spaces import with_config

Rule = Callable[[Sequence[Candidate]], Candidate]


def score_of(record: RunResult) -> float | None:
    """What a setting is chosen by: the data set's own score on val, else the share of right answers."""
    own = record.metrics.get("val.score")
    return record.metrics.get("val.top1") if own is None else own


def score(records: Sequence[RunResult | None]) -> tuple[float | None, float | None]:
    """(mean val top-1, its standard error) over data sets, seeds and folds; (None, None) when a run gave none.

    Folds are parts of one list of images and are pooled; seeds look at the same images, so they lower the error of
    training and not that of the images; data sets are independent.
    """
    cells: dict[str, dict[int, list[tuple[float, float]]]] = {}
    known: dict[str, float] = {}  # variance over items of a score that is no share of right answers
    for record in records:
        top1 = score_of(record) if record is not None and record.status == "ok" else None
        count = record.metrics.get("val.n") if record is not None else None
        if record is None or top1 is None or not count:
            return None, None
        if (error := record.metrics.get("val.score_se")) is not None:
            known[record.spec.dataset] = error ** 2
        cells.setdefault(record.spec.dataset, {}).setdefault(record.spec.seed, []).append((top1 * count, count))
    means, errors = [], []
    for dataset, seeds in cells.items():
        pooled = [sum(right for right, _ in folds) / sum(n for _, n in folds) for folds in seeds.values()]
        n = sum(n for _, n in next(iter(seeds.values())))
        mean = fmean(pooled)
        inside = (mean * n + 1) / (n + 2)  # never 0 or 1: a perfect score on few images is no certainty
        spread = variance(pooled) / len(pooled) if len(pooled) > 1 else 0.0
        means.append(mean)
        errors.append(known.get(dataset, inside * (1 - inside) / n) + spread)
    return fmean(means), sqrt(sum(errors)) / len(errors)


def candidate(number: int, config: dict[str, Scalar], runs: Sequence[RunResult | None]) -> Candidate:
    """A configuration with the score that its runs give it."""
    mean, error = score(runs)
    bad = [r.status if r is not None else "missing" for r in runs if r is None or r.status != "ok"]
    trained = next((r.params.trained for r in runs if r is not None and r.params is not None), None)
    return Candidate(number, config, mean, error, trained, bad[0] if bad else "ok")


def candidates(study: Study, records: Mapping[str, RunResult]) -> list[Candidate]:
    """Every trial of a study with its score; one that was set aside early has none that could be compared."""
    found = [candidate(t.number, t.config, [records.get(run) for run in t.runs]) for t in study.trials]
    return [replace(c, score=None, se=None, status="set aside") if t.epochs and c.status == "ok" else c
            for t, c in zip(study.trials, found, strict=True)]


def _plain(one: Candidate) -> tuple[float, float, int]:
    """What settles a tie: fewest trained weights, lowest learning rate, first tried."""
    lr = one.config.get("lr")
    return (float("inf") if one.trained is None else one.trained,
            float(lr) if isinstance(lr, int | float) else 0.0, one.number)


def ranked(found: Sequence[Candidate]) -> list[Candidate]:
    """Those that have a score, the highest first, ties settled."""
    return sorted((c for c in found if c.score is not None), key=lambda c: (-(c.score or 0.0), *_plain(c)))


def best(found: Sequence[Candidate]) -> Candidate:
    """The highest score, ties settled."""
    return ranked(found)[0]


def ties(found: Sequence[Candidate]) -> list[Candidate]:
    """All within one standard error of the best, the best among them."""
    top = best(found)
    floor = (top.score or 0.0) - (top.se or 0.0)
    return [c for c in found if c.score is not None and c.score >= floor]


def one_se(found: Sequence[Candidate]) -> Candidate:
    """The plainest of the ties."""
    return min(ties(found), key=_plain)


RULES: dict[str, Rule] = {"best_val": best, "one_se": one_se, "kfold_mean": best}


def untried(request: Request, study: Study) -> list[Planned]:
    """Final runs of the suite's data sets on which a study of all of them together did not look, before its choice."""
    suite = suite_of(request)
    rest = tuple(d for d in suite.datasets if d not in study.datasets)
    if request.datasets or not rest or study.datasets != suite.tuning.datasets:
        return []
    asked = replace(request, datasets=rest, methods=(study.method,), backbones=(study.backbone,), phase="final")
    planned = specs_of(asked, resolve(asked))
    return list({p.spec.dataset: p for p in planned}.values())  # a seed is enough: the final runs choose theirs


def choose(study: Study, records: Mapping[str, RunResult], rule: str, rest: Sequence[Planned] = ()) -> Choice:
    """Apply a named rule to a study; `rest` are runs that take its choice too. Raises UsageError where it cannot."""
    where = f"{study.method} on {', '.join(study.datasets)}"
    if rule not in RULES:
        raise UsageError([f"no rule is called {rule!r}; there are: {', '.join(RULES)}"])
    if rule == "kfold_mean" and not study.effort.folds:
        raise UsageError([f"rule 'kfold_mean' needs folds; {where} was tuned on one split (`tune --folds 5`)"])
    found = candidates(study, records)
    if not any(c.score is not None for c in found):
        raise UsageError([f"no configuration of {where} has a score: "
                          + ", ".join(sorted({c.status for c in found})) + "; run `tune` again"])
    winner = RULES[rule](found)
    runs = study.trials[winner.number].runs
    finals: dict[str, RunSpec] = {}
    for run_id in runs:
        spec = records[run_id].spec
        finals.setdefault(spec.dataset, settled(replace(spec, phase="final", fold="", select="last")))
    return Choice(study.method, study.backbone, study.datasets, study.effort, rule, winner.number,
                  tuple(c.number for c in ties(found)), tuple(found),
                  (*(finals[d] for d in study.datasets),
                   *(with_config(p.spec, study.method, winner.config) for p in rest)), study.cost)


def records_of(ids: set[str], runs: Path) -> dict[str, RunResult]:
    """The records of these runs, by id; those that do not exist are left out."""
    return {run_id: store.load(path) for path in store.record_files(runs)
            if (run_id := path.stem.rpartition("-")[2]) in ids}
