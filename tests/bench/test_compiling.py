"""`compiled`: the same training up to the order of sums, what cannot be compiled goes on as it is and says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import Block

from bench import checkout, cli
from bench.engine import checkpoint, compiling, forms, regions
from bench.engine.checkpoint import Interrupted
from bench.engine.outcome import Trained
from bench.engine.record import execute
from bench.engine.session import Session
from bench.perf.rig import Rig
from bench.planning.plan import make
from bench.planning.request import Request
from bench.verbs import here
from datasets import registry
from methods.catalog import catalog
from methods.grammar import parse
from results import schema

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
    assert "torch.compile failed in 1 of 1 run, which" in capfd.readouterr().err


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


# --- one block for all, and recorded steps

DEEP = 5
COMPILED: list[int] = []


def deep(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """The tiny backbone with more blocks, whose graphs are counted as they are made."""
    plain = tiny._model

    def model(pretrained: bool = False, **more: Any) -> Any:
        made = plain(pretrained, **more)
        rates = torch.linspace(0, more.get("drop_path_rate", 0.0), DEEP).tolist()
        made.blocks = torch.nn.Sequential(*(Block(24, 3, qkv_bias=True, drop_path=rate) for rate in rates))
        return made

    monkeypatch.setitem(timm.models._registry._model_entrypoints, tiny.MODEL, model)
    COMPILED.clear()

    def backend(graph: Any, inputs: Any) -> Any:
        COMPILED.append(1)
        return counting(graph, inputs)

    monkeypatch.setattr(compiling, "BACKEND", backend)


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_one_block_is_compiled_for_all(drop_path: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep(monkeypatch)
    found = run("full", tmp_path, compiled="blocks", epochs=1, drop_path=drop_path)
    assert found.diagnostics["compiled"] == 1.0
    assert len(CALLS) == 2 * DEEP, "the trial, and of three steps the full one behind the first"
    assert len(COMPILED) == (2 if drop_path else 1), "the first of blocks that drop drops nothing"
    for module in found.model.modules():
        assert not {"forward", "kept_share"} & vars(module).keys(), "the model as it was"


def test_blocks_give_the_plain_numbers(tmp_path: Path) -> None:
    plain, fast = (run("lora", tmp_path, compiled=how, drop_path=0.0) for how in (False, "blocks"))
    assert fast.diagnostics["compiled"] == 1.0 and CALLS
    assert plain.history == fast.history and plain.metrics == fast.metrics
    for name, p in weights(plain).items():
        torch.testing.assert_close(p, weights(fast)[name], rtol=1e-5, atol=1e-6)


def test_compiled_blocks_drop_as_often_as_told() -> None:
    from timm.layers.drop import DropPath

    drop: Any = DropPath(0.25).train()
    drop.kept_share = torch.tensor(0.75)
    fast = torch.compile(lambda x: regions._dropping(drop, x), backend="eager")
    torch.manual_seed(0)
    seen = fast(torch.ones(4000, 3, 2))
    assert {round(v, 5) for v in seen.flatten().tolist()} == {0.0, round(1 / 0.75, 5)}
    assert (seen == seen[:, :1, :1]).all(), "an image is dropped as a whole"
    assert abs(float((seen[:, 0, 0] > 0).float().mean()) - 0.75) < 0.03
    assert torch.equal(fast(drop.eval() and torch.ones(2, 3, 2)), torch.ones(2, 3, 2))


def test_a_copy_of_a_model_with_compiled_blocks_is_plain() -> None:
    """Its blocks would else compute with the original's weights."""
    rig = Rig(tiny.spec("lora", batch_size=8, compiled="blocks"))
    rig.first_step()
    rig.train_once()
    assert rig.compiling.at_work and CALLS
    assert rig.merge() and rig.merged is not None
    assert not any(getattr(vars(m).get("forward"), regions.MARK, False) for m in rig.merged.model.modules())
    assert any(getattr(vars(m).get("forward"), regions.MARK, False) for m in rig.fit.model.modules())


