"""How long reports take: `make perf`, or `pytest tests/perf/test_perf_reports.py --benchmark-only -o addopts= -s`.

Limits (../shared/specs/performance.md, product.md section 6), two cores: 100 000 records become all tables in 20 s cold
and 2 s warm, in 400 MB; ranks of 19 x 20 000 items x 60 runs take 2 s.
REGATTA_PERF_RECORDS sets another number of records; they are kept in .cache/perf-records for the next time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import stats
from reports.spread import Answers, spread_of
from tests.perf import records

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("REGATTA_PERF_RECORDS", "100000"))


@pytest.fixture(scope="module")
def bulk() -> Path:
    folder = ROOT / ".cache" / "perf-records" / str(COUNT)
    if not (folder / "suites" / "bulk.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        records.write(folder, COUNT)
    return folder


# What `python -m reports` does, then the peak of its own memory and of its largest child on stderr. The kernel's maxrss
# of a process begins with that of the one that started it, so the peak is read where exec resets it.
MEASURED = """
import re, resource, sys
from reports.cli import main
code = main(sys.argv[1:])
own = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print(own * 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


def build(folder: Path) -> tuple[int, int]:
    """Bytes at the peak of the process that draws, and of the larger of two readers, which end before it draws."""
    done = subprocess.run([sys.executable, "-c", MEASURED, "build", "--records", str(folder / "runs"), "--suites",
                           str(folder / "suites"), "--out", str(folder / "out")], check=True, cwd=ROOT,
                          capture_output=True, text=True)
    own, reader = map(int, done.stderr.split()[-2:])
    return own, reader


def test_all_tables_and_pictures_without_an_index(benchmark: Any, bulk: Path) -> None:
    def clean() -> None:
        (bulk / "runs" / ".index").unlink(missing_ok=True)
        shutil.rmtree(bulk / "out", ignore_errors=True)

    own, reader = benchmark.pedantic(build, (bulk,), setup=clean, rounds=2)
    benchmark.extra_info.update(records=COUNT, peak_bytes=own, reader_bytes=reader)
    assert own < 400e6
    assert benchmark.stats.stats.min < 20


def test_all_tables_and_pictures_with_an_index(benchmark: Any, bulk: Path) -> None:
    benchmark.pedantic(build, (bulk,), setup=lambda: shutil.rmtree(bulk / "out", ignore_errors=True), rounds=3)


def test_the_same_tables_again(benchmark: Any, bulk: Path) -> None:
    build(bulk)
    benchmark.pedantic(build, (bulk,), rounds=3)
    assert benchmark.stats.stats.min < 2


def test_the_ranks(benchmark: Any) -> None:
    """19 data sets of 20 000 items, 20 methods with 3 seeds each: every variance, ranks and letters."""
    rng = np.random.default_rng(0)
    owner = tuple(m for m in range(20) for _ in "abc")
    sets = [Answers(f"set{d}", f"items{d}", rng.random((20_000, 60)) < 0.7, owner) for d in range(19)]

    def whole() -> stats.Ranking:
        return stats.ranking(spread_of(sets, [1 / 19] * 19, 20))

    found = benchmark.pedantic(whole, rounds=3)
    assert len(found.ranks) == 20
    assert benchmark.stats.stats.min < 2
