"""A runner for tests: `run_all` on forty runs whose work is a short sleep; what begins and ends is logged.

    python -m tests.bench.runner FOLDER SLEEP_S
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from bench.dispatch.ending import died
from bench.dispatch.local import Job, _die_with_parent, run_all
from bench.dispatch.state import Claims
from bench.engine import env
from bench.engine.where import Where
from methods.grammar import parse
from results import store
from results.schema import Failure, RunSpec

RUNS = 40


def spec(seed: int) -> RunSpec:
    text = parse("linear")
    return RunSpec(dataset="digits", model="regatta_vit_48", method=text.name, options=text.options, seed=seed,
                   epochs=1, batch_size=8, eval_batch_size=8, lr=0.1, weight_decay=0.0, warmup_epochs=0, image_size=48,
                   augment="none", normalise="native", precision="fp32", phase="final", select="last", data="shipped",
                   weights="random", optimizer="adamw", schedule="cosine", clip=0.0, drop_path=0.0, head_lr_scale=1.0,
                   drop_last=False, attention="fused", threads=1, holdout=0.0)


def work(job: Job, root: Path, pipe: Connection) -> None:
    """Begin, sleep, store a record, end; as a real run does, die with the runner."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    env.code_state = lambda: ("test", False, None)
    log(root, "begin", job.spec)
    time.sleep(float(str(job.passed["sleep"])))
    record = died(job, "failed", Failure("code", "", "train"))
    store.save(replace(record, status="ok", failure=None), root)
    log(root, "end", job.spec)
    pipe.send(("outcome", "ok"))


def log(root: Path, word: str, of: RunSpec) -> None:
    handle = os.open(root.parent / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{word} {of.id} {os.getppid()}\n".encode())
    os.close(handle)


def main(folder: Path, sleep: float) -> None:
    mp.get_context("forkserver").set_forkserver_preload = lambda names: None  # type: ignore[method-assign]
    where = Where(folder, None, None)
    jobs = [Job(spec(seed), {"sleep": sleep}, where) for seed in range(RUNS)]
    tally = run_all(jobs, folder / "runs", Claims(folder / "claims"), 2, lambda done, label: None, work)
    print(sum(tally.done.values()), tally.elsewhere)


if __name__ == "__main__":
    from tests.bench import runner  # the children look for `work` by its module's name, not in __main__

    runner.main(Path(sys.argv[1]), float(sys.argv[2]))
