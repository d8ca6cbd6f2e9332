"""SNELL from the authors' code in float64, entry by entry; its anchor; what it keeps for backward."""

from __future__ import annotations

import copy

import pytest
import torch
from robust_kit import setup
from tiny_models import adapted, features, images, scramble, tiny_vit
from torch import Tensor

from methods.grammar import MethodError

D = 48


def theirs(u1: Tensor, v1: Tensor, u2: Tensor, v2: Tensor, rho: float) -> Tensor:
    """(i, o), the transposed update: distances pair by pair, a threshold found by sorting."""
    def dist(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([(a[i] - b).pow(2).sum(1).sqrt() for i in range(len(a))])

    w = 0.1 * (dist(u1, v1) - dist(u2, v2))
    if rho == 0:
        return w
    ordered = w.detach().abs().flatten().sort().values
    place = rho * (len(ordered) - 1)
    low = int(place)
    threshold = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    return w * (w.detach().abs() * (w.detach().abs() > threshold))


@pytest.mark.parametrize("rho", [0.0, 0.37, 0.9])
@pytest.mark.parametrize("role, target, rows", [("attn.qkv", "k", slice(D, 2 * D)), ("mlp.fc2", "fc2", slice(0, D))])
def test_update_and_gradients_are_the_authors(rho: float, role: str, target: str, rows: slice) -> None:
    net = tiny_vit().double()
    plain = copy.deepcopy(net).get_submodule(f"blocks.1.{role}")
    _, model = adapted(f"snell(rank=6, rho={rho})", net)
    layer = model.eval().get_submodule(f"blocks.1.{role}")
    pair = layer.lora[target]  # type: ignore[union-attr, index]
    mine = [pair.u1, pair.v1, pair.u2, pair.v2]
    other = [p.detach().clone().requires_grad_() for p in mine]
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(3),  # type: ignore[call-overload]
                    dtype=torch.float64)
    got = layer(x)[..., rows]
    want = plain(x)[..., rows] + x @ theirs(*other, rho)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    got.square().sum().backward()
    want.square().sum().backward()
    for one, two in zip(mine, other, strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-7, atol=1e-9)
        assert one.grad.any()
    kept = float((pair.product() != 0).double().mean())
    assert abs(kept - (1 - rho)) < 0.01


def test_at_its_anchor_it_is_the_pretrained_function_and_at_the_start_it_is_not() -> None:
    net = tiny_vit()
    expected = features(copy.deepcopy(net), images())
    _, fit = setup("snell", net, size=32)
    assert not torch.allclose(features(fit.model, images()), expected, atol=1e-4)
    scramble(fit.model)
    assert fit.anchor.keys() == fit.peft.keys()
    for view in fit.views:
        view.write(torch.zeros(1))
    torch.testing.assert_close(features(fit.model, images()), expected, rtol=0, atol=1e-5)


def test_one_matrix_of_a_weights_size_is_kept_for_backward() -> None:
    _, model = adapted("snell(rank=4, dropout=0.0, drop_path=0.0)", tiny_vit())
    layer = model.blocks[0].mlp.fc1  # type: ignore[index, union-attr]
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
        layer.lora["fc1"](torch.randn(2, 3, D, requires_grad=True))
    assert sizes.count(4 * D * D) == 1  # the update itself, for the gradient of the input


def test_an_odd_rank_is_refused() -> None:
    with pytest.raises(MethodError, match="rank is even"):
        adapted("snell(rank=5)", tiny_vit())
