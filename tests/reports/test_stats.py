"""Every estimator against numbers worked out by hand, and against simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as sps

from reports import stats


def test_wilson_equals_its_formula_worked_out_by_hand() -> None:
    # 54 of 100, z = 1.959964: centre (54 + 1.920729) / 103.841459, half sqrt(3.841459 * (24.84 + 0.960365)) / 103.84
    low, high = stats.wilson(54, 100)
    assert low == pytest.approx(0.442649, abs=1e-6)
    assert high == pytest.approx(0.634392, abs=1e-6)


def test_wilson_stays_inside_the_unit_interval_and_has_a_width_at_its_ends() -> None:
    assert stats.wilson(0, 20).low == 0.0 and 0.15 < stats.wilson(0, 20).high < 0.17
    assert stats.wilson(20, 20).high == 1.0 and 0.83 < stats.wilson(20, 20).low < 0.85
    with pytest.raises(ValueError, match="at least one item"):
        stats.wilson(0, 0)


def test_mean_squares_of_a_two_way_layout_by_hand() -> None:
    # rows (1,0) (1,1) (0,0): grand 1/2; row means 1/2, 1, 0; column means 2/3, 1/3
    ms = stats.mean_squares(np.array([[1, 0], [1, 1], [0, 0]], dtype=bool))
    assert ms.item == pytest.approx(2 * (0.25 + 0.25) / 2)
    assert ms.seed == pytest.approx(3 * (1 / 36 + 1 / 36) / 1)
    assert ms.rest == pytest.approx((6 * 0.25 - 1.0 - 1 / 6) / 2)


def test_mcnemar_is_the_sign_test_of_the_items_that_differ() -> None:
    a = np.array([1] * 8 + [0] * 2 + [1] * 5, dtype=bool)
    b = np.array([0] * 8 + [1] * 2 + [1] * 5, dtype=bool)
    # 8 against 2: 2 * (1 + 10 + 45) / 1024
    assert stats.mcnemar(a, b) == pytest.approx(2 * 56 / 1024)
    assert stats.mcnemar(a, a) == 1.0


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def test_letters_are_shared_exactly_by_rows_that_are_not_told_apart() -> None:
    mean = np.array([0.9, 0.8, 0.7, 0.6])
    different = np.zeros((4, 4), dtype=bool)
    for i, j in ((0, 2), (0, 3), (1, 3)):
        different[i, j] = different[j, i] = True
    letters = stats.tie_letters(mean, different)
    assert letters == ("a", "ab", "bc", "c")
    for i in range(4):
        for j in range(4):
            assert (i == j) or bool(set(letters[i]) & set(letters[j])) != different[i, j]


@pytest.mark.parametrize("seed", range(20))
def test_letters_hold_for_any_pattern_of_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((7, 7)) < 0.4, 1)
    different = upper | upper.T
    letters = stats.tie_letters(rng.random(7), different)
    for i in range(7):
        for j in range(i):
            assert bool(set(letters[i]) & set(letters[j])) != different[i, j]


def test_rank_ranges_follow_from_the_sure_comparisons_alone() -> None:
    rng = np.random.default_rng(0)
    mean = np.array([0.90, 0.70, 0.705, 0.40])
    found = stats.ranking(mean, mean + rng.normal(0, 0.01, (2000, 4)))
    assert found.ranks == ((1, 1), (2, 3), (2, 3), (4, 4))
    assert found.letters == ("a", "b", "b", "c")
    assert found.adjusted[1, 2] > 0.05 > found.adjusted[0, 1]
    assert np.allclose(found.adjusted, found.adjusted.T)
    assert found.likely[0] == (1, 1) and found.likely[1] == (2, 3)


def test_ranges_of_equal_rows_cover_all_ranks() -> None:
    draws = np.tile(np.random.default_rng(0).normal(0.5, 0.01, (500, 1)), (1, 3))
    assert stats.ranking([0.5, 0.5, 0.5], draws).ranks == ((1, 3),) * 3


def answers(name: str, correct: np.ndarray, owner: tuple[int, ...]) -> stats.Answers:
    return stats.Answers(name, "items", correct, owner)


def test_the_bootstrap_of_a_difference_has_the_error_of_the_closed_formula() -> None:
    rng = np.random.default_rng(1)
    ability = rng.random(800)
    correct = np.stack([rng.random(800) < 0.3 + 0.6 * ability, rng.random(800) < 0.2 + 0.7 * ability], 1)
    draws = stats.resample([answers("d", correct, (0, 1))], [1.0], 2, 6000)
    gap = draws[:, 0] - draws[:, 1]
    closed = np.std(correct[:, 0].astype(float) - correct[:, 1]) / math.sqrt(800)
    assert np.std(gap) / closed == pytest.approx(1.0, abs=0.03)  # standard error of the ratio 0.009
    assert gap.mean() == pytest.approx(correct[:, 0].mean() - correct[:, 1].mean(), abs=0.002)


def test_adding_a_data_set_moves_no_other_data_set_s_resamples() -> None:
    rng = np.random.default_rng(2)
    one, two = (answers(n, rng.random((100, 2)) < 0.5, (0, 1)) for n in "ab")
    alone = stats.resample([one], [1.0], 2, 300)
    both = stats.resample([one, two], [1.0, 0.0], 2, 300)
    assert np.array_equal(alone, both)
    assert not np.array_equal(stats.resample([two], [1.0], 2, 300), alone)


def test_resampling_twice_gives_the_same_bytes() -> None:
    rng = np.random.default_rng(3)
    one = answers("a", rng.random((100, 4)) < 0.5, (0, 0, 1, 1))
    assert np.array_equal(stats.resample([one], [1.0], 2, 300), stats.resample([one], [1.0], 2, 300))


# --- simulations: items and seeds are both drawn anew, the truth is known -------------------------------------------

TRIALS = 1000  # standard error of a coverage of 95 %: 0.7 points; bounds 93-97 are three of them


def drawn(rng: np.random.Generator, level: float, items: np.ndarray, seeds: int, spread: float) -> np.ndarray:
    """(items, seeds): a run is right with a probability of the item's ease, the method's level and the run's luck."""
    luck = rng.normal(0, spread, seeds)
    p = level + 0.5 * (items[:, None] - 0.5) + luck[None, :]
    return rng.random((len(items), seeds)) < p


