"""Metrics follow from stored predictions, checked against a hand computation."""

from __future__ import annotations

import numpy as np
import pytest

from bench.engine.evaluate import Predictions, metrics_of


def _predictions(pred: list[int], label: list[int], confidence: list[float]) -> Predictions:
    n = len(pred)
    return Predictions(np.array(pred), np.array(label), np.ones(n, np.float32), np.array(confidence, np.float32),
                       np.full(n, 0.5, np.float32))


def test_metrics_equal_a_hand_computation() -> None:
    found = metrics_of(_predictions([0, 0, 1, 2], [0, 1, 1, 3], [0.9, 0.9, 0.5, 0.1]), "test")
    assert found["test.top1"] == 0.5
    assert found["test.class_mean"] == pytest.approx((1 + 0.5 + 0) / 3)  # classes 0, 1 and 3 occur; 2 does not
    assert found["test.majority"] == 0.5
    assert found["test.se"] == pytest.approx(0.25)
    assert found["test.n"] == 4
    # bins: {0.9, 0.9} one right of two, {0.5} right, {0.1} wrong
    assert found["test.ece"] == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.5 - 1) + abs(0.1 - 0)) / 4, abs=1e-6)


def test_a_confidence_that_is_no_number_gives_no_calibration_instead_of_a_made_up_one() -> None:
    found = metrics_of(_predictions([0], [0], [float("nan")]), "val")
    assert found["val.ece"] is None and found["val.top1"] == 1.0
