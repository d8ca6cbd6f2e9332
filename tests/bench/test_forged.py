"""Forgeries that once passed: labels rewritten to the answers, a score with a part left out, another metric, a file of
another kind. Each must be found by whoever has the files, and by whoever has the data too."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bench.planning.examine import examine
from bench.verbs import verify
from results import evidence, store
from results.metrics import of_file
from results.schema import RecordError, RunResult, from_json, to_json

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"


def committed(suite: str, dataset: str) -> tuple[Path, RunResult]:
    for path in store.record_files(REFERENCE / suite):
        record = store.load(path)
        if record.spec.phase == "final" and record.spec.dataset == dataset:
            return path, record
    raise AssertionError(dataset)


def answers(count: int = 200, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count).astype(np.int32)
    return np.where(random.random(count) < 0.7, label, 1 - label).astype(np.int32), label


def stored(folder: Path, record: RunResult, metric: str, **lists: np.ndarray) -> RunResult:
    """A record with these predictions beside it and the metrics that follow from them."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **lists)
    content = stream.getvalue()
    artifact = replace(next(a for a in record.artifacts if a.kind == "predictions"), path="p.npz",
                       sha256=sha256(content).hexdigest(), bytes=len(content))
    (folder / "p.npz").write_bytes(content)
    assert record.dataset is not None
    record = replace(record, artifacts=(artifact,), dataset=replace(record.dataset, metric=metric))
    return replace(record, metrics=of_file(evidence.arrays(content, ("pred", "label"), ("confidence", "nll", "task")),
                                           "test", record))


def faults(folder: Path, record: RunResult) -> dict[str, tuple[str, str]]:
    assert record.dataset is not None
    return evidence.faults(folder, "final", record.metrics, [(a.kind, a.path, a.sha256) for a in record.artifacts],
                           record.dataset.metric)


def of_classes(folder: Path, metric: str = "mcc") -> RunResult:
    pred, label = answers()
    sure = np.full(len(pred), 0.8, np.float32)
    nll = np.where(pred == label, -np.log(0.8), -np.log(0.2)).astype(np.float32)
    return stored(folder, committed("text-real-tuned", "vader_movies")[1], metric, pred=pred, label=label,
                  confidence=sure, nll=nll)


def of_numbers(folder: Path) -> RunResult:
    random = np.random.default_rng(1)
    label = random.random(60).astype(np.float32)
    return stored(folder, committed("text-real-tuned", "vader_movies")[1], "pearson_spearman", task=np.array("regress"),
                  pred=(label + random.random(60) / 3).astype(np.float32), label=label)


@pytest.mark.parametrize("made", [of_classes, of_numbers])
def test_a_score_with_a_part_left_out_is_no_evidence(made: Callable[[Path], RunResult], tmp_path: Path) -> None:
    record = made(tmp_path)
    assert faults(tmp_path, record) == {}
    for part in ("mcc", "pearson", "spearman", "score"):
        if f"test.{part}" in record.metrics:
            left = {k: v for k, v in record.metrics.items() if k != f"test.{part}"} | (
                {} if part == "score" else {"test.score": 0.999})
            (state, why), = faults(tmp_path, replace(record, metrics=left)).values()
            assert state == "contradicted" and f"metrics.test.{part}" in why


def test_a_score_that_the_set_is_not_told_in_is_no_evidence(tmp_path: Path) -> None:
    record = of_numbers(tmp_path)
    (state, why), = faults(tmp_path, replace(record, metrics=record.metrics | {"test.mcc": 0.5})).values()
    assert state == "contradicted" and "test.mcc" in why


@pytest.mark.parametrize("metric", ["top1", "mcc", "rmean"])
def test_predictions_of_another_kind_are_told_and_stop_nothing(metric: str, tmp_path: Path) -> None:
    record = of_numbers(tmp_path)
    assert record.dataset is not None
    other = replace(record, dataset=replace(record.dataset, metric=metric))
    (state, why), = faults(tmp_path, other).values()
    assert state == "contradicted" and "numbers" in why
    with pytest.raises(evidence.PredictionError, match="numbers"):
        of_file(evidence.arrays((tmp_path / "p.npz").read_bytes(), ("pred", "label"), ("task",)), "test", other)


def test_a_task_does_not_switch_the_check_of_top1_off(tmp_path: Path) -> None:
    record = of_numbers(tmp_path)
    assert record.dataset is not None
    forged = replace(record, dataset=replace(record.dataset, metric="top1"),
                     metrics={"test.top1": 0.99, "test.n": 60.0})
    (state, _), = faults(tmp_path, forged).values()
    assert state == "contradicted"


def test_a_metric_that_nobody_knows_is_no_record() -> None:
    body = json.loads(to_json(committed("text-real-tuned", "vader_movies")[1]))
    body["dataset"]["metric"] = "nonsense"
    with pytest.raises(RecordError, match=r"dataset\.metric"):
        from_json(json.dumps(body))


@pytest.mark.parametrize("change", [{"metric": "f1_acc"}, {"standin": True}, {"title": "SST-2"}, {"classes": 3},
                                    {"test": 1000}])
def test_what_a_record_says_of_its_data_set_is_held_against_the_card(change: dict[str, object]) -> None:
    path, record = committed("text-real-tuned", "vader_movies")
    assert examine(path, record)[0] == ""
    assert record.dataset is not None
    said, why = examine(path, replace(record, dataset=replace(record.dataset, **change)))  # type: ignore[arg-type]
    assert said == "refused" and ("false data" in why or "score changed" in why)


def test_labels_rewritten_to_the_answers_are_found_by_scoring_again(tmp_path: Path) -> None:
    from bench.engine.evaluate import Predictions

    pred, label = answers()
    margin, sure, nll = (np.full(len(pred), v, np.float32) for v in (1.0, 0.8, 0.3))
    found = Predictions(pred, label, margin, sure, nll)
    record = committed("text-real-tuned", "vader_movies")[1]
    held = {"pred": pred, "label": label, "margin": margin, "items": np.array("x")}
    assert verify._compare(record, held, found, "x").same
    told = verify._compare(record, held | {"label": pred}, found, "x")
    assert not told.same and "labels" in told.told
