"""Fixed records in, fixed tables out, cell by cell."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli
from results.suites import save_suite
from tests.reports import fakes
from tests.reports.conftest import COLUMNS, Zoo


def build(zoo: Zoo, out: Path, *more: str) -> int:
    return cli.main(["build", "--records", str(zoo.records), "--suites", str(zoo.suites), "--out", str(out), *more])


@pytest.fixture(scope="module")
def out(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert build(zoo, folder) == 0
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return (out / "LEADERBOARD.md").read_text()


def table(page: str, heading: str) -> dict[str, dict[str, str]]:
    """The markdown table under a heading: method -> heading -> text."""
    part = page[page.index(heading):]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    end = next((i for i, line in enumerate(part.splitlines()) if i > 2 and line.startswith("#")), None)
    if end is not None:
        lines = [line for line in part.splitlines()[:end] if line.startswith("|")]
    split = [[re.sub(r"\\(.)", r"\1", c.strip()) for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    header, body = split[0], split[2:]
    return {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in body}


NATURAL, SUMMARY = "#### Accuracy, Natural (STAND-IN", "#### Accuracy (STAND-IN"


@pytest.mark.parametrize(("method", "text"), [
    ("linear", "50.0 [43.1, 56.9]"),
    ("lora", "61.0 ± 1.0 (3)"),
    ("missing", "–"),
    ("failed", "failed †"),
    ("oom", "OOM †"),
    ("diverged", "diverged †"),
    ("timeout", "timeout †"),
    ("preempted", "preempted †"),
    ("cancelled", "cancelled †"),
    ("stale", "55.0 [48.1, 61.7] §"),
    ("partial", "55.0 ± 0.0 (2 of 3)"),
    ("chance", "17.0 [12.4, 22.8] °"),
    ("dirty", "55.0 [48.1, 61.7] *"),
    ("refused", "n/a"),
    ("wrong", "refused †"),
    ("peek", "refused †"),
    ("empty", "no score †"),
])
def test_a_cell_of_each_kind_reads_as_promised(page: str, method: str, text: str) -> None:
    row = "stale` §" if method == "stale" else method  # marked by its name, too
    assert table(page, NATURAL)[row]["CIFAR-100"] == text


def test_the_legend_explains_every_mark_that_is_shown(page: str) -> None:
    part = page[page.index(NATURAL):]
    legend = re.sub(r"\\(.)", r"\1", next(line for line in part.splitlines() if line.startswith("Legend:")))
    for mark in ("– :", "failed †:", "OOM †:", "diverged †:", "timeout †:", "preempted †:", "cancelled †:", "§:", "°:",
                 "*:", "n/a:", "refused †:", "no score †:", "(k of m):"):
        assert mark in legend


def test_a_failure_s_reason_stands_in_the_notes(page: str) -> None:
    for text in ("failed, failed on CIFAR-100: train at step 7: it went failed",
                 "refused, refused on CIFAR-100: it needs a convolution",
                 "wrong, wrong on CIFAR-100: the record is of real data",
                 "peek, wrong on CIFAR-100, EuroSAT, DMLab: a record of phase 'peek' is no final result",
                 "lora+tent: our reading: one"):
        assert f"- {text}" in page


def test_only_complete_rows_have_a_mean_and_the_others_show_coverage(page: str) -> None:
    rows = table(page, SUMMARY)
    assert rows["linear"]["Mean of 3"] == "50.0 [46.0, 54.0]"
    assert rows["lora"]["Mean of 3"] == "61.0 ± 1.0 (3) [57.6, 64.3]"
    for method in ("missing", "failed", "partial", "refused", "empty"):
        assert rows[method]["Mean of 3"] == "2/3"
        assert rows[method]["Done"] == "2/3"
        assert rows[method]["Rank"] == "–"
    assert rows["peek"]["Mean of 3"] == "0/3"


def test_both_vtab_means_equal_a_hand_computation(tmp_path: Path) -> None:
    groups = ["natural"] * 7 + ["specialized"] * 4 + ["structured"] * 8
    columns = tuple(replace(COLUMNS[0], name=f"d{i}", title=f"D{i}", group=g) for i, g in enumerate(groups))
    shares = [0.5 + 0.02 * i for i in range(19)]
    specs = [fakes.spec(c.name, "linear") for c in columns]
    for run, share in zip(specs, shares, strict=True):
        fakes.store(tmp_path / "runs", fakes.record(run, share))
    save_suite(fakes.suite(specs, columns, ["linear"]), tmp_path / "suites")
    assert build(Zoo(tmp_path, fakes.suite(specs, columns, ["linear"])), tmp_path / "out") == 0
    row = table((tmp_path / "out/LEADERBOARD.md").read_text(), SUMMARY)["linear"]
    # 0.50 .. 0.86 by 0.02: plain mean 0.68; group means 0.56, 0.67, 0.79
    assert row["Mean of 19"].startswith("68.0 [") and "VTAB, 19 tasks" not in row
    assert row["VTAB, 3 groups"].startswith("67.3 [")
    assert (row["Natural (7)"][:4], row["Specialized (4)"][:4], row["Structured (8)"][:4]) == ("56.0", "67.0", "79.0")


def test_standins_and_real_data_never_share_a_table(page: str) -> None:
    standin, real = page.split("### Real data: Digits")
    assert "Digits" not in "".join(line for line in standin.splitlines() if line.startswith("|"))
    for title in ("CIFAR-100", "EuroSAT", "DMLab"):
        assert title not in "".join(line for line in real.splitlines() if line.startswith("|"))
    headings = [line for line in standin.splitlines() if line.startswith("#### ")]
    assert headings and all("STAND-IN DATA" in line for line in headings)
    assert "says nothing about the real data sets" in standin


def test_the_comparison_with_linear_is_paired_and_says_where_it_does_not_help(page: str) -> None:
    rows = table(page, SUMMARY)
    assert rows["linear"]["Against linear"] == "(reference)"
    assert re.fullmatch(r"\d / \d / \d: \+11\.0 \[.*\]",
                        rows["lora"]["Against linear"])
    assert rows["chance"]["Against linear"].startswith("0 / 3 / 0: −")
    assert rows["chance"]["At chance"] == "3 of 3"


def test_a_stale_or_dirty_cell_marks_the_means_it_is_in(page: str) -> None:
    rows = table(page, SUMMARY)
    assert rows["stale` §"]["Mean of 3"].endswith("§")
    assert rows["dirty"]["Mean of 3"].endswith("*")


def test_memory_comes_first_by_image_and_parameters_apart(page: str) -> None:
    row = table(page, "#### Memory and parameters (STAND-IN")["linear"]
    assert list(row)[:2] == ["Kept for backward per image, KiB", "Kept for backward, MiB"]
    assert row["Kept for backward per image, KiB"] == "586"
    assert row["Trained: adapter"] == "6,000" and row["Trained: head"] == "490"
    assert "Peak allocated" not in " ".join(row)  # never measured on a CPU, never 0


def test_throughput_of_logs_is_called_informal(page: str) -> None:
    assert "#### Throughput (INFORMAL) (STAND-IN" in page
    assert table(page, "#### Throughput (INFORMAL) (STAND-IN")["lora"]["Training / linear"] == "1.50×"


def test_building_again_leaves_every_byte_and_every_time_stamp(zoo: Zoo, out: Path) -> None:
    def state() -> dict[Path, tuple[str, int]]:
        return {p: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
                for p in out.rglob("*") if p.is_file()}

    before = state()
    assert build(zoo, out, "--no-index") == 0
    after = state()
    assert before == after and len(before) > 10


def test_another_process_writes_the_same_bytes(zoo: Zoo, out: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "reports", "build", "--records", str(zoo.records), "--suites",
                    str(zoo.suites), "--out", str(tmp_path / "b")], check=True, capture_output=True,
                   cwd=Path(cli.__file__).parents[1], env={"PYTHONHASHSEED": "77", "PATH": "/usr/bin:/bin"})
    one = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    two = {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert one == two


def test_every_file_carries_the_hash_of_its_records(out: Path) -> None:
    found = re.search(r"Records `([0-9a-f]{16})`", (out / "LEADERBOARD.md").read_text())
    assert found
    for path in (out / "site").iterdir():
        assert found[1] in path.read_text(), path.name


def test_csv_has_a_column_per_number(out: Path) -> None:
    text = (out / "site/demo-standin-accuracy-natural.csv").read_text()
    rows = {r["Method"]: r for r in csv.DictReader(io.StringIO(text))}
    lora = rows["lora"]
    assert (lora["CIFAR-100"], lora["CIFAR-100.n"]) == ("61", "3")
    assert float(lora["CIFAR-100.std"]) == pytest.approx(1.0)
    assert float(lora["CIFAR-100.low"]) < 61 < float(lora["CIFAR-100.high"])
    assert rows["oom"]["CIFAR-100"] == "" and rows["oom"]["CIFAR-100.mark"] == "oom"


def test_latex_is_booktabs_and_escapes(out: Path) -> None:
    text = (out / "site/demo-standin-accuracy-natural.tex").read_text()
    assert all(word in text for word in (r"\toprule", r"\midrule", r"\bottomrule", r"61.0 $\pm$ 1.0 (3)", r"$\dagger$"))
    assert text.isascii()


def test_an_unreadable_record_is_named_and_never_dropped_in_silence(zoo: Zoo, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = Zoo(tmp_path / "zoo", zoo.suite)
    shutil.copytree(zoo.root, copy.root)
    victim = sorted(copy.records.glob("eurosat/lora-*.json"))[0]
    victim.write_text(victim.read_text()[:300])
    assert build(copy, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"eurosat/{victim.name}: not valid JSON" in said and not (tmp_path / "out").exists()
    assert "move it away and `python -m bench run` makes the run again, or leave it out with --keep-going" in said
    assert build(copy, tmp_path / "out", "--keep-going") == 1
    assert f"unreadable: eurosat/{victim.name}" in capsys.readouterr().out
    page = (tmp_path / "out/LEADERBOARD.md").read_text()
    assert "1 record could not be read and is missing" in page and "(2 of 3)" in page


def test_a_suite_with_an_unreadable_record_is_named_and_the_others_are_built(
        zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = Zoo(tmp_path / "zoo", zoo.suite)
    shutil.copytree(zoo.root, copy.root)
    victim = sorted(copy.records.glob("eurosat/lora-*.json"))[0]
    run_id = victim.stem[-12:]
    other = replace(zoo.suite, name="other", title="Other", entries=tuple(
        e for e in zoo.suite.entries if e.run_id != run_id))
    save_suite(other, copy.suites)
    victim.write_text(victim.read_text()[:300])
    (copy.records / "eurosat" / "stray.json").write_text("{}")  # of no suite: it is named, and no suite waits for it
    assert build(copy, tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert f"unreadable: eurosat/{victim.name}" in said and "unreadable: eurosat/stray.json" in said
    page = (tmp_path / "out/LEADERBOARD.md").read_text()
    assert "2 records could not be read" in page and "**Not built:** eurosat/" in page
    assert (tmp_path / "out/site/other.html").exists() and not (tmp_path / "out/site/demo.html").exists()
    assert "Suite `other`: " in page and "Suite `demo`: " not in page


@pytest.mark.parametrize(("old", "new"), [('"test.top1": 0.', '"test.top1": 54.'),
                                          ('"test.n": 200.0', '"test.n": 0.0')])
def test_a_record_of_impossible_numbers_is_named_and_the_other_suites_are_built(
        old: str, new: str, zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = Zoo(tmp_path / "zoo", zoo.suite)
    shutil.copytree(zoo.root, copy.root)
    victim = sorted(copy.records.glob("eurosat/lora-*.json"))[0]
    save_suite(replace(zoo.suite, name="other", entries=tuple(e for e in zoo.suite.entries
                                                              if e.run_id != victim.stem[-12:])), copy.suites)
    text = victim.read_text()
    assert text.count(old) == 1
    victim.write_text(text.replace(old, new))
    assert build(copy, tmp_path / "out") == 1
    assert f"unreadable: eurosat/{victim.name}: field" in capsys.readouterr().out
    assert (tmp_path / "out/site/other.html").exists() and not (tmp_path / "out/site/demo.html").exists()


def test_an_unknown_suite_is_answered_with_the_near_name(zoo: Zoo, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert build(zoo, tmp_path, "--suite", "demmo") == 2
    assert "unknown suite 'demmo'; did you mean 'demo'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_damaged_predictions_are_named_and_the_rest_goes_on(zoo: Zoo, tmp_path: Path) -> None:
    import shutil

    copy = Zoo(tmp_path / "zoo", zoo.suite)
    shutil.copytree(zoo.root, copy.root)
    victim = sorted(copy.records.glob("eurosat/lora-*.npz"))[0]
    victim.write_bytes(b"PK\x03\x04 no archive")
    assert build(copy, tmp_path / "out") == 0
    page = (tmp_path / "out/LEADERBOARD.md").read_text().replace("\\", "")
    assert f"predictions: eurosat/{victim.name}: is not the file that was stored" in page
    assert table((tmp_path / "out/LEADERBOARD.md").read_text(), SUMMARY)["lora"]["Against linear"].endswith("]")
    counts = table((tmp_path / "out/LEADERBOARD.md").read_text(), SUMMARY)["lora"]["Against linear"].split(":")[0]
    assert sum(map(int, counts.split(" / "))) == 2


def test_reports_need_no_torch() -> None:
    """Walked, as a part of scipy looks for torch in sys.modules by itself."""
    root = Path(cli.__file__).parents[1]
    parts = "|".join(["torch", "timm", "torchvision", "bench", "methods", "datasets"])
    for path in [*(root / "reports").glob("*.py"), *(root / "results").glob("*.py")]:
        assert not re.search(rf"^\s*(from|import) ({parts})\b", path.read_text(), re.M), path.name
    code = "import sys, reports.cli, reports.leaderboard, reports.pictures; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
