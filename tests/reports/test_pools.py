"""Pools of entrants: a table ranks inside one of them, unless told; rows, CSV and the page's data say which it is."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli
from results.pools import MEANS, POOLS, told
from results.schema import RecordError
from results.suites import Column, Row, save_suite, suite_from_json, suite_to_json
from tests.reports import fakes
from tests.reports.test_leaderboard import table

SETS = tuple(Column(name, name, "natural", True, 10) for name in ("cifar100", "dtd"))
SKILLS = {"linear": 0.40, "lora": 0.60, "linear+pace": 0.50, "lora+pace": 0.75, "bitfit": 0.55, "full": 0.65,
          "lora+tent": 0.70}
ROWS = (Row("linear", fakes.BACKBONE, "3 learning rates, on val of 5 sets"),  # of a file that names no pool
        Row("lora", fakes.BACKBONE, "3 learning rates, on val of 5 sets"),
        Row("linear+pace", fakes.BACKBONE, "none: the suite's common settings"),
        Row("lora+pace", fakes.BACKBONE, pool="plain"), Row("bitfit", fakes.BACKBONE, pool="tuned per set"),
        Row("full", fakes.BACKBONE, pool="ensembled"), Row("lora+tent", fakes.BACKBONE, pool="plain"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pools")
    specs = [fakes.spec(c.name, method) for method in SKILLS for c in SETS]
    for spec in specs:
        more = {"method": fakes.record(spec).method}
        if spec.method == "lora+tent":
            more["method"] = replace(more["method"], adapts_at_test="online")
        fakes.scored(folder / "runs", spec, SKILLS[spec.method], **more)
    save_suite(fakes.suite(specs, SETS, list(SKILLS), rows=ROWS), folder / "suites")
    return folder


def built(root: Path, *more: str) -> Path:
    out = root / f"out{len(more)}"
    assert cli.main(["build", "--records", str(root / "runs"), "--suites", str(root / "suites"), "--out", str(out),
                     *more]) == 0
    return out


def ranks(out: Path, name: str = "accuracy", column: str = "Rank") -> dict[str, str]:
    lines = csv.DictReader(io.StringIO((out / f"site/demo-standin-{name}.csv").read_text()))
    return {line["Method"]: line[column] for line in lines}


def test_a_table_ranks_inside_a_pool_and_across_pools_when_told(root: Path) -> None:
    apart, told_so = built(root), built(root, "--rank-across-pools")
    # 40 and 60 % are tuned for all sets, 50 and 75 % are plain: each pair has its first and its second
    assert ranks(apart) == {"linear": "2", "lora": "1", "linear+pace": "2", "lora+pace": "1", "bitfit": "",
                            "full": ""}
    assert ranks(apart, "adapting") == {"lora+tent": "–"}
    together = ranks(told_so) | ranks(told_so, "adapting")
    assert all(together.values()) and together["lora+pace"].startswith("1")
    assert together["linear"].endswith("7"), "the worst of all seven"
    for out, words in ((apart, "are among the rows of one pool"), (told_so, "over rows of all pools, as")):
        assert words in (out / "LEADERBOARD.md").read_text()


def test_rows_of_other_pools_are_compared_with_the_reference_row_only_when_told(root: Path) -> None:
    apart, told_so = built(root), built(root, "--rank-across-pools")
    assert {method for method, cell in ranks(apart, column="Against linear").items() if cell} == {"lora"}
    together = ranks(told_so, column="Against linear")
    assert {method for method, cell in together.items() if cell} == together.keys() - {"linear"}
    for out, there in ((apart, True), (told_so, False)):
        text = (out / "LEADERBOARD.md").read_text()
        assert ("linear+pace, lora+pace, bitfit, full: not compared with linear, whose row is of another pool"
                in text) is there
        page = (out / "site" / "demo.html").read_text()
        assert 'data-name="lora on cifar100"' in page and ('data-name="bitfit on cifar100"' in page) is not there


def test_asking_again_without_the_option_builds_again(root: Path) -> None:
    out = root / "twice"
    args = ["build", "--records", str(root / "runs"), "--suites", str(root / "suites"), "--out", str(out)]
    assert cli.main(args) == 0 and cli.main([*args, "--rank-across-pools"]) == 0
    assert ranks(out)["full"]
    assert cli.main(args) == 0 and not ranks(out)["full"]


def test_the_committed_tables_rank_each_pool_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "--reference", "--rank-across-pools"]) == 2
    assert "rank each pool for itself" in capsys.readouterr().err


def test_every_export_says_the_pool(root: Path) -> None:
    out, wanted = built(root), {
        "linear": "tuned for all sets", "lora": "tuned for all sets", "linear+pace": "plain", "lora+pace": "plain",
        "bitfit": "tuned per set", "full": "ensembled", "lora+tent": "adapts at test"}
    shown = {row.strip("`").partition("`")[0]: line["Pool"]
             for heading in ("#### Accuracy (STAND-IN", "#### Methods that adapt at test (STAND-IN")
             for row, line in table((out / "LEADERBOARD.md").read_text(), heading).items()}
    assert shown == wanted
    runs = csv.DictReader(io.StringIO((out / "site/demo-standin-runs.csv").read_text()))
    assert {line["method"]: line["pool"] for line in runs} == wanted
    html = (out / "site/demo.html").read_text()
    facts = json.loads(html.partition('<script type="application/json">')[2].partition("</script>")[0])
    assert {row["row"].partition(" on ")[0]: row["pool"] for row in facts["rows"]} == wanted and not facts["across"]
    assert all(f'name="pool" value="{pool}" checked> {pool}: {MEANS[pool]}' in html for pool in POOLS)
    assert 'name="across" value="yes">' in html
    told_so = (built(root, "--rank-across-pools") / "site/demo.html").read_text()
    assert '"across":true' in told_so and 'name="across" value="yes" checked>' in told_so


def test_a_row_whose_runs_put_several_together_is_an_ensemble_whatever_its_suite_says(tmp_path: Path) -> None:
    specs = [replace(fakes.spec(c.name, "lora"), combined="seeds", ingredients=("1*aaaaaaaaaaaa", "1*bbbbbbbbbbbb"))
             for c in SETS]
    for spec in specs:
        fakes.scored(tmp_path / "runs", spec, 0.6)
    save_suite(fakes.suite(specs, SETS, ["lora"], rows=(Row("lora", fakes.BACKBONE, pool="plain"),)),
               tmp_path / "suites")
    (line,) = table((built(tmp_path) / "LEADERBOARD.md").read_text(), "#### Accuracy (STAND-IN").values()
    assert line["Pool"] == "ensembled"


def test_a_part_is_compared_with_its_adapter_inside_a_pool_alone(root: Path) -> None:
    page = (built(root) / "LEADERBOARD.md").read_text()
    assert "Adapter × added part" not in page, "the adapters were tuned, with the part they were not"
    assert "Adapter × added part" in (built(root, "--rank-across-pools") / "LEADERBOARD.md").read_text()


def test_a_table_of_plain_rows_has_no_column_for_it(root: Path, tmp_path: Path) -> None:
    suite = suite_from_json((root / "suites/demo.json").read_text())
    rows = tuple(replace(row, budget="", pool="plain") for row in suite.rows if row.method != "lora+tent")
    save_suite(replace(suite, rows=rows, entries=tuple(e for e in suite.entries if e.method != "lora+tent")),
               tmp_path / "suites")
    out = tmp_path / "out"
    assert cli.main(["build", "--records", str(root / "runs"), "--suites", str(tmp_path / "suites"), "--out",
                     str(out)]) == 0
    assert "Pool" not in (out / "LEADERBOARD.md").read_text()


@pytest.mark.parametrize(("budget", "note", "pool"), [
    ("", "", "plain"), ("none: each method's published recipe", "", "plain"),
    ("not tuned: one common recipe", "", "plain"), ("3 learning rates, on val of 5 sets", "", "tuned for all sets"),
    ("4 configurations by grid on val; rule best_val", "chosen: lr=0.01, one setting for all data sets, on the "
     "validation images of dtd and digits (85.0 % there)", "tuned for all sets"),
    ("16 configurations allowed, 6 tried, by tpe on val; rule one_se", "chosen for each data set: lr=0.01 on svhn",
     "tuned per set"),
    ("4 configurations by grid on val; rule best_val", "chosen: lr=0.01, on the validation images of svhn (85.0 %)",
     "tuned per set")])
def test_a_file_that_names_no_pool_has_the_one_that_its_words_tell(budget: str, note: str, pool: str) -> None:
    assert told(budget, note) == pool


def test_a_suite_file_holds_a_pool_that_was_named_and_no_other(root: Path) -> None:
    text = (root / "suites/demo.json").read_text()
    suite = suite_from_json(text)
    assert [row.pool for row in suite.rows][:3] == ["", "", ""] and suite_to_json(suite) == text
    assert json.loads(text)["rows"][0].keys() == {"method", "backbone", "budget", "note", "source_hash"}
    with pytest.raises(RecordError, match=r"rows\[3\].pool"):
        suite_from_json(text.replace('"pool": "plain"', '"pool": "best"', 1))
