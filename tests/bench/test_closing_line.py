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
