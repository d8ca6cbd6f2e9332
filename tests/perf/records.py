"""Made-up records in bulk, to time what reads them: `python -m tests.perf.records FOLDER --count 100000`.

Rows x columns x seeds of a suite, without predictions; some runs failed. The same arguments write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from results import schema
from results.strict import short_hash
from results.suites import Column, Entry, Row, SuiteView, save_suite
from tests.reports import fakes

SEEDS = 5
GROUPS = ("natural", "specialized", "structured", "fgvc", "imagenet")


def shape(count: int) -> tuple[int, int]:
    """(rows, columns): a hundred columns, fewer when there are few records."""
    columns = max(5, min(100, count // (SEEDS * 10)))
    return max(1, count // (SEEDS * columns)), columns


def write(root: Path, count: int) -> SuiteView:
    """Write `count` records below <root>/runs and their suite below <root>/suites."""
    rng = random.Random(0)
    rows, columns = shape(count)
    methods = [f"method{i}" if i else "linear" for i in range(rows)]
    names = [f"set{j}" for j in range(columns)]
    base = fakes.record(fakes.spec(), 0.5, history=tuple({"epoch": e + 1.0, "train.loss": 1.0 / (e + 1), "lr": 0.001}
                                                         for e in range(4)))
    body = json.loads(schema.to_json(base))
    entries = []
    for name in names:
        folder = root / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, method in enumerate(methods):
            for seed in range(SEEDS):
                spec = fakes.spec(name, method, seed)
                body["spec"] = spec.written()
                body["run_id"] = short_hash(body["spec"])
                body["cell_id"] = short_hash({k: v for k, v in body["spec"].items() if k != "seed"})
                body["method"] = {**body["method"], "text": method, "source_hash": f"src-{method}"}
                failed = rng.random() < 0.001
                body["status"] = "failed" if failed else "ok"
                body["metrics"] = {} if failed else {"test.top1": round(rng.betavariate(5 + i % 7, 5), 4),
                                                     "test.n": 200.0, "test.majority": 0.1,
                                                     "test.nll": rng.random(), "test.ece": rng.random()}
                body["memory"]["saved_bytes_per_image"] = 1000.0 * (i + 1)
                body["params"]["trained"] = 1000 * (rows - i)
                path = folder / f"{method}-{fakes.BACKBONE}-s{seed}-{body['run_id']}.json"
                path.write_text(json.dumps(body, indent=1) + "\n")
                entries.append(Entry(body["run_id"], name, method, fakes.BACKBONE, seed))
    suite = SuiteView("bulk", "Bulk", "Made up.", "none", tuple(
        Column(n, n.title(), GROUPS[j * len(GROUPS) // columns], True, 10) for j, n in enumerate(names)),
        {g: g.title() for g in GROUPS}, tuple(Row(m, fakes.BACKBONE, "", "", f"src-{m}") for m in methods),
        tuple(entries))
    save_suite(suite, root / "suites")
    return suite


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write made-up records.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    args = parser.parse_args()
    print(len(write(args.folder, args.count).entries), "records")
