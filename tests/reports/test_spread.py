"""What items and seeds do to a mean: by hand, and against simulations whose truth is known (`truth`).

The whole grid is in `tests/perf/coverage.py`, its page in `docs/statistics.md`. Bounds here are two to three standard
errors of the simulation away from what is promised; normal quantiles on the same variances break them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as sps

from reports import means, pairs, spread, stats
from reports.differ import Side, differences
from tests.reports import truth


def one(value: float) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize("freedom", [1, 2, 3, 16, 120])
@pytest.mark.parametrize("gap", [1.0, 3.0, 7.0])
def test_where_seeds_are_everything_the_tail_is_student_s(freedom: int, gap: float) -> None:
    p = spread.tail(one(gap), one(0.0), one(1.0), one(0.0), freedom)[0]
    assert p == pytest.approx(2 * sps.t.sf(gap, freedom), rel=2e-3)


def test_where_seeds_cannot_matter_the_tail_is_normal() -> None:
    assert spread.tail(one(2.5), one(1.0), one(0.0), one(0.0), 0)[0] == pytest.approx(2 * sps.norm.sf(2.5))
    # what seeds show is less than the items' chance makes of it: nothing is added
    assert spread.tail(one(2.5), one(1.0), one(0.1), one(9.0), 40)[0] == pytest.approx(2 * sps.norm.sf(2.5), rel=1e-3)


def test_a_half_width_is_where_the_tail_is_5_percent() -> None:
    half = spread.half_width(one(0.0), one(4.0), one(0.0), 2)[0]
    assert half == pytest.approx(2 * 4.3027, rel=1e-3)  # Student's t of 2 degrees
    assert spread.half_width(one(0.0), one(0.0), one(0.0), 0)[0] == 0.0


def test_the_items_chance_by_hand() -> None:
    # rows (1,0) (1,1) (0,0): squares 1.5 in all, 1 between rows, 1/6 between columns; the rest over 2 degrees, 3 items
    right = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    assert spread.chance_of(right) == pytest.approx((1.5 - 1 - 1 / 6) / 2 / 3)
    assert spread.chance_of(right[:, :1]) is None


def test_rows_lend_each_other_their_spread() -> None:
    # variances 1 and 3 over three seeds: the mean is 2, a third of it for a mean of three; 2 + 2 degrees of freedom
    found = spread.luck([spread.Training(np.array([3.0, 3.0]), np.array([1.0, 3.0]), np.array([0.3, 0.3]))])
    assert found.shown == pytest.approx([2 / 3, 2 / 3]) and found.freedom == pytest.approx(4)
    assert found.chance == pytest.approx([0.1, 0.1]) and not found.alone and found.lent == ()


def test_a_row_of_one_seed_is_lent_the_spread_and_named() -> None:
    training = spread.Training(np.array([1.0, 3.0, 3.0]), np.array([np.nan, 2.0, 4.0]), np.array([np.nan, 0.0, 0.0]))
    found = spread.luck([training])
    assert found.lent == (0,) and found.shown[0] == pytest.approx(3.0)
    assert spread.luck([training], lend=False).shown[0] == 0.0
    assert spread.luck([spread.Training(*np.ones((3, 2)))]).alone


def test_borrowing_ends_where_rows_vary_more_than_few_seeds_explain() -> None:
    alike, freedom = spread.borrow(np.array([0.9, 1.1, 1.0, 1.0]), np.full(4, 4.0), 16.0)
    assert list(alike) == [1.0] * 4 and freedom == 16.0
    unlike, fewer = spread.borrow(np.array([0.01] * 7 + [7.93]), np.full(8, 4.0), 32.0)
    assert 3 < unlike[7] < 7.93 and list(unlike[:7]) == [1.0] * 7, "no row is taken to be steadier than the mean"
    assert 4 < fewer < 12


def test_further_test_sets_of_the_same_runs_share_their_luck() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((400, 6)) < np.array([0.5, 0.6, 0.7] * 2)  # the seeds differ, the two rows do not
    owner = (0, 0, 0, 1, 1, 1)
    same = [spread.Answers(n, n, right, owner, "runs") for n in "ab"]
    apart = [spread.Answers(n, n, right, owner) for n in "ab"]
    shown = [spread.spread_of(sets, [0.5, 0.5], 2).luck.shown[0] for sets in (same, apart)]
    assert shown[0] == pytest.approx(2 * shown[1])


def test_data_sets_on_the_same_items_share_their_noise() -> None:
    right = np.random.default_rng(0).random((400, 2)) < 0.5
    same, apart = ([spread.Answers(n, items, right, (0, 1)) for n, items in (("a", "x"), ("b", last))]
                   for last in ("x", "y"))
    closed = right[:, 0].astype(float).var(ddof=1) / 400
    assert spread.spread_of(same, [0.5, 0.5], 2).items[0, 0] == pytest.approx(closed)
    assert spread.spread_of(apart, [0.5, 0.5], 2).items[0, 0] == pytest.approx(closed / 2)


def test_one_test_image_tells_nothing_apart() -> None:
    one_item = spread.Answers("a", "x", np.array([[True, False]]), (0, 1))
    assert stats.ranking(spread.spread_of([one_item], [1.0], 2)).ranks == ((1, 2), (1, 2))


def test_a_test_split_of_one_image_is_no_damaged_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pred=np.array([3]), label=np.array([3]))
    assert pairs.load_scored(tmp_path / "a.npz", "a.npz").correct.tolist() == [True]
    np.savez(tmp_path / "b.npz", pred=np.array([], int), label=np.array([], int))
    with pytest.raises(pairs.PredictionError, match=r"b\.npz"):
        pairs.load_scored(tmp_path / "b.npz", "b.npz")


# --- simulations: data sets, items and seeds are drawn anew, the truth is known --------------------------------------

def false_separations(methods: int, sets: int, n: int, seeds: int, points: float, draws: int) -> float:
    """Share of draws of equal methods in which any two are told apart."""
    rng = np.random.default_rng(methods * 1000 + n)
    wrong = 0
    for _ in range(draws):
        found = spread.spread_of(truth.answers(truth.drawn(rng, methods, sets, n, seeds, points)), [1 / sets] * sets,
                                 methods)
        wrong += bool((found.p_values()[np.triu_indices(methods, 1)] <= 0.05 / (methods * (methods - 1) / 2)).any())
    return wrong / draws


@pytest.mark.parametrize(("methods", "sets", "n", "seeds", "points"), [
    (8, 1, 2000, 3, 1.0), (8, 1, 2000, 2, 2.0), (8, 3, 200, 3, 2.0), (8, 8, 200, 2, 2.0), (3, 1, 200, 3, 2.0),
    (8, 1, 200, 3, 0.0), (8, 1, 50, 1, 0.0)])
def test_equal_methods_are_told_apart_in_at_most_5_of_100_tables(methods: int, sets: int, n: int, seeds: int,
                                                                 points: float) -> None:
    assert false_separations(methods, sets, n, seeds, points, 200) <= 0.085  # 5 % and 2.3 standard errors


def test_methods_of_unlike_spread_keep_the_promise_too() -> None:
    """Two of eight vary four times as much as the others."""
    rng, wrong, draws = np.random.default_rng(5), 0, 200
    for _ in range(draws):
        right = truth.drawn(rng, 8, 3, 200, 3, [4.0, 4.0] + [1.0] * 6)
        wrong += any(r != (1, 8) for r in stats.ranking(spread.spread_of(truth.answers(right), [1 / 3] * 3, 8)).ranks)
    assert wrong / draws <= 0.085


def test_ranges_are_not_needlessly_wide() -> None:
    """Five points between neighbours of four, spread of half a point, 2,000 items: all pairs are told apart."""
    rng, right_ranks, draws = np.random.default_rng(6), 0, 50
    for _ in range(draws):
        right = truth.drawn(rng, 3, 1, 2000, 3, 0.5, [0.0, -5.0, 5.0])
        right_ranks += stats.ranking(spread.spread_of(truth.answers(right), [1.0], 3)).ranks == ((2, 2), (3, 3), (1, 1))
    assert right_ranks / draws >= 0.8


@pytest.mark.parametrize(("methods", "sets", "n", "seeds", "points"), [
    (8, 1, 2000, 2, 2.0), (8, 1, 2000, 3, 1.0), (8, 3, 200, 3, 2.0), (8, 1, 200, 3, 0.0), (8, 1, 200, 1, 0.0)])
def test_the_interval_of_a_cell_and_of_a_mean_covers_the_truth(methods: int, sets: int, n: int, seeds: int,
                                                               points: float) -> None:
    rng, inside, draws = np.random.default_rng(7 + n), 0, 120
    for _ in range(draws):
        right = truth.drawn(rng, methods, sets, n, seeds, points)
        rows = [[part(x[:, m], 1 / sets, str(d)) for d, x in enumerate(right)] for m in range(methods)]
        found = [i for i in means.intervals(rows) if i is not None]
        inside += sum(i.low <= truth.level() <= i.high for i in found)
        assert all(0 <= i.low <= i.high <= 1 for i in found)
    assert 0.925 <= inside / draws / methods <= 0.985  # rows share items: standard error up to 1.5 points


def part(right: np.ndarray, weight: float, name: str) -> means.Part:
    return means.Part(tuple(map(float, right.mean(0))), len(right), spread.chance_of(right), weight, name, name)


def test_a_mean_of_one_column_has_the_interval_of_its_cell_and_wilson_s_for_one_seed() -> None:
    cell = means.Part((0.61,), 100, None, 1.0, "a", "a")
    assert means.intervals([[cell]])[0] == pytest.approx(stats.wilson(61, 100))


@pytest.mark.parametrize("values", [(1.0, 1.0, 0.985), (0.0, 0.01), (1.0,), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("n", [1, 2, 200])
def test_means_stay_inside_0_and_100(values: tuple[float, ...], n: int) -> None:
    rows = [[means.Part(values, n, None, 0.5, name, name) for name in "ab"]]
    interval = means.intervals(rows)[0]
    assert interval is not None
    assert 0.0 <= interval.low <= sum(values) / len(values) <= interval.high <= 1.0 and interval.high > interval.low


@pytest.mark.parametrize(("seeds", "points"), [(3, 1.0), (2, 1.0), (3, 0.0)])
def test_reruns_are_called_different_in_at_most_5_of_100_cases(seeds: int, points: float) -> None:
    """Eight methods on 2,000 items, run again with other luck; Holm over the eight cells."""
    rng, wrong, draws = np.random.default_rng(8), 0, 200
    for _ in range(draws):
        (right,) = truth.drawn(rng, 8, 1, 2000, 2 * seeds, points)
        cells = [tuple(Side(tuple(map(float, half.mean(0))), 2000, "x", half)
                       for half in (right[:, m, :seeds], right[:, m, seeds:])) for m in range(8)]
        wrong += min(stats.holm([d.p for d in differences(cells) if d.p is not None])) <= 0.05
    assert wrong / draws <= 0.085


def test_a_regression_of_five_points_is_found_through_the_luck_of_seeds() -> None:
    rng, found, draws = np.random.default_rng(9), 0, 40
    for _ in range(draws):
        (right,) = truth.drawn(rng, 9, 1, 2000, 3, 0.5, [0.0] * 8 + [-5.0])
        sides = [Side(tuple(map(float, right[:, m].mean(0))), 2000, "x", right[:, m]) for m in range(9)]
        tests = differences([(sides[0], sides[8]), *((sides[m], sides[m + 1]) for m in range(1, 7, 2))])
        found += stats.holm([d.p for d in tests if d.p is not None])[0] <= 0.05
    assert found / draws >= 0.8
