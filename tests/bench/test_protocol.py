"""Phases and the sealed test split, determinism, statuses: what a record may claim."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engine import build
from bench.engine.cache import ImageCache
from bench.engine.loaders import FinalData, SealedTest, TuneData, open_data
from bench.engine.record import execute
from bench.engine.session import Session
from datasets import registry
from datasets.card import DataError
from methods import compose
from methods.base import Batch, Fit, Objective, Regularizer, Terms
from methods.grammar import parse
from results.schema import RunResult

from . import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def _run(folder: Path, method: str = "lora", strict: bool = True, **changes: Any) -> RunResult:
    where = tiny.where(folder, checkpoints=None, deterministic=strict)
    return execute(tiny.spec(method, **changes), {}, where, folder / "runs")


# Phases.

def test_tune_trains_on_train_scores_val_and_has_no_test(tmp_path: Path) -> None:
    record = _run(tmp_path, phase="tune")
    assert record.status == "ok" and record.dataset is not None
    assert (record.dataset.train, record.dataset.val, record.dataset.test) == (48, 16, None)
    assert record.test_passes == 0
    assert record.metrics["val.n"] == 16 and not [m for m in record.metrics if m.startswith("test")]


def test_final_trains_on_train_and_val_and_reads_test_once(tmp_path: Path) -> None:
    record = _run(tmp_path)
    assert record.dataset is not None
    assert (record.dataset.train, record.dataset.val, record.dataset.test) == (64, None, 40)
    assert record.test_passes == 1
    assert record.metrics["test.n"] == 40 and not [m for m in record.metrics if m.startswith("val")]


def test_peek_ends_where_final_does_and_counts_its_looks(tmp_path: Path) -> None:
    final, peek = _run(tmp_path, "lora+pace"), _run(tmp_path, "lora+pace", phase="peek")
    assert peek.status == "ok", peek.failure
    assert peek.metrics["peek.top1"] == final.metrics["test.top1"]
    assert [h["train.loss"] for h in peek.history] == [h["train.loss"] for h in final.history]
    assert peek.metrics["peek.looks"] == 5 and peek.test_passes == 6
    looks = [h["peek.top1"] for h in peek.history]
    assert peek.metrics["peek.best.top1"] == max(x for x in looks if x is not None)
    assert not [m for m in peek.metrics if m.startswith("test")], "no table can take what was peeked at for a result"


def test_the_best_epoch_on_val_is_a_choice_of_tune_alone(tmp_path: Path) -> None:
    last, best = _run(tmp_path, phase="tune"), _run(tmp_path, phase="tune", select="val")
    curve = [h["val.top1"] for h in best.history]
    assert best.metrics["val.top1"] == max(x for x in curve if x is not None)
    assert curve[int(best.metrics["val.best.epoch"] or 0) - 1] == best.metrics["val.top1"]
    assert [h["train.loss"] for h in last.history] == [h["train.loss"] for h in best.history]
    assert _run(tmp_path, select="val").status == "failed"


def test_folds_cut_the_training_list_into_equal_balanced_parts() -> None:
    found = [open_data(registry.get(tiny.DATASET), Path(), tiny.spec(phase="tune", fold=f"{k}/4"), ImageCache(None))
             for k in range(1, 5)]
    names = [{item.image.name for item in one.val.items} for one in found if one.val]  # type: ignore[union-attr]
    assert [len(n) for n in names] == [16] * 4 and len(set().union(*names)) == 64
    for one in found:
        assert one.val is not None and len(one.train) == 48
        assert not {i.image.name for i in one.train.items} & {  # type: ignore[union-attr]
            i.image.name for i in one.val.items}  # type: ignore[union-attr]
        assert torch.bincount(one.val.labels).tolist() == [4] * 4


@pytest.mark.parametrize(("method", "trained", "held"), [("full+tpgm", 256, 64), ("full+tpgm", 8, 8),
                                                         ("lp_ft+wise+tpgm_c", 128, 64), ("full+wise", 256, 256)])
def test_tpgm_draws_at_most_64_held_out_images_at_a_time(method: str, trained: int, held: int) -> None:
    assert compose.create(parse(method)).holdout_batch(trained) == held


def test_the_held_out_batch_of_a_run_is_what_its_parts_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose.create(parse("full+tpgm")).constraints[0].__class__, "holdout_batch", 5)
    session = Session(tiny.spec("full+tpgm"), registry.get(tiny.DATASET), tiny.where(tmp_path, checkpoints=None))
    session.run()
    held = session.built.holdout
    assert held is not None and len(next(held).y) == 5 and session.spec.batch_size == 16


# The seal.

def _data(phase: str) -> TuneData:
    return open_data(registry.get(tiny.DATASET), Path(), tiny.spec(phase=phase), ImageCache(None))


def test_the_data_of_tune_have_no_test_to_give() -> None:
    data = _data("tune")
    for _ in range(2):
        with pytest.raises(SealedTest, match="must not look at the test split"):
            data.test()
        data.finish_training()


def test_the_data_of_final_open_test_after_training_and_once() -> None:
    data = _data("final")
    with pytest.raises(SealedTest, match="until training is over"):
        data.test()
    data.finish_training()
    assert len(data.test()) == 40
    with pytest.raises(SealedTest, match="reads it once"):
        data.test()


class Rogue(Regularizer):
    """A part that wants to see test, by whatever it can reach."""

    name = "rogue"

    def __init__(self, steal: Callable[[], Any]) -> None:
        self.steal = steal

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        self.steal()
        return base(fit, batch)


def _by_garbage() -> None:
    for thing in gc.get_objects():
        if isinstance(thing, TuneData):
            thing.test()


def _by_frames() -> None:
    frame: Any = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, TuneData):
                value.test()
        frame = frame.f_back


def _with(monkeypatch: pytest.MonkeyPatch, part: Regularizer) -> None:
    made = compose.from_spec

    def from_spec(name: str, options: Any) -> compose.Method:
        method = made(name, options)
        return compose.Method(method.text, method.adapter, [*method.regularizers, part], method.constraints)

    monkeypatch.setattr(build.compose, "from_spec", from_spec)


@pytest.mark.parametrize("steal", (_by_garbage, _by_frames))
@pytest.mark.parametrize("phase", ("tune", "final"))
def test_a_method_that_reaches_for_test_during_training_fails(steal: Callable[[], None], phase: str, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, Rogue(steal))
    record = _run(tmp_path, phase=phase)
    assert record.status == "failed" and record.failure is not None
    assert record.failure.kind == "protocol" and "test split" in record.failure.message
    assert record.test_passes == 0 and record.metrics == {}


# No other door: what the files of methods may import, and who in bench says "test".

ALLOWED = {"__future__", "abc", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "functools",
           "itertools", "math", "numpy", "operator", "re", "timm", "torch", "torchvision", "types", "typing"}
FORBIDDEN_CALLS = {"__import__", "compile", "eval", "exec", "globals", "input", "open", "vars"}
FORBIDDEN_NAMES = {"_getframe", "get_objects", "get_referrers", "__globals__", "__builtins__", "f_back", "fromfile",
                   "load", "memmap", "loadtxt", "genfromtxt", "read_image", "read_file", "ImageFolder", "VisionDataset"}


def doors(source: str) -> list[str]:
    """What in a method's source could lead to files, to other packages or into the loop's frames."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] not in ALLOWED]
        elif isinstance(node, ast.ImportFrom):
            if node.level > 2 or (node.level == 0 and (node.module or "").partition(".")[0] not in ALLOWED):
                found.append(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(node.func.id)
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_NAMES:
            found.append(node.attr)
    return found


# What wraps another library imports it, in `build` alone, and looks at what that brought; literals are read by ast.
WRAPS = {"peft_bridge": {"vars", "sys", "warnings", "pathlib", "peft", "peft.mapping"}, "peft_words": {"ast"}}
KINDS = ("adapters", "regularizers", "constraints")
PARTS = sorted(p for kind in KINDS for p in (ROOT / "methods" / kind).glob("*.py"))


@pytest.mark.parametrize("path", PARTS, ids=lambda p: p.stem)
def test_a_methods_file_has_no_door_to_the_data(path: Path) -> None:
    assert set(doors(path.read_text())) <= WRAPS.get(path.stem, set())


@pytest.mark.parametrize("source", (
    "import datasets", "from datasets.registry import get", "import bench.engine.loaders", "from results import store",
    "import gc", "import os", "from pathlib import Path", "from PIL import Image", "open('x')",
    "__import__('datasets')",
    "import sys; sys._getframe()", "import numpy as np; np.load('x')", "from ...datasets import registry",
    "import torch; torch.load('x')", "import importlib", "exec('1')"))
def test_the_walk_sees_a_door(source: str) -> None:
    assert doors(source)


def test_one_module_opens_the_test_split() -> None:
    """Functions of bench that pass the word "test" to something that lists or opens a split."""
    found = set()
    for path in sorted((ROOT / "bench").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (
                        "_open", "items", "pixels") and any(isinstance(a, ast.Constant) and a.value == "test"
                                                            for a in [*node.args, *(k.value for k in node.keywords)]):
                    found.add((path.name, function.name))
    # A pack that others sent is judged by the names in its test list; no run of ours is at work then.
    assert found == {("loaders.py", "test"), ("judge.py", "_look")}


def test_pictures_are_opened_by_the_loaders_alone() -> None:
    """Who imports what decodes an image or caches pixels; embedded/ draws its own pictures.

    `ask` shows a finished run a user's images (predict), `judge` compares those of a pack that others sent.
    """
    found = set()
    for path in sorted((ROOT / "bench").rglob("*.py")):
        if "embedded" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and {a.name for a in node.names} & {"open_rgb", "ImageCache", "Image"}:
                found.add(path.name)
    assert found <= {"loaders.py", "cache.py", "session.py", "ask.py", "judge.py"}


def test_test_is_asked_for_in_three_places() -> None:
    """Scoring, looking along the way in phase peek, and a combination of finished runs, chosen before."""
    found = [(path.name, function.name) for path in (ROOT / "bench").rglob("*.py")
             for function in ast.walk(ast.parse(path.read_text())) if isinstance(function, ast.FunctionDef)
             for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
             and node.func.attr == "test"]
    assert sorted(found) == [("combine.py", "tested"), ("epochend.py", "look"), ("phases.py", "score")]
    assert not issubclass(TuneData, FinalData)


# Determinism.

class Scatter(Regularizer):
    """Uses an operation that has no deterministic form."""

    name = "scatter"

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)
        extra: Tensor = torch.zeros(4).put_(torch.tensor([0, 1]), torch.ones(2))
        return {**terms, "loss": terms["loss"] + 0 * extra.sum()}


def test_strict_mode_refuses_what_has_no_deterministic_form_and_the_record_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, Scatter())
    strict, loose = _run(tmp_path / "a", strict=True), _run(tmp_path / "b", strict=False)
    assert strict.status == "failed" and strict.failure is not None
    assert "does not have a deterministic implementation" in strict.failure.message
    assert strict.provenance.deterministic
    assert loose.status == "ok" and not loose.provenance.deterministic


