"""`check-method` tells a beginner what is wrong in a part, where, and what to write; what ships passes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from bench import cli
from bench.battery import adapters, further, subject
from bench.battery.verdicts import judge
from methods.base import Adapter, Batch, Constraint, Delta, Feature, Fit, Objective, Regularizer, Terms
from methods.compose import Method, part
from methods.vit import freeze, replace_head


class Add(Delta):
    """x -> what is added to the tokens; its author may make one mistake."""

    def __init__(self, width: int, depth: int, mistake: str) -> None:
        super().__init__()
        self.depth, self.mistake = depth, mistake
        self.shift = nn.Parameter(torch.zeros(width + (mistake == "shape")))
        self.gate = nn.Parameter(torch.zeros(())) if mistake == "two zeros" else None
        self.drawn = torch.randn(width) if mistake == "not stored" else torch.zeros(width)

    def forward(self, x: Tensor) -> Tensor:
        if self.mistake == "misspelt":
            return self.shfit.expand_as(x)  # type: ignore[no-any-return, operator]
        if self.mistake == "tokens":
            return self.shift.expand(len(x), 17, -1)
        if self.mistake == "noise":
            return self.shift.expand_as(x) + torch.randn_like(x)
        if self.mistake == "batch":
            return self.shift + 0 * x + (x.mean(0, keepdim=True) - x.mean(0, keepdim=True).detach()) + (
                self.shift * x.mean(0, keepdim=True))
        out = x + self.shift - x + self.shift * self.drawn
        return self.gate * out if self.gate is not None else out


class Wrapped(nn.Module):
    def __init__(self, block: nn.Module, add: Add) -> None:
        super().__init__()
        self.block, self.add = block, add

    def forward(self, x: Tensor, **kwargs: object) -> Tensor:
        return self.block(x + self.add(x), **kwargs)  # type: ignore[no-any-return]


@part("ssf")  # under a name that the catalog knows
class Shift(Adapter):
    """A right one, whose author may make one mistake."""

    formula = "d L"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "tokens"})
    mistake: Annotated[str, "which"] = ""

    def build(self, backbone: nn.Module, classes: int) -> Any:
        net: Any = backbone
        if self.mistake != "freeze":
            freeze(net)
        if self.mistake == "norm":
            net.norm.weight.requires_grad_(True)
        for depth, block in enumerate(net.blocks):
            net.blocks[depth] = Wrapped(block, Add(net.embed_dim, depth, self.mistake))
        return replace_head(net, classes)


MISTAKES: list[tuple[str, Callable[[str], str], str]] = [
    ("freeze", adapters.start, r"begin build with freeze\(backbone\).* \(tests/bench/test_check_method.py, line \d+\)"),
    ("shape", adapters.start, "must match .*; it broke in 'blocks.0.add' .Add., which was given .6, 17, 48."),
    ("misspelt", adapters.start, "AttributeError: 'Add' object has no attribute 'shfit'; did you mean 'shift'?"),
    ("two zeros", adapters.gradients, r"is zero in three steps \(tests/.*line \d+\): two factors that both begin at"),
    ("noise", adapters.evaluation, "two passes over the same images differ.*draw only if self.training"),
    ("batch", adapters.evaluation, "depends on the other images of its batch"),
    ("not stored", adapters.storing, "after storing and loading the answers differ .* register_buffer"),
    ("tokens", adapters.forms, "must match .*; on a ViT with registers; it broke in 'blocks.0"),
    ("norm", adapters.forms, "no attribute 'weight'; an Identity stands where .* fc_norm .*; on a ViT with no class"),
    ("", adapters.forms, "is float32 on a float64 backbone .*make it with zeros"),
]


@pytest.mark.parametrize(("mistake", "check", "sentence"), MISTAKES, ids=[m or "type" for m, *_ in MISTAKES])
def test_a_mistake_is_told_with_what_to_write(mistake: str, check: Callable[[str], str], sentence: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    made = Shift(mistake=mistake)
    monkeypatch.setattr("bench.engine.firstlook._as_by_default", lambda adapter, free: True)
    monkeypatch.setattr(adapters, "adapter_of", lambda text: made)
    monkeypatch.setattr(subject, "create", lambda text: Method(text, made, [], []))
    (found,) = judge(iter([("it", lambda: check("ssf"))]))
    assert not found.good and re.search(sentence, found.told) and "\n" not in found.told, found.told


class Forgetful(Regularizer):
    """Counts its steps and keeps the count to itself."""

    def attach(self, fit: Fit) -> None:
        self.steps = 0

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)
        self.steps += 1
        return {**terms, "loss": terms["loss"] * self.steps + 0.1 * self.steps * sum(
            (p ** 2).sum() for p in fit.trainable.values())}


class Bare(Regularizer):
    """Gives the loss alone."""

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        return {"loss": base(fit, batch)["loss"]}


class Greedy(Constraint):
    """Shrinks what is frozen too."""

    def after_step(self, fit: Fit) -> None:
        with torch.no_grad():
            for p in fit.model.parameters():
                p.mul_(0.9)


@pytest.mark.parametrize(("made", "check", "sentence"), [
    (Forgetful, further.going_on, "must be in state"),
    (Bare, further.step, "loss gave 'loss': return .*with 'loss' and 'logits' among them"),
    (Greedy, further.training, "the frozen weight .* changed; write into fit.trainable alone")])
def test_mistakes_of_other_parts_are_told_too(made: type, check: Callable[[str], str], sentence: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def create(text: Any) -> Method:
        parts = [made()]
        return Method(text, adapter, [p for p in parts if isinstance(p, Regularizer)],
                      [p for p in parts if isinstance(p, Constraint)])

    adapter = subject.adapter_of("bitfit")
    monkeypatch.setattr(subject, "create", create)
    (found,) = judge(iter([("it", lambda: check("bitfit"))]))
    assert not found.good and re.search(sentence, found.told), found.told


@pytest.mark.parametrize("name", ["lora(rank=2)", "pace", "tpgm"])
def test_what_ships_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = cli.main(["check-method", name]), capsys.readouterr().out
    assert status == 0 and told.startswith(name) and "all is well" in told and "WRONG" not in told, told


def test_what_is_no_part_is_answered_by_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-method", "lroa"]) == 2
    assert "'lroa' is no one part; did you mean lora" in capsys.readouterr().err


def test_a_mistake_that_stops_every_check_is_not_told_nine_times(capsys: pytest.CaptureFixture[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "adapter_of", lambda text: Shift(mistake="shape"))
    monkeypatch.setattr(subject, "create", lambda text: Method(text, Shift(mistake="shape"), [], []))
    assert cli.main(["check-method", "ssf"]) == 1
    told = capsys.readouterr().out
    assert told.count("WRONG") == 9 and told.count("must match") == 3, "where it broke is told by two of them"
    assert "WRONG  training: as gradients" in told, told
