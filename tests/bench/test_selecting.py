"""Rules that choose a setting, and the scores by which they choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isclose, sqrt

import pytest

from bench.engine.record import execute
from bench.tuning import rules
from results.schema import RunResult
from results.selections import Candidate

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def _candidate(number: int, score: float | None, se: float = 0.03, trained: int = 100, lr: float = 1e-3) -> Candidate:
    return Candidate(number, {"lr": lr}, score, se, trained)


FOUND = [_candidate(0, 0.60, trained=500, lr=1e-2), _candidate(1, 0.62, trained=300, lr=1e-2), _candidate(2, None),
         _candidate(3, 0.58, trained=100), _candidate(4, 0.595, trained=100, lr=5e-3), _candidate(5, 0.62, trained=400)]


def test_rules_choose_what_their_names_say() -> None:
    assert rules.RULES["best_val"](FOUND).number == 1, "of two with 0.62 the one that trains fewer weights"
    assert {c.number for c in rules.ties(FOUND)} == {0, 1, 4, 5}, "within one standard error of 0.62"
    assert rules.RULES["one_se"](FOUND).number == 4, "the fewest trained weights among the ties"


def test_equal_scores_are_settled_by_weights_then_rate_then_order() -> None:
    assert rules.best([_candidate(0, 0.5, lr=1e-2), _candidate(1, 0.5, lr=1e-3)]).number == 1
    assert rules.best([_candidate(1, 0.5), _candidate(0, 0.5)]).number == 0
    assert rules.best([_candidate(0, 0.5, trained=2), _candidate(1, 0.5, trained=1, lr=1.0)]).number == 1


def _tuned(record: RunResult, top1: float, n: int, **spec: object) -> RunResult:
    return replace(record, spec=replace(record.spec, **spec), metrics={"val.top1": top1, "val.n": float(n)})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("sample")
    spec, where = tiny.spec("linear", phase="tune", epochs=1), tiny.where(folder, checkpoints=None)
    return execute(spec, {}, where, folder / "runs")


def test_a_score_pools_folds_and_averages_seeds_and_data_sets(sample: RunResult) -> None:
    folds = [_tuned(sample, 0.5, 10, fold="1/2"), _tuned(sample, 1.0, 30, fold="2/2")]
    mean, error = rules.score(folds)
    assert mean == 35 / 40 and error is not None
    assert isclose(error, sqrt((36 / 42) * (6 / 42) / 40))
    seeds = [_tuned(sample, 0.5, 100), _tuned(sample, 0.7, 100, seed=1)]
    mean, error = rules.score(seeds)
    assert mean == 0.6 and error is not None
    assert isclose(error, sqrt((61 / 102) * (41 / 102) / 100 + 0.02 / 2)), "seeds share the images: their error stays"
    sets = [_tuned(sample, 0.5, 100), _tuned(sample, 0.7, 100, dataset="other")]
    mean, error = rules.score(sets)
    assert mean == 0.6 and error is not None
    assert isclose(error, sqrt((51 / 102) ** 2 / 100 + (71 / 102) * (31 / 102) / 100) / 2)
    assert rules.score([sets[0], None]) == (None, None)
    assert rules.score([replace(sets[0], status="diverged")]) == (None, None)
