"""Numbers printed in papers: every misprint found and named, both VTAB means by hand, a ledger beside our rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli, ledger
from reports.fields import points
from reports.table import Field
from results.published import VTAB, Finding, convention, findings, load_published, means, plain
from results.schema import RecordError
from results.suites import Column, save_suite
from tests.reports import fakes
from tests.reports.test_leaderboard import table

PAPERS = load_published()
FOUND = findings(PAPERS)


def find(file: str, method: str, kind: str) -> list[Finding]:
    return [f for f in FOUND if (f.table.file, f.method, f.kind) == (file, method, kind)]


@pytest.mark.parametrize(("file", "method", "kind", "words"), [
    ("noah.json", "Full", "mean", "oxford_flowers102 is 87.2 here, and only 97.2"),
    ("noah.json", "Full", "cell", "oxford_flowers102 is 87.2 here and 97.2 in the same row"),
    ("noah.json", "LoRA", "mean", "mean is printed 74.5, but its cells give 74.60 (group3)"),
    ("convpass.json", "LoRA", "group", "structured is printed 60.5, but its cells give 59.7"),
    ("pace.json", "NOAH", "mean", "mean is printed 74.2, but its cells give 75.48 (group3) or 73.25 (mean19)"),
    ("pace.json", "RepAdapter", "mean", "mean is printed 76.1, but its cells give 75.69"),
    ("pace.json", "RepAdapter", "copy", "has the same 19 cells as the row 'SSF'"),
    ("pace.json", "Full", "mean", "mean is printed 85.9, but its cells give 88.54 (mean of 5)"),
    ("pace.json", "Full", "cell", "oxford_flowers102 is 97.3 here and 97.2"),
    ("pace.json", "LoRA_mul+VPT_add", "mean", "mean@8 is printed 73.2, but its cells give 73.32"),
    ("pace.json", "VPT", "mean", "mean is printed 34.7, but its cells give 34.92"),
    ("vpetl_bench.json", "RepAdapter", "ppt", "PPT is printed 0.72, its mean and parameters give 0.731"),
    ("hydra.json", "KAdaptation", "mean", "mean is printed 68.92, but its cells give 68.80"),
])
def test_a_known_misprint_is_found_and_named(file: str, method: str, kind: str, words: str) -> None:
    assert any(words in f.text for f in find(file, method, kind))


def test_every_finding_in_the_repository_s_files_is_explained_by_a_note() -> None:
    assert len(FOUND) == 16
    assert [f for f in FOUND if not f.known] == []


def test_the_conventions_of_the_vtab_tables_are_those_their_papers_use() -> None:
    used = {t.file: convention(t) for t in PAPERS if t.benchmark == "vtab1k"}
    assert used == {"consolidator.json": "group3", "convpass.json": "group3", "hydra.json": "group3",
                    "noah.json": "group3", "pace.json": "group3", "vpetl_bench.json": "mean19"}


def test_both_means_of_a_printed_row_equal_a_hand_computation() -> None:
    full = next(t for t in PAPERS if t.file == "consolidator.json").rows[0]
    natural, special, structured = 531.2 / 7, 333.5 / 4, 381.1 / 8  # sums of the printed cells
    found = means(next(t for t in PAPERS if t.file == "consolidator.json"), full)
    assert found["group3"] == pytest.approx((natural + special + structured) / 3)
    assert found["mean19"] == pytest.approx((531.2 + 333.5 + 381.1) / 19)
    assert round(found["group3"], 2) == 68.97 and round(found["mean19"], 2) == 65.57


def paper(tmp_path: Path, **row: object) -> Path:
    cells = {c: 50.0 for names in VTAB.values() for c in names}
    body = {"paper": "New: work", "arxiv": "1", "year": 2030, "venue": "x", "tables": [{
        "name": "T1", "benchmark": "vtab1k", "backbone": "ViT-B/16 (ImageNet-21k supervised)", "columns": list(cells),
        "mean_convention": "group3", "source": "s", "verified": "yes", "anything": ["else"],
        "rows": [{"method": "LoRA", "params_m": 0.3, "values": cells, "printed": {"mean": 50.0}, "extra": 1, **row}]}]}
    (tmp_path / "new.json").write_text(json.dumps(body))
    return tmp_path


def test_a_further_file_is_read_and_a_mean_that_does_not_follow_is_reported(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["published", "--folder", str(paper(tmp_path))]) == 0
    assert cli.main(["published", "--folder", str(paper(tmp_path, printed={"mean": 50.2}))]) == 1
    assert "LoRA: mean is printed 50.2, but its cells give 50.00 (group3) or 50.00 (mean19)  (NEW)" \
        in capsys.readouterr().out
    assert cli.main(["published", "--folder", str(paper(tmp_path, printed={"mean": 50.2}, note="a typo"))]) == 0


@pytest.mark.parametrize(("row", "message"), [
    ({"values": {"cifar100": "50"}}, r"new.json: tables\[0\].rows\[0\].values: field 'cifar100' has the value '50'"),
    ({"values": {"mars": 1.0}}, "'mars', which is no column"),
    ({"method": None}, "field 'method' must be a str"),
])
def test_a_file_of_another_shape_is_named_with_its_field(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        load_published(paper(tmp_path, **row))


def test_names_of_one_method_are_one_name() -> None:
    assert len({plain(n) for n in ("Full", "Full tuning", "Full fine-tuning", "full", "Full FT")}) == 1
    assert plain("LoRA_mul+VPT_add + PACE") == plain("lora_mul_vpt_add+pace")
    assert plain("VPT-Deep") == plain("vpt") != plain("VPT-Shallow")
    assert ledger.our_name("cub200") == "cub" and ledger.our_name("food101@4") == "food101@4"


def test_real_results_stand_beside_the_papers_and_standins_never_do(tmp_path: Path) -> None:
    model = "vit_base_patch16_224.augreg_in21k"
    names = [(g, c) for g, cs in VTAB.items() for c in cs]
    for standin in (False, True):
        columns = tuple(Column(c, c.upper(), g, standin, 10) for g, c in names)
        specs = [fakes.spec(c.name, "lora", model=model, data=("standin:" if standin else "real:") + c.name)
                 for c in columns]
        for spec in specs:
            fakes.store(tmp_path / f"runs{standin}", fakes.record(spec, 0.69, n=10000))
        suite = fakes.suite(specs, columns, ["lora"])
        suite = replace(suite, rows=tuple(replace(r, backbone=model) for r in suite.rows),
                        entries=tuple(replace(e, backbone=model) for e in suite.entries))
        save_suite(suite, tmp_path / f"suites{standin}")
        assert cli.main(["build", "--records", str(tmp_path / f"runs{standin}"), "--suites",
                         str(tmp_path / f"suites{standin}"), "--out", str(tmp_path / f"out{standin}")]) == 0
    assert "Printed in papers" not in (tmp_path / "outTrue/LEADERBOARD.md").read_text()
    page = (tmp_path / "outFalse/LEADERBOARD.md").read_text()
    assert "#### Printed in papers (not run by Regatta)" in page
    part = page[page.index("#### Paper and ours"):]
    rows = [[c.strip().replace("\\", "") for c in line.split("|")[1:-1]] for line in part.splitlines()
            if line.startswith("| `lora`")]
    cifar = next(r for r in rows if r[1] == "CIFAR100" and "Neural Prompt Search" in r[6])
    assert cifar[2:6] == ["67.1", "69.0 [68.1, 69.9]", "+1.9", "higher"]
    assert "Neural Prompt Search 2022, Table 1 ‡" in cifar[6]  # a mean that does not follow
    assert cifar[6].count(";") > 2  # the copies stand behind, and not in lines of their own
    lines = [(r[1], r[2]) for r in rows]
    assert len(lines) == len(set(lines))
    assert {title for title, _ in lines} >= {"VTAB, mean of 19 tasks", "VTAB, mean of 3 groups"}
    grouped = next(r for r in rows if r[1] == "Mean, natural")
    assert grouped[2:3] == ["79.5"] and grouped[5] == "lower"
    assert table(page, "#### Accuracy (real data)")["lora"]["Mean of 19"].startswith("69.0")


def test_inside_is_said_only_of_an_interval_narrow_enough_to_mean_it() -> None:
    def said(low: float, high: float, printed: float) -> str:
        return ledger.verdict(Field("", (low + high) / 2, low, high), printed)

    assert ledger.MARGIN == 1.0
    assert [said(69.2, 69.9, printed) for printed in (69.5, 69.0, 70.1)] == ["inside", "higher", "lower"]
    assert said(60.0, 80.0, 70.0) == "open" and said(69.4, 70.6, 69.5) == "open"
    assert ledger.verdict(Field("", 70.0), 70.0) == "open"


def test_numbers_keep_a_decimal_and_no_minus_before_a_zero() -> None:
    assert [ledger.number(v) for v in (85.0, 85, 68.97, -0.0, 100.0, 17061)] == \
        ["85.0", "85.0", "68.97", "0.0", "100.0", "17061.0"]
    assert points(-0.0001) == "0.0" and points(-0.001) == "−0.1"


def test_what_a_file_says_against_its_own_numbers_stands_beside_them(tmp_path: Path) -> None:
    folder = paper(tmp_path, kind="copied from another paper", note="another schedule")
    body = json.loads((folder / "new.json").read_text())
    body["tables"][0] |= {"kind": "best epoch on the test set", "notes": "300 epochs"}
    (folder / "new.json").write_text(json.dumps(body))
    (read,) = load_published(folder)
    doubts = ledger.Doubts([read])
    assert doubts.mark(read, read.rows[0]) == "§"
    assert doubts.told([read]) == ("§ New 2030, T1: the file says: best epoch on the test set",)
    assert doubts.words(read, read.rows[0]) == ["§ copied from another paper", "another schedule"]
