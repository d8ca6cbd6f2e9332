"""Zero-init traps of the field, shown to be caught: the checks of the battery fail when the trap is sprung."""

from __future__ import annotations

import copy

import pytest
import torch
from test_adapters import check_alive, check_start
from timm.models.vision_transformer import VisionTransformer, init_weights_vit_timm
from tiny_models import adapted, features, images, step, tiny_vit
from torch import nn

from methods.adapters.bottleneck import Bottleneck, initialise
from methods.insertion import deltas


def test_timm_overwriting_the_zeros_of_an_adapter_would_be_caught() -> None:
    """NOAH, V-PETL and OSU build adapters inside the ViT, whose last act re-initialises every linear layer."""
    net = tiny_vit()
    plain = features(copy.deepcopy(net), images())
    adapter, model = adapted("adapter_pfeiffer", net)
    check_start(adapter, features(model, images()), plain)
    ups = [d.up for _, d in deltas(model) if isinstance(d, Bottleneck)]
    assert len(ups) == 3 and all(not up.weight.any() for up in ups)
    for _, delta in deltas(model):
        delta.apply(init_weights_vit_timm)  # what timm's constructor would do to an adapter built inside it
    assert all(up.weight.std() > 0.01 for up in ups)
    with pytest.raises(AssertionError, match="off by"):
        check_start(adapter, features(model, images()), plain)


def test_timm_really_overwrites_what_is_built_inside_it() -> None:
    class Inside(VisionTransformer):
        def init_weights(self, mode: str = "", needs_reset: bool = True) -> None:
            self.up = nn.Linear(4, 4)
            nn.init.zeros_(self.up.weight)
            super().init_weights(mode, needs_reset)

    assert Inside(img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=3).up.weight.any()


def sprung(start: str) -> nn.Module:
    _, model = adapted("adapter_pfeiffer(dropout=0.0)", tiny_vit())
    for _, delta in deltas(model):
        assert isinstance(delta, Bottleneck)
        if start == "zero":
            for p in delta.parameters():
                nn.init.zeros_(p)
        else:
            initialise(delta.down, delta.up, start)
    return model


def test_an_adapter_with_both_projections_at_zero_would_be_caught() -> None:
    """VPT's released Adapter baseline: the gradients are each other's product, so only the up bias ever moves."""
    model = sprung("zero")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, steps=20)
    with pytest.raises(AssertionError, match=r"down\.weight"):
        check_alive(model, before)
    moved = {n.rpartition("post_mlp.")[2] for n, p in model.named_parameters()
             if p.requires_grad and "points" in n and not torch.equal(p.detach(), before[n])}
    assert moved == {"up.bias"}


@pytest.mark.parametrize("start", ["lora", "houlsby", "xavier", "bert"])
def test_every_start_we_ship_moves_all_four_tensors_within_two_steps(start: str) -> None:
    model = sprung(start)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, steps=2)
    check_alive(model, before)


def test_only_b_moves_in_the_first_step_of_lora() -> None:
    _, model = adapted("lora", tiny_vit())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, steps=1)
    moved = {n.rpartition(".")[2] for n, p in model.named_parameters()
             if ".lora." in n and not torch.equal(p.detach(), before[n])}
    assert moved == {"up"}


def test_starts_survive_the_build() -> None:
    """Statistics of fresh tensors against the spec, after everything is woven in."""
    _, model = adapted("adapter_houlsby(bottleneck=32)", tiny_vit())
    for _, delta in deltas(model):
        for p in (delta.down.weight, delta.up.weight):  # type: ignore[union-attr]
            assert p.abs().max() <= 0.02 and 0.0080 < p.std() < 0.0096  # normal 0.01 cut at two deviations
    _, model = adapted("lora(rank=32)", tiny_vit())
    for _, delta in deltas(model):
        bound = 48**-0.5  # kaiming-uniform with a = sqrt 5
        assert 0.98 * bound < delta.down.abs().max() <= bound and not delta.up.any()  # type: ignore[operator, union-attr]
    _, model = adapted("lora_mul(rank=8)", tiny_vit())
    for _, delta in deltas(model):
        bound = (6 / sum(delta.down.shape)) ** 0.5  # type: ignore[union-attr, arg-type]
        assert 0.9 * bound < delta.down.abs().max() <= bound  # type: ignore[operator, union-attr]
