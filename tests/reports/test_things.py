"""What tables and pages call a run's items: images, texts or pairs; scores that are no share of right answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports import story
from results import store
from results.schema import RunResult
from results.spoken import thing

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
PAGES = Path(__file__).resolve().parents[2] / "reports" / "reference"


def final(suite: str, dataset: str) -> RunResult:
    records = map(store.load, store.record_files(REFERENCE / suite))
    return next(r for r in records if r.spec.phase == "final" and r.spec.dataset == dataset)


@pytest.mark.parametrize(("pixels", "tokenizer", "word"), [
    (48, "", "image"), (0, "be50c3628f2b", "text"), (64, "be50c3628f2b", "pair"), (float("nan"), None, "image")])
def test_items_are_called_what_they_are(pixels: float, tokenizer: str | None, word: str) -> None:
    assert thing(pixels, tokenizer) == word


def test_a_run_on_texts_is_told_of_texts_alone() -> None:
    page = story.told(final("text-real-tuned", "reuters_r8"), "runs/x.html", {})
    assert "adapted by adapter_pfeiffer to texts of" in page
    assert "1,000 texts of 8 classes were trained on, each cut or padded to 32 tokens." in page
    assert "95 % interval over texts" in page and "bytes kept for the backward pass, per text" in page
    assert "The test texts were read once" in page and "training texts a second" in page
    assert "image" not in page.replace("image_size", "") and "pixels" not in page


def test_a_run_on_images_is_told_as_before() -> None:
    page = story.told(final("demo", "digits"), "runs/x.html", {})
    assert "were trained on, each stretched to 48 x 48 pixels." in page and "text" not in page.replace("text_", "")


def test_a_score_is_told_with_its_parts_and_its_interval() -> None:
    run = final("text-real-tuned", "vader_movies")
    assert run.dataset is not None
    scored = {"test.f1": 0.9, "test.accuracy": 0.8, "test.score": 0.85, "test.score_se": 0.02}
    run = replace(run, dataset=replace(run.dataset, metric="f1_acc"), metrics={**run.metrics, **scored})
    page = story.told(run, "runs/x.html", {})
    assert "F1/acc on test, in hundredths: 85.00 (f1 90.00, accuracy 80.00); 95 % interval over texts 81.08 " \
           "to 88.92." in page  # 0.85 -+ 1.959964 * 0.02


def test_tables_of_texts_count_texts() -> None:
    page = (PAGES / "text-real-tuned.md").read_text(encoding="utf-8")
    assert "Training texts/s" in page and "Kept for backward per text" in page and "tokens 32" in page
    assert "images" not in page.replace("held-out images", "") and "image size" not in page  # the words of TPGM's card
    assert "Training images/s" in (PAGES / "demo.md").read_text(encoding="utf-8")
