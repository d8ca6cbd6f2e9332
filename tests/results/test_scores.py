"""Scores against scikit-learn and scipy, on random and constant answers; how far they are said to move."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from results import recall, scores
from results.metrics import metrics


@pytest.mark.parametrize("classes", [2, 4])
def test_mcc_and_f1_are_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(0)
    pred, label = random.integers(0, classes, (2, 200))
    assert scores.mcc(pred, label) == pytest.approx(matthews_corrcoef(label, pred))
    assert scores.f1(pred, label) == pytest.approx(f1_score(label == 1, pred == 1))
    assert scores.score("f1_acc", pred, label) == pytest.approx((scores.f1(pred, label) + (pred == label).mean()) / 2)


def test_correlations_are_scipys_with_ties_too() -> None:
    random = np.random.default_rng(1)
    label = random.integers(0, 6, 100).astype(float)
    pred = label + random.normal(size=100).round(1)
    assert scores.pearson(pred, label) == pytest.approx(pearsonr(pred, label)[0])
    assert scores.spearman(pred, label) == pytest.approx(spearmanr(pred, label)[0])


def test_constant_answers_score_nothing() -> None:
    label = np.array([0, 1, 1, 0])
    for pred in (np.zeros(4, int), np.ones(4, int)):
        assert scores.mcc(pred, label) == scores.pearson(pred, label) == scores.spearman(pred, label) == 0
    assert scores.f1(np.zeros(4, int), label) == scores.f1(np.zeros(4, int), np.zeros(4, int)) == 0
    assert scores.pearson(np.array([np.nan, 1.0]), np.array([0.0, 1.0])) == 0


def test_recalls_follow_from_ranks_by_caption_and_pictures_are_drawn_with_their_captions() -> None:
    random = np.random.default_rng(3)
    image, owner = random.normal(size=(30, 6)), np.repeat(np.arange(30), 5)
    found = recall.ranks(image, np.repeat(image, 5, 0) + 1.5 * random.normal(size=(150, 6)), owner)
    pred = np.stack([found.of_image, found.of_text[owner]], 1).astype(np.float32)
    told, wanted = scores.values("rmean", pred, owner.astype(np.float32)), recall.recalls(found)
    assert told["score"] == pytest.approx(wanted["rmean"]) and scores.metric_of(told) == "rmean"
    assert {name: told[name] for name in scores.PARTS["rmean"]} == {n: v for n, v in wanted.items() if n != "rmean"}
    each = recall.each(found)
    assert told["score_se"] == pytest.approx(each.std() / 30 ** 0.5, rel=0.1)


def test_the_bootstraps_error_of_an_accuracy_is_the_binomials() -> None:
    right = np.random.default_rng(2).random(400) < 0.8
    p = right.mean()
    found = scores.spread(lambda rows: float(right[rows].mean()), 400)
    assert found == pytest.approx((p * (1 - p) / 400) ** 0.5, rel=0.1)
    assert found == scores.spread(lambda rows: float(right[rows].mean()), 400)


def test_a_metric_of_a_card_stands_beside_the_usual_ones_and_images_have_none() -> None:
    pred, label = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    sure, nll = np.full(4, 0.7, np.float32), np.ones(4, np.float32)
    plain = metrics(pred, label, sure, nll, "test")
    assert not any(name.startswith("test.score") for name in plain)
    assert metrics(pred, label, sure, nll, "test", metric="class_mean") == plain
    found = metrics(pred, label, sure, nll, "test", metric="mcc")
    assert found.keys() - plain.keys() == {"test.mcc", "test.score", "test.score_se"}
    assert found["test.score"] == pytest.approx(matthews_corrcoef(label, pred))
