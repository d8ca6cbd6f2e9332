"""Metrics follow from stored predictions alone, and a record that says otherwise is found."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from math import isclose
from pathlib import Path

import numpy as np
import pytest

from results import store
from results.metrics import metrics, recompute
from results.schema import Artifact, RecordError, RunResult
from tests.reports.fakes import record, spec


def _stored(root: Path, right: int = 3) -> RunResult:
    label = np.array([0, 0, 1, 2], np.int32)
    pred = np.where(np.arange(4) < right, label, (label + 1) % 3).astype(np.int32)
    confidence, nll = np.full(4, 0.75, np.float32), np.full(4, 0.5, np.float32)
    result = record(spec())
    path = store.path_of(result.spec, root).with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, pred=pred, label=label, confidence=confidence, nll=nll)
    found = metrics(pred, label, confidence, nll, "test")
    predictions = Artifact("predictions", path.name, sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    result = replace(result, metrics=found | {"train.top1": 0.9}, artifacts=(predictions,))
    store.save(result, root)
    return result


def test_metrics_are_what_their_names_say() -> None:
    found = metrics(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2]), np.full(4, 0.5, np.float32),
                    np.array([0.1, 0.2, 0.3, 0.4], np.float32), "test")
    assert found["test.top1"] == 0.5 and found["test.n"] == 4 and found["test.majority"] == 0.5
    assert isclose(found["test.class_mean"] or 0, (0.5 + 1 + 0) / 3)
    assert isclose(found["test.nll"] or 0, 0.25, rel_tol=1e-6) and found["test.ece"] == 0.0
    assert isclose(found["test.se"] or 0, 0.25)


def test_macro_f1_is_scikit_learns_over_the_classes_that_are_there() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for classes, absent in ((3, False), (7, True)):
        label = rng.integers(0, classes - absent, 200)
        pred = np.where(rng.random(200) < 0.5, label, rng.integers(0, classes, 200))
        found = metrics(pred, label, np.full(200, 0.5, np.float32), np.full(200, 0.5, np.float32), "test", f1=True)
        wanted = f1_score(label, pred, labels=np.unique(label), average="macro")
        assert isclose(found["test.macro_f1"] or 0, wanted, rel_tol=1e-12)
    assert "test.macro_f1" not in metrics(label, label, np.ones(200), np.zeros(200), "test")


def test_records_that_agree_with_their_predictions_are_left_alone(tmp_path: Path) -> None:
    _stored(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert not list(recompute(tmp_path, write=True))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_a_wrong_metric_is_found_and_mended(tmp_path: Path) -> None:
    right = _stored(tmp_path)
    store.save(replace(right, metrics=right.metrics | {"test.class_mean": 0.1, "test.nll": None}), tmp_path)
    found = {d.metric: (d.stored, d.now) for d in recompute(tmp_path)}
    assert found == {"test.class_mean": (0.1, right.metrics["test.class_mean"]), "test.nll": (None, 0.5)}
    assert len(list(recompute(tmp_path, write=True))) == 2 and not list(recompute(tmp_path))
    assert store.load(store.path_of(right.spec, tmp_path)) == right


def test_predictions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    result = _stored(tmp_path)
    store.path_of(result.spec, tmp_path).with_suffix(".npz").write_bytes(b"PK")
    with pytest.raises(RecordError, match=r"\.npz is not the file that was stored"):
        list(recompute(tmp_path))
