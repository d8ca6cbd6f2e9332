"""Every estimator against numbers worked out by hand; `test_spread` has what is uncertain, and its simulations."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats as sps

from reports import spread, stats


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


def known(mean: list[float], error: float) -> spread.Spread:
    """Means with independent errors that are known."""
    nothing = spread.luck([spread.Training(*np.ones((3, len(mean))))])
    return spread.Spread(np.array(mean), np.eye(len(mean)) * error**2, nothing, np.inf)


def test_rank_ranges_follow_from_the_sure_comparisons_alone() -> None:
    found = stats.ranking(known([0.90, 0.70, 0.705, 0.40], 0.01))
    assert found.ranks == ((1, 1), (2, 3), (2, 3), (4, 4))
    assert found.letters == ("a", "b", "b", "c")
    assert found.adjusted[1, 2] > 0.05 > found.adjusted[0, 1]
    assert np.allclose(found.adjusted, found.adjusted.T)
    assert found.likely[0] == (1, 1) and found.likely[1] == (2, 3)
    assert found.of_runs


def test_ranges_of_equal_rows_cover_all_ranks() -> None:
    assert stats.ranking(known([0.5, 0.5, 0.5], 0.01)).ranks == ((1, 3),) * 3
    assert stats.ranking(known([0.5, 0.5, 0.5], 0.0)).ranks == ((1, 3),) * 3


def test_letters_beyond_z_read_in_one_way() -> None:
    """Every method apart from its next but one alone: 40 groups of two neighbours."""
    k = 41
    different = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) > 1
    letters = stats.tie_letters(-np.arange(float(k)), different)
    assert letters[0] == "a" and letters[26] == "za2" and letters[40] == "n2"
    names = [set(re.findall(r"[a-z]\d*", word)) for word in letters]
    assert all("".join(sorted(n, key=word.index)) == word for n, word in zip(names, letters, strict=True))
    for i in range(k):
        for j in range(i):
            assert bool(names[i] & names[j]) != different[i, j]


@pytest.mark.parametrize(("share", "size"), [(1.0, 3.0), (0.0, 0.2), (0.995, 180.5), (0.6, 0.05), (0.5, 1e9)])
def test_a_bounded_interval_holds_its_share_and_stays_inside(share: float, size: float) -> None:
    low, high = stats.bounded(share, size)
    assert 0.0 <= low <= share <= high <= 1.0 and high > low


@pytest.mark.parametrize("n", [100, 200, 1000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_wilson_covers_the_truth_in_95_of_100_test_sets(n: int, share: float) -> None:
    """Exactly, by summing the binomial: no simulation is needed."""
    hits = np.arange(n + 1)
    inside = [stats.wilson(k, n).low <= share <= stats.wilson(k, n).high for k in hits]
    assert 0.93 <= float(np.sum(sps.binom.pmf(hits, n, share)[inside])) <= 0.97


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
