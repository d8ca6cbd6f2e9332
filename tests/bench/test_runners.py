"""Two runners on one set of runs: nothing is done twice, nothing is left undone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine.record import execute
from bench.planning.existing import look_up
from bench.planning.resolve import Planned
from results import store

from . import tiny
from .killing import killed_once
from .runner import RUNS, spec

ROOT = Path(__file__).resolve().parents[2]


def _start(folder: Path, sleep: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.bench.runner", str(folder), str(sleep)], cwd=ROOT,
                            stdout=subprocess.PIPE, text=True)


def _log(folder: Path, word: str) -> list[tuple[str, str]]:
    """(run, the server that forked it) of every line of that kind."""
    path = folder / "log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(run, server) for what, run, server in lines if what == word]


def _wait_for(folder: Path, ends: int) -> None:
    limit = time.monotonic() + 90
    while len(_log(folder, "end")) < ends:
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def test_two_runners_share_forty_runs_and_do_each_once(tmp_path: Path) -> None:
    runners = [_start(tmp_path, 0.1) for _ in range(2)]
    told = [runner.communicate(timeout=180)[0].split() for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0]
    ended = _log(tmp_path, "end")
    assert Counter(run for run, _ in ended) == Counter({spec(seed).id: 1 for seed in range(RUNS)})
    assert Counter(run for run, _ in _log(tmp_path, "begin")) == Counter(run for run, _ in ended)
    assert sum(int(done) for done, _ in told) == RUNS
    assert all(int(done) + int(elsewhere) == RUNS for done, elsewhere in told), "both runners account for every run"
    assert len({server for _, server in ended}) == 2, "both runners worked"
    assert len(list(store.load_all(tmp_path / "runs"))) == RUNS
    assert not list((tmp_path / "claims").glob("*.claim"))


def test_a_killed_runners_runs_are_taken_over(tmp_path: Path) -> None:
    first, second = _start(tmp_path, 0.3), _start(tmp_path, 0.3)
    _wait_for(tmp_path, 6)
    first.kill()
    first.wait()
    second.communicate(timeout=180)
    assert second.returncode == 0
    wanted = {spec(seed).id for seed in range(RUNS)}
    assert {r.spec.id for r in store.load_all(tmp_path / "runs")} == wanted
    ended = Counter(run for run, _ in _log(tmp_path, "end"))
    assert set(ended.values()) == {1}
    # The killed runner's children die with it; one that has stored its record may not come to say so.
    assert len(wanted - set(ended)) <= 2 and set(ended) <= wanted
    twice = {run for run, n in Counter(run for run, _ in _log(tmp_path, "begin")).items() if n > 1}
    assert len(twice) <= 2, "only what the killed runner had begun is begun again"
    assert not list((tmp_path / "claims").glob("*.claim"))


def test_a_killed_run_is_planned_again_and_goes_on(tmp_path: Path) -> None:
    """kill -9 of a run's process: its record says so, the plan wants it again, and it resumes."""
    tiny.use()
    try:
        spec, where, root = tiny.spec("lora+pace"), tiny.where(tmp_path), tmp_path / "runs"
        whole = execute(spec, {}, tiny.where(tmp_path / "whole", checkpoints=None), tmp_path / "whole" / "runs")
        planned = Planned(spec, "lora+pace", {}, tmp_path, None)
        claims = Claims(tmp_path / "claims")
        first = run_all([Job(spec, {}, where)], root, claims, 1, lambda done, label: None, killed_once)
        assert first.done == {"failed": 1}
        looked = look_up(planned, root, set())
        assert looked.state == "missing" and looked.why == "failed before: killed"
        assert looked.record is not None and looked.record.failure is not None
        assert "SIGKILL" in looked.record.failure.message
        second = run_all([Job(spec, {}, where, again=True)], root, claims, 1, lambda done, label: None, killed_once)
        assert second.done == {"ok": 1}
        record = store.load(store.path_of(spec, root))
        assert (record.metrics, record.history) == (whole.metrics, whole.history)
        assert [(a.reason, a.resumed_from_step) for a in record.attempts] == [("killed", 0), ("ok", 6)]
        assert look_up(planned, root, set()).state == "done"
    finally:
        tiny.forget()
