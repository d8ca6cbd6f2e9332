"""One range of whole numbers at every door: what could not be read back is refused where it is typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import cli
from bench.planning import settings
from bench.planning.config import config as read_config
from bench.planning.profile import load
from bench.planning.request import UsageError
from bench.planning.standing import fold, unfold
from methods import catalog
from results import schema
from results.suites import Column, Entry, Row, SuiteView, suite_from_json, suite_to_json
from tests.reports.fakes import record, spec

LAST = 9_007_199_254_740_991  # a double, and so every table, holds all whole numbers up to here
DEMO = ["plan", "--suite", "demo", "--datasets", "digits", "--methods", "lora"]
TOO_LARGE = str(LAST + 1)
DOORS = [
    ["--seeds", TOO_LARGE], ["--seeds", "9223372036854775808"], ["--seeds", "9" * 5000], ["--epochs", TOO_LARGE],
    ["--batch-size", TOO_LARGE], ["--jobs", TOO_LARGE], ["--set", f"epochs={TOO_LARGE}"], ["--set", "threads=1e300"],
    ["--set", f"warmup_epochs={10**400}"], ["--set", f"lr={10**400}"], ["--set", f"lora.rank={TOO_LARGE}"],
    ["--set", f"lora.alpha={10**400}"], ["--set", f"eval_batch_size={'9' * 400}"],
    ["--methods", f"lora(rank={'9' * 99})"],
]


@pytest.mark.parametrize("words", DOORS, ids=[" ".join(w)[:40] for w in DOORS])
def test_a_number_that_nothing_reads_back_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main([*DEMO, *words])
    except SystemExit as error:
        status = int(str(error.code))
    err = capsys.readouterr().err
    assert status == 2 and err.startswith("regatta: ") and len(err.splitlines()) == 1 and len(err) < 400
    assert str(LAST) in err or "not a number of more than 40 digits" in err or "whole number, not" in err


@pytest.mark.parametrize("verb", [["tune", "--budget"], ["tune", "--budget", "1", "--folds"], ["perf", "--turns"],
                                  ["tune", "--budget", "1", "--sampler-seed"], ["run", "--checkpoint-epochs"],
                                  ["submit", "--cpus"], ["submit", "--pack"], ["perf", "--batch-size"]])
def test_every_other_number_of_the_command_line_has_the_same_range(verb: list[str],
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*verb, TOO_LARGE])
    assert left.value.code == 2 and str(LAST) in capsys.readouterr().err


def test_files_have_the_range_too(tmp_path: Path) -> None:
    config, cluster = tmp_path / "c.yaml", tmp_path / "cluster.yaml"
    config.write_text(f"seeds: [0, {TOO_LARGE}]\nepochs: 3\n")
    with pytest.raises(UsageError, match=f"seeds are whole numbers of at most {LAST}"):
        read_config(config)
    for number in (TOO_LARGE, ".inf", ".nan"):
        cluster.write_text(f"profiles:\n  gpu:\n    cpus: {number}\n")
        with pytest.raises(UsageError, match="cpus must be a whole number"):
            load("gpu", cluster)


def test_the_last_number_is_accepted_stored_read_and_shown() -> None:
    assert schema.WHOLE == catalog.WHOLE == settings.whole(str(LAST)) == LAST
    stored = record(spec(seed=LAST))
    assert schema.from_json(schema.to_json(stored)) == stored
    entry = Entry("0" * 12, "food101_4shot_s2", "lora", "b", LAST)
    column = Column("food101_4shot_s2", "Food", "fewshot", False, shots=4)
    view = fold(SuiteView("x", "x", "", "", (column,), {"fewshot": "Few"}, (Row("lora", "b"),), (entry,)))
    again = suite_from_json(suite_to_json(view))
    assert [unfold(e).seed for e in again.entries] == [LAST]


def test_a_record_that_could_not_be_read_back_is_not_written() -> None:
    good = record(spec(seed=1))
    for broken in (replace(good, spec=replace(good.spec, seed=2**63)), replace(good, passed={"set.x": 2.0, "y": []})):  # type: ignore[dict-item]
        with pytest.raises(ValueError):
            schema.to_json(broken)
