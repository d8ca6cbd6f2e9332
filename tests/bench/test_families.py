"""One real step on each family of backbones: what the table says it carries trains and its ledger is forecast to the
byte, what it does not carry is refused while planning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import timm

from bench.engine import carry
from bench.engine.backbones import FAMILIES, family
from bench.engine.forecast import forecast
from bench.perf.rig import BATCHES, CLASSES, Rig
from methods.catalog import catalog
from methods.grammar import parse

from . import tiny

# A network of each family that timm has by name, few pixels, random weights; SMALLER makes the larger ones shallow.
NETS = {"vit": (tiny.MODEL, tiny.SIZE), "eva": ("eva02_tiny_patch14_224", 28), "beit": ("beit_base_patch16_224", 32),
        "swin": ("swin_tiny_patch4_window7_224", 56), "swinv2": ("swinv2_tiny_window8_256", 64),
        "resnet": ("test_resnet", 32), "convnext": ("test_convnext", 64), "efficientnet": ("test_efficientnet", 64),
        "mobilenet": ("mobilenetv4_conv_small_035", 32)}
SMALLER: dict[str, dict[str, Any]] = {
    "eva02_tiny_patch14_224": dict(depth=2, embed_dim=48),
    "beit_base_patch16_224": dict(depth=2, embed_dim=48, num_heads=3),
    "swin_tiny_patch4_window7_224": dict(depths=(1, 1, 2, 1), embed_dim=24),
    "swinv2_tiny_window8_256": dict(depths=(1, 1, 2, 1), embed_dim=24)}
METHODS = ("lora+pace", "vpt_deep", "full+tpgm")


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    whole = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **given: whole(name, **given | SMALLER.get(name, {})))
        yield
    tiny.forget()


def test_every_family_is_here() -> None:
    assert NETS.keys() == FAMILIES.keys()
    assert all(family(name) == kind for kind, (name, _) in NETS.items())


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_taken_as_forecast_or_refused(method: str, kind: str) -> None:
    name, size = NETS[kind]
    told = carry.problems(name, [parse(method)], size)
    if kind not in catalog()[method.partition("+")[0]].families:
        assert len(told) == 1 and f"not this {kind}; adapters that fit it" in told[0]
        return
    assert not told
    one = replace(tiny.spec(method, batch_size=4), model=name, image_size=size)
    rig = Rig(one)
    seen = rig.first_step()
    assert seen.saved_bytes is not None and seen.saved_bytes > 0
    assert forecast(one, CLASSES, BATCHES * one.batch_size).memory == seen
