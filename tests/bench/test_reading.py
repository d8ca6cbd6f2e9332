"""A step asks no tensor for its number; what it leaves on the device is read later, and nothing is missed by then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.engine import course, record, step, train
from bench.engine.checkpoint import Checkpoints
from bench.engine.optim import learning_rate, make_optimizer, set_rate
from bench.perf.rig import Rig
from methods import tasks
from methods.catalog import catalog

from . import tiny

# On a GPU each of these waits for the device: a number, a truth, a list of places, two tensors that are compared.
WAITING = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select",
           "aten::unique_dim", "aten::_unique2"}
# Parts whose step reads numbers: their files say why. What they read is named in docs/performance.md.
READERS = {"mars_sp"}


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes who asks a tensor for its number: `.item()`, `float()`, `bool()`, `int()`, an index by truth, ..."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in WAITING or (name == "aten::index" and any(
                t is not None and t.dtype == torch.bool for t in args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def asked_in_a_step(method: str, **changes: Any) -> list[str]:
    """Two steps of the rig, which are the loop's; the second is watched."""
    rig = Rig(tiny.spec(method, dataset="made-up", data="made-up", batch_size=4, **changes))
    rig.first_step()
    with Asked() as watching:
        step.take(rig, rig.course, rig.batch, first=False)
    return watching.found


@pytest.mark.parametrize("ask", [lambda t: t.item(), float, bool, int, lambda t: t.tolist(), lambda t: t[t > 0],
                                 lambda t: t.nonzero(), lambda t: torch.equal(t, t)])
def test_whatever_waits_for_the_device_is_noticed(ask: Any) -> None:
    t = torch.ones((), requires_grad=False)
    with Asked() as watching:
        ask(t)
    if watching.found == []:  # a list of a CPU's tensor is read without an operation
        assert ask(t) == 1.0
    else:
        assert len(watching.found) >= 1


@pytest.mark.parametrize("method", ["lora", "full", "bitfit", "sherl", "linear"])
@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "clip": 0.0, "precision": "bf16"}], ids=str)
def test_no_tensor_is_asked_for_its_number_in_a_step(method: str, changes: dict[str, Any]) -> None:
    assert asked_in_a_step(method, **changes) == []


def test_the_parts_that_read_numbers_in_a_step_are_known() -> None:
    parts = sorted(p.name for p in catalog().values() if p.kind != "adapter")
    reading = {name for name in parts if asked_in_a_step(f"{'lp_ft' if name == 'fsl2' else 'lora'}+{name}")}
    assert reading == READERS


def run(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run's record without its times."""
    spec = tiny.spec("lora", **changes)
    found = asdict(record.execute(spec, {}, tiny.where(folder, checkpoint_every_s=1e9), folder / "runs"))
    for name in ("time", "throughput", "provenance", "attempts", "artifacts"):
        del found[name]
    return found


def test_reading_seldom_gives_the_same_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often = run(tmp_path / "often")
    assert often["status"] == "ok" and len(often["history"]) == 5
    monkeypatch.setattr(train, "reading", lambda device: 7)  # no divisor of the steps, nor of an epoch
    assert run(tmp_path / "seldom") == often


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> int:
    """The loss of step 9 is infinite; the loop would read after 7 steps and after 14."""
    monkeypatch.setattr(train, "reading", lambda device: 7)
    plain = tasks.F.cross_entropy
    seen = {"n": -1}

    def spoilt(logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        loss = plain(logits, *args, **kwargs)
        seen["n"] += torch.is_grad_enabled()
        return loss * float("inf") if seen["n"] == 9 and torch.is_grad_enabled() else loss

    monkeypatch.setattr(tasks, "F", SimpleNamespace(cross_entropy=spoilt))
    return 9


def test_a_loss_that_is_not_finite_is_named_with_its_step_though_found_later(diverging: int, tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found["status"] == "diverged"
    assert found["failure"]["step"] == diverging
    assert found["failure"]["message"] == "the loss is not finite at step 9"


def test_it_is_found_before_the_next_checkpoint(diverging: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                ) -> None:
    stored: list[int] = []
    plain = Checkpoints.save

    def save(self: Checkpoints, at: int, state: dict[str, Any]) -> bool:
        stored.append(at)
        assert state["course"]["unread"] == []
        return plain(self, at, state)

    monkeypatch.setattr(Checkpoints, "save", save)
    spec = tiny.spec("lora")
    found = record.execute(spec, {}, tiny.where(tmp_path), tmp_path / "runs")  # due after every step
    assert found.status == "diverged" and found.failure is not None and found.failure.step == diverging
    assert sorted(set(stored)) == list(range(1, diverging + 1)), "no checkpoint holds the step that went wrong"


def test_a_gpu_is_read_seldom_and_a_cpu_after_every_step() -> None:
    assert course.reading(torch.device("cpu")) == 1
    assert course.reading(torch.device("cuda", 1)) == course.READ_EVERY > 10


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_that_are_tensors_give_the_same_weights(optimizer: str) -> None:
    """As on a GPU, where a tensor is filled in place and no step waits for it."""
    ended = []
    for tensors in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        fit: Any = SimpleNamespace(model=model, trainable=dict(model.named_parameters()), undecayed=set(), adapter=None,
                                   head={"weight"})
        spec = tiny.spec(optimizer=optimizer, head_lr_scale=10.0)
        made = make_optimizer(fit, spec, tensors=tensors)
        rates = [group["lr"] for group in made.param_groups]
        assert all(isinstance(rate, Tensor) == tensors for rate in rates)
        for at in range(8):
            set_rate(made, learning_rate(spec, at, 4))
            made.zero_grad()
            model(torch.ones(2, 6)).square().sum().backward()
            with Asked() as watching:
                made.step()
            assert watching.found == []
        if tensors:
            assert all(a is b["lr"] for a, b in zip(rates, made.param_groups, strict=True)), "filled, not replaced"
        ended.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ended, rtol=1e-5, atol=1e-6)