@pytest.mark.parametrize(("how", "method", "why"), [
    ("graph", "lora", "recording the step failed, the run goes on uncompiled: RuntimeError: CUDA graphs exist on GPUs"),
    ("blocks", "unipt", "torch.compile failed, the run goes on uncompiled: no block takes part in a training pass")])
def test_what_cannot_be_goes_on_as_it_is_and_says_so(how: str, method: str, why: str, tmp_path: Path,
                                                     capfd: pytest.CaptureFixture[str]) -> None:
    plain, found = run(method, tmp_path, epochs=1), run(method, tmp_path, epochs=1, compiled=how)
    assert found.diagnostics["compiled"] == 0.0
    assert found.history == plain.history and found.metrics == plain.metrics
    assert why in capfd.readouterr().err


def test_that_a_cpu_has_no_graphs_is_told_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--suite", "demo", "--datasets", "svhn", "--methods", "lora", "--seeds", "0", "--set"]
    assert cli.main(["plan", *words, "compiled=graph"]) == 0
    assert "regatta: compiled=graph: a CPU has no CUDA graphs, and there 1 run falls back" in capsys.readouterr().err
    todo = make(Request(suite="demo", datasets=("svhn",), methods=("lora",), seeds=(0, 1),
                        sets=("compiled=graph",))).runs
    here.tell_graphs(todo, "cuda")
    here.tell_graphs([replace(p, spec=replace(p.spec, compiled=True)) for p in todo], "cpu")
    assert not capsys.readouterr().err
    here.tell_graphs(todo, "cpu")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a CPU has no CUDA graphs, so 2 runs fall back to plain steps and say so in their records "
                         "(diagnostics: compiled 0)")


def test_other_forms_are_refused_for_the_same_parts() -> None:
    for how in ("blocks", "graph"):
        (said,) = forms.refusals(parse("lora+pace"), "vit", False, False, how)
        assert said.startswith(f"compiled={how} does not fit 'lora+pace': pace reads, moves or repeats")
        assert not forms.refusals(parse("lora"), "vit", False, False, how)


def test_each_form_is_a_protocol_of_its_own() -> None:
    specs = [tiny.spec("lora", compiled=how) for how in (False, True, "blocks", "graph")]
    assert len({spec.protocol_id for spec in specs}) == len({spec.id for spec in specs}) == 4
    for spec in specs[1:]:
        assert schema.spec_from_json(json.loads(json.dumps(spec.written()))) == spec
    with pytest.raises(schema.RecordError, match=r"'spec.compiled' has the value 'whole'"):
        schema.spec_from_json(json.loads(json.dumps(specs[1].written() | {"compiled": "whole"})))


SECOND = """
import sys
from pathlib import Path
import torch
from torch._dynamo.utils import counters
from tests.bench import tiny
from bench.engine.compiling import Steps
from bench.perf.rig import Rig
tiny.use()
rig = Rig(tiny.spec("bitfit", batch_size=4, drop_path=0.0, compiled="blocks"))
rig.compiling = Steps(rig.fit, rig.spec, 40, Path(sys.argv[1]))
rig.first_step(); rig.train_once()
assert rig.compiling.at_work
print(counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"],
      counters["aot_autograd"]["autograd_cache_miss"], counters["aot_autograd"]["autograd_cache_hit"])
"""


def test_what_was_compiled_is_found_by_a_second_process(tmp_path: Path) -> None:
    """The one test that calls the compiler: a block of width 24."""
    if shutil.which("g++") is None:
        pytest.skip("no compiler here")
    told = []
    for _ in range(2):
        environment = {k: v for k, v in os.environ.items() if k != compiling.CACHE}
        done = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], cwd=checkout.ROOT, capture_output=True,
                              text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        told.append([int(word) for word in done.stdout.split()])
    assert list((tmp_path / "compiled").iterdir())
    first, second = told
    assert first[0] > 0 and first[1] + first[3] < first[0] + first[2]
    assert second[0] == 0 and second[1] + second[3] > 0, "nothing is compiled again"
