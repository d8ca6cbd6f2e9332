"""`compiled`: the same training up to the order of sums, what cannot be compiled goes on as it is and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import checkout
from bench.engine import checkpoint, compiling, forms
from bench.engine.checkpoint import Interrupted
from bench.engine.outcome import Trained
from bench.engine.record import execute
from bench.engine.session import Session
from bench.perf.rig import Rig
from bench.verbs import here
from datasets import registry
from methods.catalog import catalog
from methods.grammar import parse

from . import tiny

CALLS: list[int] = []  # batch size of every compiled forward pass


def counting(graph: Any, inputs: Any) -> Any:
    """The graph itself, as the backend 'eager', and a note of each call."""
    def call(*args: Any) -> Any:
        CALLS.append(1)
        return graph.forward(*args)
    return call


def broken(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no compiler here\nsecond line")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tiny.use()
    CALLS.clear()
    monkeypatch.setattr(compiling, "BACKEND", counting)
    yield
    tiny.forget()
    torch._dynamo.reset()


def run(method: str, folder: Path, **changes: Any) -> Trained:
    """Two epochs of two full batches of 24 and a short one of 16."""
    spec = tiny.spec(method, **{"epochs": 2, "batch_size": 24} | changes)
    return Session(spec, registry.get(spec.dataset), tiny.where(folder, checkpoints=None)).run()


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {n: p for n, p in trained.model.named_parameters() if p.requires_grad}


def test_full_batches_behind_the_first_step_are_compiled_and_the_numbers_stay(tmp_path: Path) -> None:
    plain, fast = run("lora", tmp_path), run("lora", tmp_path, compiled=True)
    assert len(CALLS) == 4  # the trial, then of six steps those that are full and not the first
    assert fast.diagnostics["compiled"] == 1.0 and "compiled" not in plain.diagnostics
    assert fast.memory == plain.memory  # measured on the plain step
    assert plain.history == fast.history  # drop path draws the same: the trial gave its draws back
    for name, p in weights(plain).items():
        torch.testing.assert_close(p, weights(fast)[name], rtol=1e-5, atol=1e-6)
    assert "forward" not in vars(fast.model)


@pytest.mark.parametrize("method", ["full+l2_sp", "lora+ftp", "lst(fisher_images=8)"])
def test_with_parts_that_take_one_plain_pass(method: str, tmp_path: Path) -> None:
    plain, fast = run(method, tmp_path, epochs=1), run(method, tmp_path, epochs=1, compiled=True, merged_eval=False)
    assert fast.diagnostics["compiled"] == 1.0 and CALLS
    for name, p in weights(plain).items():
        torch.testing.assert_close(p, weights(fast)[name], rtol=1e-4, atol=1e-5)


def test_where_compiling_fails_the_run_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capfd: pytest.CaptureFixture[str]) -> None:
    plain = run("lora", tmp_path)
    monkeypatch.setattr(compiling, "BACKEND", broken)
    spec = tiny.spec("lora", epochs=2, batch_size=24, compiled=True)
    record = execute(spec, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
    assert record.status == "ok" and record.diagnostics["compiled"] == 0.0
    assert list(record.history) == plain.history
    assert {k: record.metrics[k] for k in plain.metrics} == plain.metrics
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("regatta:")]
    assert len(said) == 1 and "goes on uncompiled: BackendCompilerFailed" in said[0]
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    here.tell_uncompiled([SimpleNamespace(spec=spec), SimpleNamespace(spec=tiny.spec("lora"))])  # type: ignore[list-item]
    assert "torch.compile failed in 1 of 1 runs" in capfd.readouterr().err


def test_perf_times_compiled_steps_and_merges_the_plain_model() -> None:
    rig = Rig(tiny.spec("lora", batch_size=8, compiled=True))
    plain = Rig(tiny.spec("lora", batch_size=8))
    assert rig.first_step() == plain.first_step() and not CALLS
    rig.train_once()
    assert rig.compiling.at_work and len(CALLS) == 2
    assert rig.merge() and rig.merged is not None and "forward" not in vars(rig.merged.model)
    rig.evaluating()
    rig.predict_once()
    rig.predict_merged()
    assert len(CALLS) == 2


def test_a_resumed_run_compiles_again_and_ends_alike(tmp_path: Path) -> None:
    spec = tiny.spec("lora", epochs=2, batch_size=24, compiled=True)
    whole = run("lora", tmp_path, compiled=True)

    def stop(step: int, steps: int) -> None:
        if step == 3:
            checkpoint.STOP.ask("preempted")

    try:
        with pytest.raises(Interrupted):
            _with_checkpoints(spec, tmp_path).run(stop)
    finally:
        checkpoint.STOP.wanted = None
    CALLS.clear()
    again = _with_checkpoints(spec, tmp_path).run()
    assert again.diagnostics["compiled"] == 1.0 and len(CALLS) == 3  # the trial and two full batches of epoch 2
    assert again.history == whole.history
    for name, p in weights(whole).items():
        assert torch.equal(p, weights(again)[name]), name


def _with_checkpoints(spec: Any, folder: Path) -> Session:
    from bench.engine.checkpoint import Checkpoints, key_of

    where = tiny.where(folder)
    saver = Checkpoints(folder / "checkpoints" / spec.id, key_of(spec, "cpu"), "now", 0.0, 0, None)
    return Session(spec, registry.get(spec.dataset), where, saver)


def test_parts_that_need_more_than_a_plain_pass_are_refused_by_word() -> None:
    for name, info in catalog().items():
        if info.kind == "adapter":
            continue
        adapter = next(a for a in ("lora", "full", "lp_ft") if not forms_missing(f"{a}+{name}"))
        problems = forms.refusals(parse(f"{adapter}+{name}"), "vit", False, False, True)
        assert bool(problems) == (name not in forms.ONE_PASS), name
        assert all(f": {name} reads, moves or repeats" in p for p in problems)
    assert not forms.refusals(parse("lora"), "vit", False, False, True)
    assert "pace reads, moves" in forms.refusals(parse("lora+pace"), "vit", False, False, True)[0]


def forms_missing(text: str) -> bool:
    from methods.grammar import MethodError

    try:
        parse(text)
    except MethodError:
        return True
    return False