@pytest.mark.parametrize("method", ("lora+pace", "full+tpgm"))
def test_the_same_spec_gives_the_same_numbers_and_another_seed_others(method: str, tmp_path: Path) -> None:
    first, second = _run(tmp_path / "a", method), _run(tmp_path / "b", method)
    assert (first.history, first.metrics, first.params) == (second.history, second.metrics, second.params)
    digests = [[a.sha256 for a in r.artifacts if a.kind == "adapter"] for r in (first, second)]
    assert digests[0] and digests[0] == digests[1]
    assert _run(tmp_path / "c", method, seed=1).history != first.history


# Statuses.

def test_a_run_that_diverges_says_at_which_step(tmp_path: Path) -> None:
    record = _run(tmp_path, "full", lr=1e30, clip=0.0, schedule="constant")
    assert record.status == "diverged" and record.failure is not None
    assert record.failure.kind == "numbers" and record.failure.step is not None and record.test_passes == 0


@pytest.mark.parametrize(("error", "status", "kind"), (
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", "memory"),
    (MemoryError(), "oom", "memory"),
    (DataError("a/b.jpg is cut short"), "failed", "data"),
    (ZeroDivisionError("by zero"), "failed", "code")))
def test_every_end_has_its_status(error: Exception, status: str, kind: str, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    _with(monkeypatch, Rogue(fail))
    record = _run(tmp_path)
    assert record.failure is not None
    assert (record.status, record.failure.kind, record.failure.stage) == (status, kind, "train")
    if status == "oom":
        assert "batch 16" in record.failure.message
