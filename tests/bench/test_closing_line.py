"""The lines that `run` ends with tell each data set by the metric of its card, as the tables do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import checkout
from bench.planning.resolve import Planned
from bench.verbs import scores
from datasets import registry
from results import store
from tests.reports import fakes


def planned(root: Path, dataset: str, **metrics: float) -> Planned:
    run = fakes.spec(dataset, "lora", data=f"real:{dataset}")
    record = fakes.record(run)
    assert record.dataset is not None
    record = replace(record, dataset=replace(record.dataset, metric=registry.get(dataset).metric, title=dataset))
    record.metrics.update({f"test.{name}": value for name, value in metrics.items()})
    store.save(record, root)
    return Planned(run, "lora", {}, root, None)


@pytest.mark.parametrize(("sets", "told"), [
    (("digits",), "test accuracy in %"), (("stamps",), "test accuracy (mean per class) in %"),
    (("digits", "stamps"), "test accuracy (mean per class where the data set's card says so) in %")])
def test_a_set_told_as_a_mean_over_classes_is_so_at_the_end_of_a_run(
        sets: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path)
    values = {"digits": "75.0", "stamps": "25.0"}
    text = scores.table([planned(tmp_path, name, top1=0.75, class_mean=0.25) for name in sets])
    row = next(line for line in text.splitlines() if line.startswith("lora"))
    assert all(values[name] in row.split() for name in sets) and told in text
    assert all(value not in row.split() for name, value in values.items() if name not in sets)


@pytest.mark.parametrize(("sets", "told"), [(("cola",), "test MCC in %"), (("flickr30k",), "test mean recall in %"),
                                            (("cola", "flickr30k"), "test scores (accuracy, MCC, ...) in %")])
def test_a_score_is_called_by_its_name_and_no_rank_is_promised(
        sets: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path)
    parts = {"cola": {"mcc": 0.5}, "flickr30k": {f"{side}_r{k}": 0.5 for side in ("text", "image") for k in (1, 5, 10)}}
    text = scores.table([planned(tmp_path, name, score=0.5, **parts[name]) for name in sets])
    assert told in text and "told apart" not in text


def test_a_table_that_was_not_written_is_not_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path)
    runs = [planned(tmp_path, "digits", top1=0.5)]
    assert "LEADERBOARD" in scores.table(runs) and "LEADERBOARD" not in scores.table(runs, reported=False)
