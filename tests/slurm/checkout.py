"""A checkout of a test's own: the sources under git, in a folder of their own, with commands that see the cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from results import store
from results.schema import RunResult

from .cluster import PATIENCE, Cluster

ROOT = Path(__file__).resolve().parents[2]
WAIT = '''"""Waits after every step until the checkout holds a file `hurry`; a test keeps a run in its middle with it.

The file is looked for in the checkout and in the one whose snapshot this is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from ..base import Constraint, Fit
from ..compose import part

ROOT = Path(__file__).resolve().parents[2]


@part("wait")
class Wait(Constraint):
    """Waits after every step; a part for tests."""

    title = "wait"
    paper = "none"

    seconds: Annotated[float, ">= 0", "after each step"] = 1.0

    def after_step(self, fit: Fit) -> None:
        if not any((folder / "hurry").exists() for folder in (ROOT, ROOT.parents[1])):
            time.sleep(self.seconds)
'''
SOURCES = ("bench", "datasets", "methods", "reports", "results", "tests/bench", "tests/slurm")
FILES = (".gitignore", "pyproject.toml", "Makefile", "tests/__init__.py")


def copy_sources(folder: Path) -> Path:
    """The sources as they lie here, committed; results and tables stay behind."""
    def skip(where: str, names: list[str]) -> list[str]:
        own = {"runs", "reference", "suites", "claims", "jobs", "snapshots", "checkpoints", "scratch", "selections",
               "perf", "site", "img"} if Path(where).name in ("results", "reports") else set()
        return [n for n in names if n == "__pycache__" or n in own or (own and n.startswith("tuned-"))]

    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    (folder / "methods" / "constraints" / "wait.py").write_text(WAIT)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "sources")):
        subprocess.run(["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words], cwd=folder,
                       check=True, capture_output=True)
    return folder


class Checkout:
    """Commands, records and the ledger of one checkout."""

    def __init__(self, sources: Path, folder: Path, cluster: Cluster) -> None:
        shutil.copytree(sources, folder)
        self.folder, self.cluster = folder, cluster
        self.env = {**cluster.env, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}

    def bench(self, *words: str, status: int | None = 0, timeout: float = 120,
              env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`python -m bench WORDS`; its exit status is checked unless `status` is None."""
        done = subprocess.run([sys.executable, "-m", "bench", *words], cwd=self.folder, env=self.env | (env or {}),
                              capture_output=True, text=True, timeout=PATIENCE * timeout, check=False)
        assert status is None or done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def submit(self, *words: str, status: int | None = 0) -> str:
        """Submit to the cluster and return what was said."""
        return self.bench("submit", *words, "--cluster", "slurm", "--mem-gb", "1.4", status=status).stdout

    @property
    def runs(self) -> Path:
        return self.folder / "results" / "runs"

    def records(self) -> dict[str, RunResult]:
        """Every record, strictly read; none may be there twice and no file may be half written."""
        found = list(store.load_all(self.runs))
        assert len({r.run_id for r in found}) == len(found), "a run has two records"
        assert not list(self.runs.glob("*/.tmp-*")), "a half-written file was left behind"
        for record in found:
            for artifact in record.artifacts:
                assert (store.path_of(record.spec, self.runs).parent / artifact.path).stat().st_size == artifact.bytes
        return {r.run_id: r for r in found}

    def statuses(self) -> list[str]:
        return sorted(r.status for r in self.records().values())

    def submissions(self) -> list[Path]:
        return sorted(p.parent for p in (self.folder / "results" / "jobs").glob("*/submission.json"))

    def jobs(self) -> list[str]:
        """The scheduler's ids of every array that was submitted."""
        return [array["job"] for path in self.submissions()
                for array in json.loads((path / "submission.json").read_text())["arrays"] if array["job"]]

    def beats(self) -> list[dict[str, object]]:
        """The last sign of life of each task of the newest submission."""
        return [json.loads(p.read_text()) for p in sorted(self.submissions()[-1].glob("beats/*.json"))]

    def wait(self, until: Callable[[], object], what: str, seconds: float = 120) -> None:
        """Wait; in vain, it says what the tasks wrote."""
        limit = time.monotonic() + PATIENCE * seconds
        while not until():
            assert time.monotonic() < limit, f"waited in vain for {what}; jobs {self.cluster.jobs()}\n{self.logs()}"
            time.sleep(0.1)

    def hurry(self) -> None:
        """From now on no run waits."""
        (self.folder / "hurry").touch()

    def wait_step(self, step: int) -> None:
        """Until a run has stored a checkpoint of this step or a later one."""
        folder = self.folder / "results" / "checkpoints"
        self.wait(lambda: any(int(p.stem) >= step for p in folder.glob("*/[0-9]*.pt")), f"a run at step {step}")

    def wait_over(self, seconds: float = 150) -> None:
        """Until the cluster holds no job."""
        self.wait(lambda: not self.cluster.jobs(), "an empty queue", seconds)

    def logs(self) -> str:
        files = sorted(p for s in self.submissions() for p in s.glob("submitit/*_log.*"))
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in files[-6:])


def numbers(records: Sequence[RunResult]) -> dict[tuple[str, int], tuple[object, ...]]:
    """What must be equal wherever, and in however many pieces, a run was carried out."""
    return {(r.spec.method, r.spec.seed): (r.status, r.metrics, r.history, r.params, r.test_passes) for r in records}
