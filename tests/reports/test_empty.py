"""A set none of whose runs has a record has no chapter and no page; a note names it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from reports import cli
from results.suites import Column, save_suite
from tests.reports import fakes

COLUMN = (Column("cifar100", "CIFAR-100", "natural", True, 10),)


def build(root: Path) -> str:
    assert cli.main(["build", "--records", str(root / "runs"), "--suites", str(root / "suites"), "--out",
                     str(root / "out")]) == 0
    return (root / "out" / "LEADERBOARD.md").read_text()


def test_a_set_without_a_record_has_neither_chapter_nor_page(tmp_path: Path) -> None:
    runs = [fakes.spec("cifar100", method) for method in ("linear", "lora")]
    views = [replace(fakes.suite([run], COLUMN, [run.method]), name=name, title=f"The {name} one")
             for run, name in zip(runs, ("here", "gone"), strict=True)]
    for run, view in zip(runs, views, strict=True):
        fakes.scored(tmp_path / "runs", run, 0.5)
        save_suite(view, tmp_path / "suites")
    both = build(tmp_path)
    assert "## The here one" in both and "## The gone one" in both and "Not shown" not in both
    site = tmp_path / "out" / "site"
    assert (site / "gone.html").exists()

    fakes.store(tmp_path / "moved", fakes.record(runs[1]))
    for path in (tmp_path / "runs" / "cifar100").glob("lora-*"):
        path.unlink()
    page = build(tmp_path)
    assert "## The here one" in page and "The gone one" not in page
    assert "Not shown, as none of their runs has a record: `gone`." in page
    assert not list(site.glob("gone*")) and (site / "here.html").exists()
    assert "gone" not in (site / "index.html").read_text()

    fakes.scored(tmp_path / "runs", runs[1], 0.5)
    assert build(tmp_path) == both, "with its record it stands there again"


def test_a_set_whose_only_run_failed_is_shown(tmp_path: Path) -> None:
    run = fakes.spec("cifar100", "lora")
    fakes.store(tmp_path / "runs", fakes.record(run, None, status="oom"))
    save_suite(fakes.suite([run], COLUMN, ["lora"]), tmp_path / "suites")
    page = build(tmp_path)
    assert "## Demo" in page and "OOM" in page


def test_where_no_set_has_a_record_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    save_suite(fakes.suite([fakes.spec("cifar100", "lora")], COLUMN, ["lora"]), tmp_path / "suites")
    assert "Not shown, as none of their runs has a record: `demo`." in build(tmp_path)
    shutil.rmtree(tmp_path / "out")
    assert build(tmp_path).count("## ") == 0
