"""Gross mistakes of a method's author are refused in one sentence; every method that ships passes unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import timm
import torch
from torch import Tensor, nn

from bench.engine import firstlook
from bench.engine.firstlook import FirstLook
from bench.engine.putback import random_state
from bench.engine.record import execute
from bench.engine.where import Where
from methods.base import Adapter, Delta, Feature, Fit
from methods.catalog import catalog
from methods.compose import create, part
from methods.formula import problem, weights_of
from methods.grammar import MethodError, parse
from methods.vit import freeze, head_names, replace_head
from results.schema import RunSpec

from . import tiny

ADAPTERS = [i for i in catalog().values() if i.kind == "adapter"]


class Add(Delta):
    """x -> what is added to the tokens."""

    def __init__(self, width: int, depth: int | None, start: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(start * torch.linspace(-1, 1, width))
        if depth is not None:
            self.depth = depth

    def forward(self, x: Tensor) -> Tensor:
        return self.shift.expand_as(x)


class Wrapped(nn.Module):
    def __init__(self, block: nn.Module, add: Add, used: bool) -> None:
        super().__init__()
        self.block, self.add, self.used = block, add, used

    def forward(self, x: Tensor, **kwargs: object) -> Tensor:
        return self.block(x + self.add(x) if self.used else x, **kwargs)  # type: ignore[no-any-return]


@part("token_shift")
class Shift(Adapter):
    """A right one, whose author may make one mistake."""

    formula = "d L"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "tokens"})

    start: Annotated[float, "of the vector"] = 0.0
    mistake: str = ""

    def build(self, backbone: nn.Module, classes: int) -> Any:
        net: Any = backbone
        if self.mistake != "freeze":
            freeze(net)
        for depth, block in enumerate(net.blocks):
            add = Add(net.embed_dim, None if self.mistake == "depth" else depth, self.start)
            net.blocks[depth] = Wrapped(block, add, self.mistake != "unused" or depth > 0)
        if self.mistake == "nothing":
            replace_head(net, classes)
            return None
        if self.mistake == "head":
            return net
        model = replace_head(net, classes)
        if self.mistake == "late freeze":
            freeze(model)
        return model


def look_at(adapter: Adapter, backbone: nn.Module, size: int, classes: int = 5) -> nn.Module:
    """What the loop does with it, as far as the first backward pass."""
    look = FirstLook(adapter, backbone, size)
    model = look.built(backbone, classes)
    model.train()
    x, y = torch.randn(4, 3, size, size), torch.arange(4) % classes
    nn.functional.cross_entropy(model(x), y).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    nothing: Any = {}
    look.after_backward(Fit(model, trained, head_names(model), nothing, iter(()), 1, 1, 0, 0, classes, 4,
                            torch.zeros(3), torch.ones(3), 0.1, 0.0))
    return model


def vit(**options: Any) -> nn.Module:
    tiny.use()
    torch.manual_seed(0)
    return timm.create_model(tiny.MODEL, num_classes=0, **options)


MISTAKES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("freeze", {}, {}, r"trains [\d,]+ weights of the backbone and says nothing of it; begin build with freeze"),
    ("freeze", {}, {"offers": frozenset({"delta", "anchor"})}, "begin build with freeze"),
    ("freeze", {}, {"offers": frozenset({"delta", "anchor"}), "formula": "see the paper"}, "begin build with freeze"),
    ("head", {}, {}, "gives 24 numbers for each image, for 5 classes; end build with return replace_head"),
    ("late freeze", {}, {}, "the head does not train"),
    ("nothing", {}, {}, r"build returned None: return replace_head\(backbone, classes\)"),
    ("depth", {}, {}, "the Delta 'blocks.0.add' has no depth"),
    ("unused", {}, {}, "the loss does not reach 1 of 4 trained tensors, first 'blocks.0.add.shift'"),
    ("", {}, {"formula": "d L + d"}, "trains 48 weights without the head, but its formula 'd L [+] d' gives 72"),
    ("", {"start": 0.5}, {}, "says at_start = 'exact', but at the start its features differ"),
    ("", {"start": 5.0}, {"at_start": "near"}, "says at_start = 'near', but at the start"),
]


@pytest.mark.parametrize(("mistake", "options", "says", "sentence"), MISTAKES,
                         ids=[f"{m or 'claim'}-{i}" for i, (m, *_) in enumerate(MISTAKES)])
def test_a_gross_mistake_is_refused_in_one_sentence(mistake: str, options: dict[str, Any], says: dict[str, Any],
                                                    sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in says.items():
        monkeypatch.setattr(Shift, name, value)
    adapter = Shift(**options)
    adapter.__dict__["mistake"] = mistake
    monkeypatch.setattr(firstlook, "_as_by_default", lambda adapter, free: True)  # `mistake` is no option of a real one
    with pytest.raises(MethodError, match=sentence) as caught:
        look_at(adapter, vit(), tiny.SIZE)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("'token_shift'")


def test_the_same_adapter_without_a_mistake_passes() -> None:
    look_at(Shift(), vit(), tiny.SIZE)


def settings(name: str) -> list[str]:
    """The adapter as it is, and with each choice and switch of its options set another way.

    The tuners behind `peft` have defaults for wide networks and a battery of their own.
    """
    info, found = catalog()[name], [name]
    if info.facts.get("requires"):
        return found
    for option in info.options:
        others = option.choices or ((not option.default,) if option.type == "bool" else ())
        found += [f"{name}({option.name}={value!r})" for value in others if value != option.default]
    return found


@pytest.mark.parametrize("text", [t for i in ADAPTERS if "vit" in i.families for t in settings(i.name)])
def test_every_adapter_that_ships_passes_in_every_setting(text: str) -> None:
    try:
        adapter = create(parse(text)).adapter
    except MethodError:
        pytest.skip("the setting goes with another")
    torch.manual_seed(1)
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3,
                            num_classes=0)
    look_at(adapter, net, 32)


@pytest.mark.parametrize("form", [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}, {"qkv_bias": False},
                                  {"init_values": 0.1}, {"pre_norm": True}, {"mlp_ratio": 2.0}, {"qk_norm": True},
                                  {"global_pool": "avg", "fc_norm": True}], ids=lambda f: "-".join(f))
@pytest.mark.parametrize("name", ["lora", "bitfit", "ln_tune", "partial_k", "full", "adapter_plus", "ssf", "unipt"])
def test_other_forms_of_vit_are_not_refused_for_the_count(name: str, form: dict[str, Any]) -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3,
                            num_classes=0, **form)
    look_at(create(parse(name)).adapter, net, 32)


@pytest.mark.parametrize("text", [t for i in ADAPTERS if "resnet" in i.families
                                  for t in ([i.name] if "vit" in i.families else settings(i.name))])
def test_a_resnet_passes(text: str) -> None:
    look_at(create(parse(text)).adapter, timm.create_model("resnet26", num_classes=0), 64)


@pytest.mark.parametrize("name", [i.name for i in ADAPTERS if "swin" in i.families])
def test_a_swin_passes(name: str) -> None:
    from timm.models.swin_transformer import SwinTransformer

    look_at(create(parse(name)).adapter, SwinTransformer(
        img_size=32, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=0), 32)


def test_the_look_leaves_no_trace() -> None:
    """Random streams, modes, gradients, running statistics, hooks: all as they were."""
    net = timm.create_model("resnet10t", num_classes=0, drop_rate=0.5)
    net.train()
    net.layer1.eval()
    torch.manual_seed(3)
    modes, buffers = [m.training for m in net.modules()], {n: b.clone() for n, b in net.named_buffers()}
    before, at_start = random_state()["torch"].clone(), {n: p.detach().clone() for n, p in net.named_parameters()}
    firstlook._seen(net, torch.ones(2, 3, 64, 64))
    assert torch.equal(before, random_state()["torch"])
    assert modes == [m.training for m in net.modules()]
    assert all(torch.equal(b, buffers[n]) for n, b in net.named_buffers())
    assert all(p.grad is None and torch.equal(p.detach(), at_start[n]) for n, p in net.named_parameters())
    assert not any(m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(("text", "values", "number"), [
    ("d L", {"d": 7, "L": 3}, 21), ("2 d (2 L + 1)", {"d": 7, "L": 3}, 98),
    ("2 L (d b + b + d b / groups + d); where='attn': half", {"d": 4, "L": 2, "b": 3, "groups": 2}, 100),
    ("27 w^2 + 60 w, w = width", {"width": 2}, 228), ("h + 1, h = d / r", {"d": 7, "r": 2}, 4), ("0", {}, 0),
    ("d - L - 1", {"d": 9, "L": 2}, 6), ("per target 2 d", {"d": 7}, None), ("see the paper", {}, None),
    ("d (L", {"d": 1, "L": 1}, None), ("d / L", {"d": 7, "L": 2}, None), ("", {}, None), ("d / 0", {"d": 1}, None)])
def test_a_formula_is_computed_or_is_words(text: str, values: dict[str, int], number: int | None) -> None:
    assert weights_of(text, values) == number


@pytest.mark.parametrize(("text", "at"), [
    ("(" * 20000, "has 20000 characters"), ("(" * 400, "bracket"), ("d q", "'q'"), ("d L +", "its end"),
    ("d (L", "bracket"),
    ("d ! L", "'!'"), ("9^9999999", "'^'"), ("d^(1/2)", "'^'"), ("d, L", "' L'"), ("2 rank ) d", "')'")])
def test_a_formula_that_is_no_words_and_cannot_be_read_is_told(text: str, at: str) -> None:
    assert at in problem(text, {"d", "L", "rank"}) and len(problem(text, {"d", "L", "rank"})) < 250
    assert weights_of(text, {"d": 4, "L": 2, "rank": 2}) is None


@pytest.mark.parametrize("text", ["", "0", "see the paper", "per target 2 d", "d / (d - L)", "h + 1, h = d / rank",
                                  "(1 + S) d, S side blocks", "2 d rank; shared: (1 + n) d"])
def test_words_and_what_can_be_read_are_no_mistake(text: str) -> None:
    assert problem(text, {"d", "L", "rank"}) == ""


def test_a_computed_formula_that_cannot_be_read_ends_the_run_in_a_sentence() -> None:
    class Computed(Shift):
        formula = "(" * 20000

    with pytest.raises(MethodError, match="its formula has 20000 characters"):
        firstlook._expected(Computed(), timm.create_model(tiny.MODEL, num_classes=0))


@pytest.mark.parametrize("look", [FirstLook._check_head, FirstLook.after_backward], ids=["built", "first step"])
def test_a_run_ends_with_the_sentence_and_no_row(look: Callable[..., None], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop asks: what the look refuses is a failed run of the kind `method`, with its sentence."""
    def refuse(*_: object) -> None:
        raise MethodError("'lora': no")

    tiny.use()
    monkeypatch.setattr(FirstLook, look.__name__, refuse)
    spec: RunSpec = tiny.spec("lora", epochs=1)
    where: Where = tiny.where(tmp_path)
    record = execute(spec, {}, where, tmp_path / "runs")
    tiny.forget()
    assert record.status == "failed" and record.failure is not None
    assert (record.failure.kind, record.failure.message) == ("method", "'lora': no")
