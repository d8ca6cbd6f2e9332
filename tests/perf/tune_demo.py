"""How the demo's learning rates were chosen: `python -m tests.perf.tune_demo [--jobs N]`, from the checkout's root.

For every method of the demo the same number of rates, on the validation split (32 images each) of a few stand-ins and
of digits; the rate with the best mean validation accuracy wins, ties go to the lower one. Test splits stay sealed:
phase `tune` has no door to them. Writes results/reference/demo-tuning.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench import checkout
from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine.where import Where
from bench.planning.plan import make
from bench.planning.request import Request
from bench.progress import Bar
from bench.suites import CORE
from datasets.standins import write_all
from results import store

SETS = ("dtd", "eurosat", "dsprites_loc", "cub", "digits")
RATES = {"linear": (1e-2, 3e-2, 1e-1), "full": (5e-4, 1e-3, 2e-3), "full+tpgm(proj_every=2)": (5e-4, 1e-3, 2e-3)}
PEFT_RATES = (3e-3, 1e-2, 3e-2)
TUNED = checkout.ROOT / "results" / "tuned-demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    write_all([s for s in SETS if s != "digits"], checkout.STANDINS)
    planned = {}
    for method in CORE:
        for rate in RATES.get(method, PEFT_RATES):
            request = Request(suite="demo", datasets=SETS, methods=(method,), sets=(f"lr={rate!r}",), phase="tune")
            for run in make(request, runs=TUNED).runs:
                planned[method, rate, run.spec.dataset] = run
    todo = [r for r in planned.values() if r.state != "done"]
    with Bar(len(todo), "tuning") as bar:
        run_all([Job(r.spec, r.passed, Where(r.data_root, checkout.CACHE, r.weights)) for r in todo], TUNED,
                Claims(checkout.CLAIMS), args.jobs, bar.to)
    means: dict[str, dict[str, float]] = {}
    for (method, rate, _), run in planned.items():
        found = store.load(store.path_of(run.spec, TUNED)).metrics["val.top1"] or 0.0
        means.setdefault(method, {}).setdefault(repr(rate), 0.0)
        means[method][repr(rate)] += found / len(SETS)
    chosen = {m: min(by, key=lambda r, by=by: (-round(by[r], 9), float(r))) for m, by in means.items()}  # type: ignore[misc]
    told = {"rule": "best mean validation top-1 over the sets, ties to the lower rate", "sets": SETS,
            "val_top1": {m: {r: round(v, 4) for r, v in by.items()} for m, by in means.items()}, "chosen": chosen}
    path = checkout.ROOT / "results" / "reference" / "demo-tuning.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(Path(path), json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
