"""How a run's process ends: at once, and with everything ended that libraries have begun in it."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from bench.dispatch.ending import leave
from bench.dispatch.local import Job

ROOT = Path(__file__).resolve().parents[2]
HELD = []
PROGRAM = """
import multiprocessing, sys
from pathlib import Path
from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine.where import Where
from tests.bench import test_ending
from tests.reports import fakes
multiprocessing.get_context("forkserver").set_forkserver_preload = lambda names: None
root = Path(sys.argv[1])
tally = run_all([Job(fakes.spec("svhn"), {}, Where(root, None, None))], root / "runs", Claims(root / "claims"), 1,
                lambda done, label: None, test_ending.locking)
print(tally.done)
"""


def locking(job: Job, root: Path, pipe: Connection) -> None:
    """A run in which a library makes a lock between processes, as a compiler's or a bar's does."""
    HELD.append(multiprocessing.Lock())
    pipe.send(("outcome", "ok"))
    pipe.close()
    leave()


def test_a_lock_that_a_library_made_in_a_run_is_told_as_leaked_by_nobody(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "{'ok': 1}\n" and "leaked" not in done.stderr, done.stderr
