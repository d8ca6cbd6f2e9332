"""A pack made in one checkout is checked, scored again and counted in another; its tables are the same but marked."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from .copied import copy_to, python

WHAT = ("--suite", "demo", "--datasets", "svhn", "dtd", "--methods", "linear", "lora", "--epochs", "1")
MARKS = ("Received", "Received.mark", "Verdict", "Verdict.mark")


def bench(checkout: Path, *words: str, status: int = 0) -> str:
    done = python(checkout, "bench", *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkouts; the first has made four runs and packed them, the second has the file alone."""
    one, two = (copy_to(tmp_path_factory.mktemp("clones") / name) for name in ("one", "two"))
    bench(one, "run", *WHAT)
    assert "4 runs, 4 of them with weights" in bench(one, "pack", "demo-epochs1", "--out", "mine.zip")
    shutil.copy(one / "mine.zip", two)
    return one, two


def _unmarked(path: Path) -> list[list[str]]:
    lines = list(csv.reader(path.read_text().splitlines()))
    kept = [i for i, head in enumerate(lines[0]) if head not in MARKS]
    return [[line[i] for i in kept] for line in lines]


def test_a_pack_is_checked_counted_and_shown_in_another_checkout(both: tuple[Path, Path]) -> None:
    one, two = both
    assert "has not been checked here" in bench(two, "plan", *WHAT, "--accept", "mine.zip", status=2)
    assert bench(two, "submit-check", "mine.zip", "--device", "cpu").count("2 verified") == 2, "two rows of two runs"
    assert json.loads(bench(two, "plan", *WHAT, "--json"))["counts"]["missing"] == 4, "nothing counts unasked"
    told = bench(two, "plan", *WHAT, "--accept", "mine.zip")
    assert "4 done, 0 missing" in told and "4 of the done runs were not made here: 4 received in pack" in told
    assert "nothing to run; 4 done" in bench(two, "run", *WHAT, "--accept", "all", "--at-least", "verified")
    assert not list((two / "results").glob("runs/*/*.json")), "own runs are own"
    tables = sorted(p.name for p in (one / "reports" / "site").glob("*.csv"))
    assert tables and tables == sorted(p.name for p in (two / "reports" / "site").glob("*.csv"))
    for name in tables:
        assert _unmarked(two / "reports" / "site" / name) == _unmarked(one / "reports" / "site" / name), name
    marked = list(csv.DictReader((two / "reports" / "site" / "demo-epochs1-standin-accuracy.csv").open()))
    assert [(line["Received"], line["Verdict"]) for line in marked] == [("2", "verified")] * 2
    assert "Received" not in (one / "reports" / "site" / "demo-epochs1-standin-accuracy.csv").read_text()
    assert "gave its predictions again" in (two / "reports" / "LEADERBOARD.md").read_text()


def test_a_received_run_is_shown_verified_and_counted_by_status_and_submit(both: tuple[Path, Path]) -> None:
    _, two = both
    run = next(iter(json.loads(next((two / "results" / "received").glob("*/verdicts.json")).read_text())))
    assert f"run {run}: ok, received in pack " in (told := bench(two, "show", run)) and ", verified: " in told
    told = bench(two, "verify", run, "--device", "cpu")
    assert "received in pack " in told and "200 of 200 predictions are the same" in told
    assert "done          0" in bench(two, "status", *WHAT, "--no-scheduler"), "nothing counts unasked"
    told = bench(two, "status", *WHAT, "--no-scheduler", "--accept", "all")
    assert "done          4" in told and "4 of the done runs were not made here: 4 received in pack " in told
    told = bench(two, "submit", *WHAT, "--cluster", "debug", "--accept", "all")
    assert "nothing to submit; 4 done" in told and "4 of the done runs were not made here" in told
    assert "4 runs in 1 task" in bench(two, "submit", *WHAT, "--cluster", "debug", "--dry-run")
    assert not list((two / "results").glob("runs/*/*.json"))


def test_a_refused_run_counts_for_nothing(both: tuple[Path, Path]) -> None:
    _, two = both
    (path,) = (two / "results" / "received").glob("*/verdicts.json")
    found = json.loads(path.read_text())
    first = next(iter(found))
    path.write_text(json.dumps(found | {first: found[first] | {"verdict": "refused"}}))
    assert "3 done, 1 missing" in bench(two, "plan", *WHAT, "--accept", "all")
    path.write_text(json.dumps(found))
