"""What a run costs beside its work: many short runs one after the other in the fork server.

`python -m tests.perf.fixed_cost [--runs N] [--method M]`, some seconds. Target: 0.1 s. The runs are linear probes (one
epoch, a stand-in, the embedded backbone) with one worker, as `python -m bench run` starts them, in a program of its
own. Between the moments at which two records were written lies one run; what its record says of training and
evaluation is taken off. The rest is stated whole and in parts: reading the data and building the model (the record
says how long), and what no record sees: the process, and storing predictions, weights and the record with their fsyncs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from bench import checkout
from bench.perf.timing import median_interval
from bench.planning.plan import make
from bench.planning.request import Request
from datasets.standins import write_all
from tests.perf.claims import Script

DATASET = "svhn"
PROGRAM = "import sys; from tests.perf.fixed_cost import carry_out; carry_out(*sys.argv[1:])"


def carry_out(folder: str, runs: str, method: str) -> None:
    """The runs, one at a time, their records below `folder`."""
    from bench.dispatch.local import Job, run_all
    from bench.dispatch.state import Claims
    from bench.engine.where import Where

    root = Path(folder)
    request = Request(suite="demo", datasets=(DATASET,), methods=(method,), seeds=tuple(range(int(runs))), epochs=1)
    jobs = [Job(p.spec, p.passed, Where(p.data_root, checkout.CACHE, p.weights, checkpoints=root / "checkpoints"))
            for p in make(request, runs=root / "runs").runs]
    run_all(jobs, root / "runs", Claims(root / "claims"), 1, lambda done, label: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21, help="the first starts the server and is not counted")
    parser.add_argument("--method", default="linear")
    script = Script("fixed-cost", "many short runs, one after the other: what each costs beside its work", parser)
    args, found = script.args, script.found
    write_all([DATASET], checkout.STANDINS)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", PROGRAM, folder, str(args.runs), args.method],
                       cwd=checkout.ROOT, check=True)
        records = sorted((Path(folder) / "runs").glob("*/*.json"), key=lambda p: p.stat().st_mtime_ns)
        moments = [p.stat().st_mtime_ns / 1e9 for p in records]
        times = [json.loads(p.read_text())["time"] for p in records]
    if len(records) != args.runs or not all(t["total_s"] for t in times):
        raise SystemExit("not every run ended well")
    whole = [b - a for a, b in pairwise(moments)]
    parts = {
        "between two records": whole,
        "training and evaluation": [t["train_s"] + t["evaluate_s"] for t in times[1:]],
        "data and building": [t["data_s"] + t["build_s"] for t in times[1:]],
        "process and storing": [w - t["total_s"] for w, t in zip(whole, times[1:], strict=True)],
    }
    fixed = [w - u for w, u in zip(whole, parts["training and evaluation"], strict=True)]
    for name, seconds in parts.items():
        found.add(args.method, name, "s", median_interval(seconds))
    found.add(args.method, "fixed cost", "s", median_interval(fixed))
    found.add(args.method, "0.1 s / fixed cost", "ratio", median_interval([0.1 / s for s in fixed]))
    script.close({"runs": args.runs, "backbone": "regatta_vit_48", "clock": "wall"},
                 [(args.method, "0.1 s / fixed cost", 1.0, "")])


if __name__ == "__main__":
    main()