@pytest.mark.parametrize("n", [100, 200, 1000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_wilson_covers_the_truth_in_95_of_100_test_sets(n: int, share: float) -> None:
    """Exactly, by summing the binomial: no simulation is needed."""
    hits = np.arange(n + 1)
    inside = [stats.wilson(k, n).low <= share <= stats.wilson(k, n).high for k in hits]
    assert 0.93 <= float(np.sum(sps.binom.pmf(hits, n, share)[inside])) <= 0.97


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.02), (5, 0.05)])
def test_the_interval_of_a_difference_covers_the_truth(seeds: int, spread: float) -> None:
    """Suite means: 19 data sets of 100 items; truth 3 points."""
    rng = np.random.default_rng(10 + seeds)
    inside = 0
    trials = TRIALS // 2
    for _ in range(trials):
        pairs = []
        for _ in range(19):
            items = rng.random(100)
            pairs.append(tuple(drawn(rng, level, items, seeds, spread) for level in (0.53, 0.50)))
        half = stats.z_value() * math.sqrt(stats.difference_variance(pairs))
        inside += abs(np.mean([a.mean() - b.mean() for a, b in pairs]) - 0.03) <= half
    assert 0.93 <= inside / trials <= 0.97


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.03)])
def test_the_bootstrap_interval_covers_the_truth(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(20 + seeds)
    inside, trials = 0, 500
    for trial in range(trials):
        sets = []
        for d in range(4):
            items = rng.random(120)
            both = np.concatenate([drawn(rng, level, items, seeds, spread) for level in (0.53, 0.50)], 1)
            sets.append(stats.Answers(f"{trial}-{d}", "x", both, (0,) * seeds + (1,) * seeds))
        draws = stats.resample(sets, [0.25] * 4, 2, 200)
        gap = np.mean([s.correct[:, :seeds].mean() - s.correct[:, seeds:].mean() for s in sets])
        half = stats.z_value() * float(np.std(draws[:, 0] - draws[:, 1], ddof=1))
        inside += abs(gap - 0.03) <= half
    assert 0.93 <= inside / trials <= 0.97


def test_equal_methods_are_called_different_in_at_most_5_of_100_tables() -> None:
    """Family-wise: six equal methods on four data sets."""
    rng = np.random.default_rng(30)
    wrong, trials = 0, 200
    for trial in range(trials):
        sets = []
        for d in range(4):
            items = rng.random(100)
            sets.append(stats.Answers(f"{trial}-{d}", "x", np.concatenate(
                [drawn(rng, 0.5, items, 1, 0.0) for _ in range(6)], 1), tuple(range(6))))
        mean = np.mean([s.correct.mean(0) for s in sets], 0)
        found = stats.ranking(mean, stats.resample(sets, [0.25] * 4, 6, 200))
        wrong += any(r != (1, 6) for r in found.ranks)
    assert wrong / trials <= 0.08  # 5 % and two standard errors of 200 trials


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.05)])
def test_one_data_set_s_test_errs_in_at_most_5_of_100_cases(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(40 + seeds)
    trials = TRIALS
    wrong = 0
    for _ in range(trials):
        items = rng.random(150)
        a, b = (drawn(rng, 0.5, items, seeds, spread) for _ in "ab")
        wrong += stats.paired_p(a, b) <= 0.05
    assert 0.01 <= wrong / trials <= 0.07


def test_the_win_matrix_by_hand() -> None:
    scores = np.array([[0.5, 0.6, 0.7, np.nan], [0.5, 0.5, 0.8, 0.9]])
    assert stats.win_matrix(scores)[0, 1] == pytest.approx(1.5 / 3)  # one tie, one win, one loss, one not common
    assert stats.win_matrix(scores)[1, 0] == pytest.approx(1.5 / 3)
    assert np.isnan(stats.win_matrix(np.array([[np.nan], [1.0]]))[0, 1])


def test_a_pattern_that_needs_too_many_letters_has_none() -> None:
    different = np.zeros((21, 21), dtype=bool)  # seven triples, each told apart within: 3^7 tie groups
    for i in range(21):
        for j in range(21):
            different[i, j] = i != j and i // 3 == j // 3
    assert set(stats.tie_letters(np.arange(21.0), different)) == {""}
