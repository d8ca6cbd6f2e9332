"""What comes back after a change: a run that failed under a method's former source, and rows of one's own sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning.plan import make
from bench.planning.request import Request
from results import store
from results.schema import Failure
from results.suites import save_suite
from tests.reports import fakes

OWN = Request(suite="custom", datasets=("svhn",), methods=("lora",), backbones=("regatta_vit_48",), data="standin")


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOT", tmp_path)


def test_what_failed_under_another_source_is_run_again_unasked(tmp_path: Path) -> None:
    asked = Request(suite="demo", datasets=("svhn",), methods=("lora",))
    (planned,) = make(asked, tmp_path / "runs").runs
    record = replace(fakes.record(planned.spec, None), status="failed", failure=Failure("code", "wrong", "build"))
    now = make(asked, tmp_path / "runs").view.rows[0]
    store.save(replace(record, method=replace(record.method, source_hash="0" * 64)), tmp_path / "runs")
    (found,) = make(asked, tmp_path / "runs").runs
    assert found.state == "missing" and "former source" in found.why
    source = next(r.source_hash for r in make(asked, tmp_path / "runs").view.rows if r.method == "lora")
    assert source and now
    store.save(replace(record, method=replace(record.method, source_hash=source)), tmp_path / "runs")
    (found,) = make(asked, tmp_path / "runs").runs
    assert found.state == "failed" and "wrong" in found.why


def test_rows_of_an_own_set_stay_when_another_row_is_asked_for(tmp_path: Path) -> None:
    save_suite(make(OWN).view, tmp_path / "suites")
    later = make(replace(OWN, methods=("linear",))).view
    assert {row.method for row in later.rows} == {"lora", "linear"}
    save_suite(later, tmp_path / "suites")
    assert {c.name for c in make(replace(OWN, datasets=("dtd",))).view.columns} == {"svhn", "dtd"}


def test_drawn_images_do_not_come_back_into_a_column_of_real_ones(tmp_path: Path) -> None:
    view = make(OWN).view
    save_suite(replace(view, columns=tuple(replace(c, standin=False) for c in view.columns)), tmp_path / "suites")
    later = make(replace(OWN, methods=("linear",))).view
    assert {row.method for row in later.rows} == {"linear"}
