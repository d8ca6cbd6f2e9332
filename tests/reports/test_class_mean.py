"""Sets that are told as means over classes: values by hand, intervals against a bootstrap inside classes, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import cells, pairs, stats
from reports.spread import spread_of
from reports.suite import build_suite
from reports.world import worlds
from results.index import read
from results.suites import Column
from tests.reports import fakes

SIZES = (300, 60, 12)  # of three classes
COLUMN = Column("stamps", "Stamps (mean per class)", "real", False, 3, metric="class_mean")
SKILLS = {"linear": (0.9, 0.5, 0.25), "lora": (0.8, 0.8, 0.75)}  # right in each class; lora is worse by top-1


def answers(skills: Sequence[float], seed: int, salt: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(pred, label): in each class the easier items are right, a few of them by chance of the seed."""
    label = np.repeat(np.arange(len(SIZES)), SIZES)
    pred = label.copy()
    for c, skill in enumerate(skills):
        own = np.flatnonzero(label == c)
        ease = np.arange(len(own)) + np.random.default_rng([salt, seed, c]).normal(0, 0.2 * len(own), len(own))
        pred[own[np.argsort(ease)[round(skill * len(own)):]]] = (c + 1) % len(SIZES)
    return pred, label


def stored(root: Path, seeds: Sequence[int] = (0, 1, 2)) -> cells.Grid:
    specs = []
    for k, (method, skills) in enumerate(SKILLS.items()):
        for seed in seeds:
            spec = fakes.spec("stamps", method, seed, data="real:stamps")
            pred, label = answers(skills, seed, k)
            right = pred == label
            metrics = {"test.top1": float(right.mean()), "test.n": float(len(label)), "test.majority": 300 / 372,
                       "test.class_mean": float(np.mean([right[label == c].mean() for c in range(3)]))}
            fakes.store(root, fakes.record(spec, 0.5, len(label), classes=3, metrics=metrics), pred, label)
            specs.append(spec)
    found = read(root, index=False)
    suite = fakes.suite(specs, (COLUMN,), list(SKILLS), reference="linear")
    return cells.grid(suite, found, found.by_run(), pairs.Predictions(found).luck)


def test_a_cell_is_the_mean_over_classes_and_chance_one_class(tmp_path: Path) -> None:
    grid = stored(tmp_path)
    linear, lora = (grid.cell(row, COLUMN) for row in grid.suite.rows)
    assert linear.mean == pytest.approx((0.9 + 0.5 + 0.25) / 3) and lora.mean == pytest.approx((0.8 + 0.8 + 0.75) / 3)
    assert linear.chance == pytest.approx(1 / 3), "not the share of the largest class"


def test_the_interval_is_as_wide_as_a_bootstrap_inside_classes_says(tmp_path: Path) -> None:
    grid = stored(tmp_path, seeds=(0,))
    cell = grid.cell(grid.suite.rows[0], COLUMN)
    pred, label = answers(SKILLS["linear"], 0)
    rng = np.random.default_rng(0)
    drawn = [np.mean([rng.choice(pred[label == c] == c, SIZES[c]).mean() for c in range(3)]) for _ in range(4000)]
    assert cell.interval is not None
    wide = (cell.interval.high - cell.interval.low) / 2
    assert wide == pytest.approx(1.96 * np.std(drawn), rel=0.12)
    top1 = 1.96 * np.sqrt(0.8145 * 0.1855 / 372)
    assert wide > 1.8 * top1, "twelve items of a class weigh as three hundred of another"


def test_rows_are_ranked_by_means_over_classes_with_the_variance_of_each_class(tmp_path: Path) -> None:
    grid = stored(tmp_path)
    predictions = pairs.Predictions(grid.records)
    sets = pairs.answers_of(grid, predictions, grid.suite.rows, [COLUMN])
    assert sets is not None and sum(s.weight for s in sets) == pytest.approx(1)
    found = spread_of(sets, [s.weight for s in sets], 2)
    assert found.mean == pytest.approx([(0.9 + 0.5 + 0.25) / 3, (0.8 + 0.8 + 0.75) / 3])
    share = [np.mean([(p := answers(SKILLS[m], seed, k))[0] == p[1] for seed in range(3)], 0)
             for k, m in enumerate(SKILLS)]
    label = answers(SKILLS["lora"], 0)[1]
    gap = share[1] - share[0]
    variance = sum(gap[label == c].var(ddof=1) / SIZES[c] / 9 for c in range(3))
    contrast = np.array([-1.0, 1.0])
    assert contrast @ found.items @ contrast == pytest.approx(variance, rel=1e-5)
    (world,) = worlds(grid, predictions)
    ranked, _ = next(iter(world.ranked.values()))
    assert ranked.ranking.mean[ranked.rows.index(("lora", fakes.BACKBONE))] == pytest.approx((0.8 + 0.8 + 0.75) / 3)


def test_two_equal_methods_are_rarely_told_apart() -> None:
    """Small classes among large ones: p below five percent in about five percent of draws, never in many more."""
    rng = np.random.default_rng(1)
    sizes, trials, false = (120, 40, 15, 8), 400, 0
    for _ in range(trials):
        sets = []
        for c, size in enumerate(sizes):
            ease = rng.normal(0, 1, (size, 1))
            right = ease + rng.normal(0, 1, (size, 4)) + rng.normal(0, 0.3, 4) > -0.4  # runs of two rows
            sets.append(pairs.Answers("set", f"class {c}", right, (0, 0, 1, 1), "set", 1 / len(sizes)))
        false += spread_of(sets, [s.weight for s in sets], 2).p_of(np.array([[1.0, -1.0]]))[0] < 0.05
    assert false / trials <= 0.075


def test_tables_say_what_their_numbers_are(tmp_path: Path) -> None:
    grid = stored(tmp_path)
    built = build_suite(grid.suite, grid.records, grid.records.by_run(), "site", with_page=True)
    assert "Stamps (mean per class)" in built.section and "Top-1 accuracy in percent" not in built.section
    csv = next(text for name, text in built.files.items() if name.endswith("real-accuracy.csv"))
    (tmp_path / "table.csv").write_text(csv)
    table = pd.read_csv(tmp_path / "table.csv").set_index("Method")
    assert table.loc["lora", "Rank"] in ("1", 1) and table.filter(like="Stamps").loc["lora"].iloc[0] == pytest.approx(
        100 * (0.8 + 0.8 + 0.75) / 3)


def test_without_predictions_there_is_no_interval(tmp_path: Path) -> None:
    spec = fakes.spec("stamps", "lora", 0, data="real:stamps")
    fakes.store(tmp_path, fakes.record(spec, 0.5, 372, metrics={"test.top1": 0.8, "test.class_mean": 0.7,
                                                               "test.n": 372.0}))
    found = read(tmp_path, index=False)
    suite = fakes.suite([spec], (COLUMN,), ["lora"])
    cell = cells.grid(suite, found, found.by_run(), pairs.Predictions(found).luck).cell(suite.rows[0], COLUMN)
    assert cell.mean == 0.7 and cell.interval is None
    assert stats.item_variance(0.7, 372) > 0
