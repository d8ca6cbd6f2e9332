"""Records of measurements: strict on reading, never overwritten, compared figure by figure with a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import cli, measured
from results.measured import Figure, Machine, Measurement, against, load, save
from results.schema import RecordError

HERE = Machine("cpu", "AMD EPYC", 2, 1, 24 * 2**30, None, None, {"torch": "2.15.0"}, "0123456789abcdef", False, None)
FIGURES = (Figure("lora", "train", "images/s", 10.0, 9.5, 10.5, 0.95, 20),
           Figure("lora", "train / full", "ratio", 1.4, 1.3, 1.5, 0.95, 20),
           Figure("lora", "saved per image", "bytes", 77.0 * 2**20),
           Figure("full", "train", "images/s", None, note="out of memory at batch 512"))


def one(*figures: Figure, **changes: Any) -> Measurement:
    base = Measurement("perf", "2 variants on vit", "2026-11-21T12:00:00Z", 60.0, HERE,
                       {"backbone": "vit", "batch_size": 16}, figures or FIGURES)
    return replace(base, **changes)


def test_a_measurement_survives_the_way_to_disk_and_back(tmp_path: Path) -> None:
    path = save(one(), tmp_path)
    assert load(path) == one()
    assert path.name == "perf-vit-amd-epyc-01234567-20261121T120000Z.json"


def test_uncommitted_sources_show_in_the_name(tmp_path: Path) -> None:
    assert "01234567+" in save(one(machine=replace(HERE, dirty=True)), tmp_path).name


def test_nothing_that_json_cannot_hold_is_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        save(one(Figure("lora", "train", "images/s", float("nan"))), tmp_path)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(("change", "words"), [
    (lambda b: b["figures"][0].update(extra=1), "extra"), (lambda b: b["machine"].pop("cores"), "machine.cores"),
    (lambda b: b["figures"][0].update(value="fast"), "figures\\[0\\].value"), (lambda b: b.update(schema=99), "schema"),
    (lambda b: b["figures"][0].update(unit="hours"), "unit"),
])
def test_a_damaged_record_is_named_with_its_field(change: Any, words: str, tmp_path: Path) -> None:
    path = save(one(), tmp_path)
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))
    with pytest.raises(RecordError, match=words):
        load(path)


def test_targets_are_judged_by_the_median_and_unknown_stays_unknown() -> None:
    judged = against(FIGURES, [("lora", "train / full", 1.4, ""), ("lora", "train / full", 1.45, ""),
                               ("full", "train", 1.0, ""), ("sherl", "train", 1.0, "")])
    assert [t.reached for t in judged] == [True, False, None, None]


def verdicts(a: Measurement, b: Measurement) -> dict[str, str]:
    return {p.a.quantity: p.verdict for p in measured.compare(a, b).pairs if p.a.subject == "lora"}


def test_a_measurement_equals_itself() -> None:
    found = measured.compare(one(), one())
    assert not found.differing() and {p.verdict for p in found.pairs} == {"equal", "unknown"}


def test_intervals_that_do_not_meet_differ_and_bytes_must_be_equal() -> None:
    other = one(Figure("lora", "train", "images/s", 10.8, 10.4, 11.0, 0.95, 20),
                Figure("lora", "train / full", "ratio", 1.7, 1.6, 1.8, 0.95, 20),
                Figure("lora", "saved per image", "bytes", 77.0 * 2**20 + 1))
    assert verdicts(one(), other) == {"train": "within", "train / full": "differs", "saved per image": "differs"}


def test_seconds_of_another_machine_get_no_verdict_but_ratios_and_bytes_do() -> None:
    elsewhere = replace(HERE, cpu="Another")
    other = one(Figure("lora", "train", "images/s", 99.0, 98.0, 99.5, 0.95, 20), *FIGURES[1:], machine=elsewhere)
    assert verdicts(one(), other) == {"train": "not comparable", "train / full": "equal", "saved per image": "equal"}
    assert "different machines" in measured.report(measured.compare(one(), other), one(), other)


def test_the_command_compares_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = save(one(), tmp_path / "a")
    b = save(one(replace(FIGURES[1], value=2.0, low=1.9, high=2.1), settings={"backbone": "vit", "batch_size": 8}),
             tmp_path / "b")
    assert cli.main(["compare", str(a), str(b)]) == 1
    out = capsys.readouterr().out
    assert "1 of 1 figure differs" in out and "batch_size (16 and 8)" in out and "1.43" in out
    assert "only in A: lora train" in out
    assert cli.main(["compare", str(a), str(a)]) == 0


def test_a_measurement_is_not_compared_with_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(one(), tmp_path)
    assert cli.main(["compare", str(path), "runs"]) == 2
    assert "is not a measurement" in capsys.readouterr().err
