"""How long `status` takes on ten thousand records (`make perf` runs it; the limit is two seconds on two cores).

A process of its own is timed, as a user starts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.planning.request import Request
from bench.planning.resolve import resolve, specs_of
from methods.grammar import parse
from results import schema, store
from tests.reports import fakes

ROOT = Path(__file__).parents[2]
SEEDS = 48  # x 26 data sets x 8 methods of the demo
ASK = f"""
import sys, time
from pathlib import Path
from bench import checkout, cli
checkout.RUNS, checkout.CLAIMS = Path(sys.argv[1]) / "runs", Path(sys.argv[1]) / "claims"
sys.exit(cli.main(["status", "--suite", "demo", "--seeds", *map(str, range({SEEDS}))]))
"""


def write(root: Path) -> int:
    """A record for every run of the demo with that many seeds; one in a thousand failed."""
    request = Request(suite="demo", seeds=tuple(range(SEEDS)))
    body = json.loads(schema.to_json(fakes.record(fakes.spec(), 0.5)))
    planned = specs_of(request, resolve(request))
    sources = {p.text: parse(p.text).source_hash for p in planned}
    for number, one in enumerate(planned):
        body["spec"] = one.spec.written()
        body |= {"run_id": one.spec.id, "cell_id": one.spec.cell_id, "phase": one.spec.phase,
                 "status": "failed" if number % 1000 == 0 else "ok"}
        body["method"] |= {"text": one.text, "source_hash": sources[one.text]}
        path = store.path_of(one.spec, root / "runs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=1) + "\n")
    return len(planned)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("status")
    assert write(root) >= 9_900
    return root


def ask(root: Path) -> str:
    done = subprocess.run([sys.executable, "-c", ASK, str(root)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_status_without_an_index(benchmark: Any, many: Path) -> None:
    def clean() -> None:
        (many / "runs" / ".index").unlink(missing_ok=True)

    text = benchmark.pedantic(ask, (many,), setup=clean, rounds=3)
    assert "failed" in text


def test_status_with_an_index(benchmark: Any, many: Path) -> None:
    ask(many)
    text = benchmark.pedantic(ask, (many,), rounds=5)
    assert " done" in text
