"""The same command on a real SLURM: equal records, equal tables, nothing twice, the code of the submission."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .checkout import Checkout, numbers
from .cluster import Cluster

DIGITS = ("--suite", "demo", "--datasets", "digits", "--batch-size", "60", "--epochs", "2")
HOLD = ("--slurm", "hold")


def _accuracy(checkout: Checkout) -> list[str]:
    """Headings and rows of the accuracy tables; seconds and bytes of the others may differ."""
    subprocess.run([sys.executable, "-m", "reports", "build"], cwd=checkout.folder, env=checkout.env, check=True,
                   capture_output=True, timeout=120)
    kept, inside = [], False
    for line in (checkout.folder / "reports" / "LEADERBOARD.md").read_text().splitlines():
        if line.startswith("#"):
            inside = "Accuracy" in line
        if inside and line.startswith(("#", "|")):
            kept.append(line)
    return kept


@pytest.mark.parametrize("cluster", ["accounting"], indirect=True)
def test_records_and_accuracy_tables_equal_those_of_run(checkout: Checkout, sources: Path, cluster: Cluster) -> None:
    what = (*DIGITS, "--methods", "linear", "lora", "--seeds", "0", "1")
    here = Checkout(sources, checkout.folder.with_name("here"), cluster)
    here.bench("run", *what, "--no-report")
    said = checkout.submit(*what, "--pack", "2")
    assert "4 runs in 2 tasks, 1 array" in said
    (job,) = checkout.jobs()
    assert job in said and "bench status --suite demo --watch" in said
    checkout.wait_over()
    theirs, ours = here.records(), checkout.records()
    assert len(ours) == 4 and numbers(list(ours.values())) == numbers(list(theirs.values()))
    for run, record in ours.items():
        mine, other = (store_bytes(c, run) for c in (checkout, here))
        assert mine == other, "the stored predictions differ"
        assert record.provenance.snapshot and record.attempts[-1].job in (f"{job}_0", f"{job}_1")
        assert record.provenance.commit == theirs[run].provenance.commit and not record.provenance.dirty
    table = _accuracy(checkout)
    assert sum(line.startswith("| `l") for line in table) >= 2 and table == _accuracy(here)
    told = checkout.bench("status", *what).stdout
    assert "done          4" in told and "throughput" in told
    assert "nothing to submit" in checkout.submit(*what)


def store_bytes(checkout: Checkout, run: str) -> bytes:
    (path,) = checkout.runs.glob(f"*/*-{run}.npz")
    return path.read_bytes()


def test_what_is_edited_after_submit_reaches_no_queued_run(checkout: Checkout) -> None:
    what = (*DIGITS, "--methods", "linear")
    checkout.submit(*what, *HOLD)
    assert "queued" in checkout.bench("status", *what, "--why").stdout
    source = checkout.folder / "methods" / "adapters" / "linear.py"
    before = source.read_text()
    source.write_text(before + "\nraise RuntimeError('edited')\n")
    (job,) = checkout.jobs()
    checkout.cluster.tell("scontrol", "release", job)
    checkout.wait_over()
    (record,) = checkout.records().values()
    assert record.status == "ok" and not record.provenance.dirty
    source.write_text(before.replace('"""', '"""Edited. ', 1))
    assert "stale         1" in checkout.bench("status", *what).stdout


def test_a_queued_run_is_submitted_once_and_cancelled_ones_can_be_sent_again(checkout: Checkout) -> None:
    what = (*DIGITS, "--methods", "linear", "--seeds", "0", "1", "2")
    checkout.submit(*what, *HOLD, "--pack", "1")
    assert len(checkout.cluster.jobs()) == 3
    assert "nothing to submit" in checkout.submit(*what)
    assert "nothing to submit again; 3 runs queued" in checkout.bench("retry").stdout
    more = checkout.submit(*what[:-3], "2", "3", *HOLD)
    assert "1 run in 1 task" in more, "seed 2 is queued already"
    checkout.bench("cancel", "all")
    checkout.cluster.wait_idle()
    told = checkout.bench("status", *what, "--why", status=1).stdout
    assert told.count("cancelled (job") == 3 and "lost          3  cancelled 3" in told
    assert "nothing to submit again" in checkout.bench("retry").stdout, "what was cancelled was meant"
    assert "again: 4 cancelled" in checkout.bench("retry", "--only", "cancelled", *HOLD).stdout
    assert len(checkout.cluster.jobs()) == 4


def test_more_runs_than_an_array_holds_go_into_several(checkout: Checkout) -> None:
    what = (*DIGITS, "--methods", "linear", "--seeds", *map(str, range(1100)))
    said = checkout.submit(*what, *HOLD, "--pack", "1", "--max-array", "5000")
    assert "1100 runs in 1100 tasks, 2 arrays" in said
    queued = checkout.cluster.tell("squeue", "-h", "-r", "-o", "%i").split()
    assert len(set(queued)) == 1100 and len({q.partition("_")[0] for q in queued}) == 2
    (folder,) = checkout.submissions()
    sizes = [len(a["tasks"]) for a in json.loads((folder / "submission.json").read_text())["arrays"]]
    assert sizes == [1000, 100] or sizes == [1001, 99]
    checkout.bench("cancel", "all")
    checkout.cluster.wait_idle()


def test_a_refusal_of_sbatch_is_told_and_holds_no_run(checkout: Checkout) -> None:
    what = (*DIGITS, "--methods", "linear")
    done = checkout.bench("submit", *what, "--partition", "nowhere", status=2)
    assert "sbatch refused" in done.stderr and "partition" in done.stderr and "Traceback" not in done.stderr
    told = checkout.bench("status", *what, "--why", status=1).stdout
    assert "refused: " in told
    assert "1 run in 1 task" in checkout.submit(*what, *HOLD)


def test_without_slurm_the_way_out_is_named(checkout: Checkout) -> None:
    """On this very machine, with the programs out of reach."""
    what = (*DIGITS, "--methods", "linear")
    nothing = checkout.folder.with_name("bin")
    nothing.mkdir()
    (nothing / "git").symlink_to("/usr/bin/git")
    done = checkout.bench("submit", *what, status=2, env={"PATH": str(nothing)})
    assert "SLURM is not installed" in done.stderr and "--cluster local" in done.stderr
    assert "missing       1" in checkout.bench("status", *what, env={"PATH": str(nothing)}).stdout
