"""Methods against the budget of their search: the expected best, its luck, and who is told apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, pvariance

import pytest

from reports import budgets
from reports.budgets import Budgeted, apart, of_scores
from reports.cells import grid
from reports.pairs import Predictions
from reports.world import World, worlds
from results.index import read
from results.selections import Effort, Study, Trial, Trials
from results.suites import Column
from tests.reports import fakes

COLUMN = Column("svhn", "SVHN", "natural", True, 10)
VAL = {"lora": (0.20, 0.50, 0.90, 0.40), "adapter": (0.70, 0.72, 0.71, 0.72), "linear": (0.10, 0.12, 0.15, 0.11)}


def test_the_curve_is_the_mean_over_all_subsets_and_its_error_their_spread_and_the_images() -> None:
    first, second = (0.3, 0.6, 0.8, 0.5), (0.2, 0.9, 0.4)
    found = of_scores([(first, 100.0), (second, 50.0)])
    assert len(found.value) == 3
    for n in (1, 2, 3):
        drawn = [[max(some) for some in combinations(val, n)] for val in (first, second)]
        means = [fmean(d) for d in drawn]
        assert found.value[n - 1] == pytest.approx(fmean(means))
        shares = [(m * k + 1) / (k + 2) for m, k in zip(means, (100, 50), strict=True)]
        variance = sum(pvariance(d) + s * (1 - s) / k for d, s, k in zip(drawn, shares, (100, 50), strict=True))
        assert found.error[n - 1] == pytest.approx(variance**0.5 / 2)


def test_rows_are_told_apart_by_more_than_the_luck_of_both() -> None:
    one, near, far = (Budgeted((v,), (0.03,)) for v in (0.60, 0.55, 0.50))
    assert not apart(one, near, 1) and not apart(near, one, 1), "0.05 is less than 1.96 times 0.042"
    assert apart(one, far, 1)


def _world(folder: Path, prune: str = "none") -> tuple[World, Trials]:
    specs, studies = [], []
    for method, scores in VAL.items():
        specs.append(fakes.spec("svhn", method))
        fakes.scored(folder, specs[-1], 0.5)
        trials = []
        for number, val in enumerate(scores):
            run = fakes.spec("svhn", method, phase="tune", lr=0.1 + number)
            fakes.store(folder, replace(fakes.record(run, None), metrics={"val.top1": val, "val.n": 200.0}))
            trials.append(Trial(number, {"lr": run.lr}, (run.id,), epochs=0 if prune == "none" or number else 1))
        studies.append(Study(method, fakes.BACKBONE, ("svhn",), Effort(4, "random", 0, (0,), prune), {},
                             tuple(trials), 0 if prune == "none" else 4))
    records = read(folder, index=False)
    suite = fakes.suite(specs, (COLUMN,), list(VAL))
    (world,) = worlds(grid(suite, records, records.by_run()), Predictions(records))
    return world, Trials("demo", tuple(studies))


def test_who_leads_depends_on_the_budget_and_the_table_says_so(tmp_path: Path) -> None:
    world, trials = _world(tmp_path)
    found = budgets.table(world, trials)
    assert found is not None
    lines = [[f.text for f in line] for line in found.body]
    assert [line[0] for line in lines] == ["1", "2", "4"]
    assert [line[1] for line in lines] == ["adapter", "adapter", "lora"]
    assert lines[0][3] == "2 of 3", "lora's draw is wide after one configuration, linear's is not"
    assert lines[2][2].startswith("90.0 [") and lines[2][3] == "1 of 3" and lines[2][4] == "lora, adapter, linear"
    assert "at 1 configuration adapter leads, and 2 of 3 are not told apart; at 4 configurations lora leads, alone" in (
        found.legend)
    (plot,) = budgets.curves(world, trials)
    assert plot.key == "budget" and len(plot.tips) == 3 and "1: 50.0, 2: 68.3" in plot.tips["line0"]


def test_a_pruned_study_has_no_curve_and_one_row_no_rank(tmp_path: Path) -> None:
    world, pruned = _world(tmp_path, "halving")
    assert budgets.table(world, pruned) is None and budgets.curves(world, pruned) == []
    _, trials = _world(tmp_path)
    assert budgets.table(world, replace(trials, studies=trials.studies[:1])) is None
