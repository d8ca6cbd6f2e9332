"""What the fork server of all runs holds ready: all of our code and nothing computed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.dispatch.local import PRELOAD
from methods.catalog import catalog

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, threading
from importlib import import_module
from pathlib import Path
for name in sys.argv[2:]:
    import_module(name)
for task in Path("/proc/self/task").iterdir():
    print("thread", task.name)
ours = ("bench", "methods", "datasets", "results")
before = set(sys.modules)
from tests.bench import tiny  # the packages of the tests are none of ours
from bench.engine import env
from bench.engine.record import execute
tiny.use()
env._git = None  # asking again would be an error
folder = Path(sys.argv[1])
spec = tiny.spec("linear", epochs=2, drop_path=0.0)
done = execute(spec, {}, tiny.where(folder, cache_root=folder / "cache"), folder / "runs")
print("status", done.status, done.failure.message if done.failure else "")
for name in sorted(set(sys.modules) - before):
    if name.partition(".")[0] in ours or name == "torch._dynamo":
        print("late", name)
for name in sorted(before):
    print("early", name)
"""


def test_a_run_imports_none_of_our_code_later_and_the_server_has_one_thread(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), *PRELOAD], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    told: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        told.setdefault(word, []).append(rest.strip())
    assert told["status"] == ["ok"], done.stderr
    assert "late" not in told
    assert {f"methods.{part.module}" for part in catalog().values()} <= set(told["early"])
    if sys.platform == "linux":
        assert len(told["thread"]) == 1, "a fork of a process whose thread pool has run can hang"
