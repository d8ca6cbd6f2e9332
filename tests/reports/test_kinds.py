"""Rows and columns of a kind: test-time adaptation apart, our reading marked, few shots, shift, probes, reports."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli
from results.suites import Column, SuiteView, save_suite
from tests.reports import fakes
from tests.reports.conftest import Zoo
from tests.reports.test_leaderboard import build, table

PLAIN, APART = "#### Accuracy (STAND-IN", "#### Methods that adapt at test (STAND-IN"


def made(root: Path, suite: SuiteView) -> Path:
    save_suite(suite, root / "suites")
    assert cli.main(["build", "--records", str(root / "runs"), "--suites", str(root / "suites"), "--out",
                     str(root / "out")]) == 0
    return root / "out"


@pytest.fixture(scope="module")
def out(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    assert build(zoo, folder) == 0
    return folder


# Test-time adaptation.

def test_rows_that_adapt_at_test_stand_apart_with_what_they_gain(out: Path) -> None:
    page = (out / "LEADERBOARD.md").read_text()
    name = "lora+tent` ◊ (adapts at test: online)"
    for heading in (PLAIN, "#### Accuracy, Natural (STAND-IN"):
        assert not [row for row in table(page, heading) if row.startswith("lora+tent")]
    row = table(page, APART)[name]
    # 55.0 with and 53.0 without on each of three sets
    assert row["Mean of 3"].startswith("55.0") and row["Without adapting"] == "53.0" and row["Gain, points"] == "+2.0"
    assert row["Rank"] == "–", "a row alone is not ranked, and never among rows that leave test alone"
    assert table(page, "#### Adapting at test, Natural (STAND-IN")[name]["CIFAR-100"] == "55.0 [48.1, 61.7]"
    assert name in table(page, "#### Memory and parameters (STAND-IN"), "labelled where it stands among others"
    assert "never beside rows that leave test alone" in page


def test_a_picture_with_a_pareto_line_has_no_row_that_adapts(out: Path) -> None:
    for name in ("saved", "params"):
        text = (out / f"site/demo-standin-{name}.svg").read_text()
        assert "lora" in text and "tent" not in text


# Our reading.

def test_a_row_of_our_reading_carries_the_mark_in_every_form_and_the_legend_explains_it(out: Path) -> None:
    page = (out / "LEADERBOARD.md").read_text()
    for heading in (APART, "#### Memory and parameters (STAND-IN", "#### Throughput (INFORMAL) (STAND-IN"):
        part = page[page.index(heading):].split("\n#### ")[0]
        assert "`lora+tent` ◊" in part and "◊: our reading" in part
    assert "- lora+tent: our reading: one" in page
    rows = list(csv.DictReader(io.StringIO((out / "site/demo-standin-memory.csv").read_text())))
    marks = {r["Method"]: r["Method.mark"] for r in rows}
    assert marks["lora+tent"] == "ours adapts" and marks["lora"] == ""
    assert r"lora+tent $\diamond$ (adapts at test: online)" in (out / "site/demo-standin-memory.tex").read_text()
    assert "<code>lora+tent</code> ◊ (adapts at test: online)" in (out / "site/demo.html").read_text()


# Few shots: two data sets, 1 and 4 images per class, two lists each.

def test_few_shots_become_a_mean_by_shots_and_a_table_per_data_set(tmp_path: Path) -> None:
    columns = tuple(Column(f"{f}_{k}shot_s{s}", f"{f} {k} {s}", "fewshot", True, 10, family=f, shots=k)
                    for f in ("cars", "pets") for k in (1, 4) for s in (0, 1))
    share = {"cars": 0.2, "pets": 0.4}
    specs = [fakes.spec(c.name, "linear") for c in columns]
    for spec, c in zip(specs, columns, strict=True):
        fakes.store(tmp_path / "runs", fakes.record(spec, share[c.family] + 0.1 * (c.shots or 0) + 0.02
                                                    * c.name.endswith("s1")))
    suite = fakes.suite(specs, columns, ["linear"], kind="fewshot", groups={"fewshot": "Few-shot"})
    page = (made(tmp_path, suite) / "LEADERBOARD.md").read_text()
    row = table(page, "#### Accuracy by images per class, mean over data sets (STAND-IN")["linear"]
    assert (row["1-shot"][:4], row["4-shot"][:4]) == ("41.0", "71.0")  # (20 + 40) / 2 + 1 for the lists, + 10 and + 40
    row = table(page, "#### Accuracy by images per class, pets (STAND-IN")["linear"]
    assert (row["1-shot"][:4], row["4-shot"][:4]) == ("51.0", "81.0")
    assert "Accuracy against images per class" in (tmp_path / "out/site/demo.html").read_text()


# Shift: one run, the data set it trained on and further test sets.

def test_shift_shows_the_own_split_each_further_one_and_their_means(tmp_path: Path) -> None:
    columns = (Column("imagenet1k", "ImageNet", "id", True, 10),
               Column("imagenet1k:v2", "V2", "ood", True, 10, "imagenet1k", "test:imagenet_v2"),
               Column("imagenet1k:a@", "A (its 200 classes)", "ood", True, 10, "imagenet1k",
                      "test:imagenet_a@imagenet_a"),
               Column("imagenet1k:a", "A (all 1,000 outputs)", "ood_all", True, 10, "imagenet1k", "test:imagenet_a"))
    spec = fakes.spec("imagenet1k", "linear", also_test=("imagenet_v2", "imagenet_a"))
    record = fakes.record(spec, 0.8)
    further = {"imagenet_v2": 0.6, "imagenet_a@imagenet_a": 0.3, "imagenet_a": 0.1}
    fakes.store(tmp_path / "runs", replace(record, metrics=record.metrics | {
        f"test:{name}.{k}": v for name, top1 in further.items() for k, v in (("top1", top1), ("n", 100.0))}))
    groups = {"id": "In distribution", "ood": "Out of distribution", "ood_all": "The same, among all classes"}
    suite = fakes.suite([spec], columns, ["linear"], kind="shift", groups=groups)
    page = (made(tmp_path, suite) / "LEADERBOARD.md").read_text()
    row = table(page, "#### Accuracy under shift, trained on ImageNet (STAND-IN")["linear"]
    assert [v[:4] for v in row.values()] == ["80.0", "60.0", "30.0", "45.0", "56.7"]
    assert list(row) == ["ImageNet (in distribution)", "V2", "A (its 200 classes)", "Mean of 2 shifted",
                         "Mean of all 3"]
    assert table(page, "#### Accuracy, The same, among all classes (STAND-IN")["linear"][
        "A (all 1,000 outputs)"].startswith("10.0")
    assert table(page, PLAIN)["linear"]["Mean of 3"].startswith("56.7"), "images scored twice count once"


# What runs say of themselves.

def test_probes_and_reports_of_parts_are_shown_where_they_are(tmp_path: Path) -> None:
    column = Column("svhn", "SVHN", "natural", True, 10)
    spec = fakes.spec("svhn", "lora")
    history = tuple({"epoch": float(e), "train.loss": 2.0 / e, "probe.pace.fp_dist": 0.1 * e} for e in (1, 2, 3))
    told = {f"report.wise.alpha_{a:.2f}": v for a, v in ((0.0, 0.5), (0.5, 0.7), (1.0, 0.6))}
    told["report.tpgm.rho"] = 0.25
    fakes.store(tmp_path / "runs", fakes.record(spec, 0.5, history=history, diagnostics=told))
    out = made(tmp_path, fakes.suite([spec], (column,), ["lora"]))
    page = (out / "LEADERBOARD.md").read_text().replace("\\", "")
    part = page[page.index("#### What parts report after training"):]
    assert "| `lora`   | tpgm.rho   |" in part and "0.250" in part
    assert "0.500 at 0; best 0.700 at 0.5; 0.600 at 1" in part
    html = (out / "site/demo.html").read_text()
    assert "Along training: pace.fp_dist" in html and "wise.alpha as reported after training" in html
    assert "pace.fp_dist 0.1 after epoch 1, 0.3 after epoch 3" in html
