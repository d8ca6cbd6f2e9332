"""Folders that vanish or cannot be written under a runner: runs end with a record or a sentence, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine.checkpoint import Checkpoints
from bench.engine.where import Where
from results import store
from tests.reports import fakes

SPECS = [fakes.spec("svhn", seed=seed) for seed in range(3)]


def _sweeping(job: Job, root: Path, pipe: Connection) -> None:
    """A run under which somebody removes the folders of results and claims; it stores its record all the same."""
    for folder in (root, root.parent / "claims"):
        shutil.rmtree(folder, ignore_errors=True)
    store.save(fakes.record(job.spec, 0.5), root)
    pipe.send(("outcome", "ok"))
    pipe.close()


def _jobs(tmp_path: Path) -> list[Job]:
    return [Job(spec, {}, Where(tmp_path, None, None)) for spec in SPECS]


def test_results_and_claims_that_are_deleted_under_a_runner_are_made_again(tmp_path: Path) -> None:
    tally = run_all(_jobs(tmp_path), tmp_path / "runs", Claims(tmp_path / "claims"), 1, lambda done, label: None,
                    _sweeping)
    assert tally.done == {"ok": 3} and not tally.failures
    assert store.load(store.path_of(SPECS[2], tmp_path / "runs")).status == "ok"
    assert not list(tmp_path.rglob(".tmp-*"))


def _unwritable(*_: Any, **__: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_checkpoints_in_a_read_only_folder_cost_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path / "run", "key", "2026-01-01T00:00:00Z")
    monkeypatch.setattr(Path, "mkdir", _unwritable)
    assert kept.save(1, {"a": 1}) is False
    assert [a.reason for a in kept.close("2026-01-01T00:00:09Z", "ok")] == ["ok"]
    kept.clear()


def test_checkpoints_that_are_deleted_under_a_run_are_written_again(tmp_path: Path) -> None:
    import torch

    kept = Checkpoints(tmp_path / "run", "key", "2026-01-01T00:00:00Z")
    assert kept.save(1, {"a": torch.ones(1)})
    shutil.rmtree(tmp_path / "run")
    assert kept.save(2, {"a": torch.ones(1)})
    found = Checkpoints(tmp_path / "run", "key", "2026-01-01T00:00:09Z").load(torch.device("cpu"))
    assert found is not None and torch.equal(found["a"], torch.ones(1))


def test_a_claim_that_cannot_be_touched_or_released_is_no_reason_to_stop(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(tmp_path)
    assert claims.take("run")
    monkeypatch.setattr(os, "utime", _unwritable)
    monkeypatch.setattr(Path, "unlink", _unwritable)
    claims.touch("run")
    claims.release("run")
    assert claims.alive("run"), "it is this process's until it ends"


def _no_room(job: Job, root: Path, pipe: Connection) -> None:
    """A run whose record finds no room: the process ends with an error."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_runner_that_cannot_store_says_so_and_leaves_no_claim(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the failure finds no room either: one OSError, which the command line says in a sentence."""
    monkeypatch.setattr("bench.dispatch.local.store.save", _unwritable)
    claims = Claims(tmp_path / "claims")
    with pytest.raises(OSError, match="Read-only"):
        run_all(_jobs(tmp_path), tmp_path / "runs", claims, 1, lambda done, label: None, _no_room)
    assert claims.living() == set() and not list((tmp_path / "claims").glob("*.claim"))
