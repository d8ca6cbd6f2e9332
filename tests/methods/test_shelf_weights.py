"""Adapters of the shelf that change weights, each once more from its paper's formula in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from formula_kit import D, built, close, tokens
from robust_kit import setup
from tiny_models import adapted, images, scramble, tiny_vit, trainable
from torch import Tensor

from methods.base import Fit
from methods.grammar import MethodError

# ---- PaCA


def test_paca_is_full_fine_tuning_of_the_chosen_columns() -> None:
    """Three steps of SGD against a dense weight whose gradient is masked: the authors' update, written densely."""
    net = tiny_vit().double()
    _, model = adapted("paca(rank=5, targets='o')", net)
    layer = model.blocks[1].attn.proj  # type: ignore[index, union-attr]
    dense = layer.weight.detach().clone().requires_grad_()
    start, index = layer.weight.detach().clone(), layer.lora["o"].index.long()
    mask = torch.zeros(D, dtype=torch.float64).index_fill(0, index, 1.0)
    x, target = tokens(), tokens().flip(0)
    one = torch.optim.SGD([layer.lora["o"].moved], lr=0.5, momentum=0.9)
    other = torch.optim.SGD([dense], lr=0.5, momentum=0.9)
    for _ in range(3):
        one.zero_grad(), other.zero_grad()
        y = layer(x)
        F.mse_loss(y, target).backward()
        z = F.linear(x, dense, layer.bias)
        close(y, z)
        F.mse_loss(z, target).backward()
        dense.grad *= mask  # type: ignore[operator]
        one.step(), other.step()
    close(layer.weight + layer.lora["o"].product(), dense)
    changed = (dense - start).abs().sum(0).nonzero().flatten()
    assert changed.tolist() == index.tolist() and len(set(index.tolist())) == 5
    assert torch.equal(layer.weight, start)


def test_paca_chooses_by_the_seed_and_for_every_target_anew() -> None:
    def chosen(seed: int) -> dict[str, Tensor]:
        return {n: b for n, b in adapted("paca", tiny_vit(), seed)[1].named_buffers() if n.endswith(".index")}

    first, again, other = chosen(1), chosen(1), chosen(2)
    assert len(first) == 3 * 6 and all(torch.equal(first[n], again[n]) for n in first)
    assert sum(torch.equal(first[n], other[n]) for n in first) < 2
    assert len({tuple(b.tolist()) for b in first.values()}) > 12


def test_paca_keeps_for_backward_only_the_chosen_inputs() -> None:
    _, model = adapted("paca(rank=4, targets='fc1')", tiny_vit())
    layer = model.blocks[0].mlp.fc1  # type: ignore[index, union-attr]
    x = torch.randn(2, 9, D, requires_grad=True)
    sizes: list[int] = []
    own = {p.data_ptr() for p in layer.parameters()} | {b.data_ptr() for b in layer.buffers()}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: (sizes.append(t.numel()) if t.data_ptr() not in own else None, t)[1], lambda t: t):
        layer(x)
    assert sum(sizes) == 2 * 9 * 4


def test_paca_cannot_choose_more_columns_than_there_are() -> None:
    with pytest.raises(MethodError, match="has 48 columns"):
        adapted("paca(rank=49)", tiny_vit())


# ---- VeRA


def test_vera_scales_one_random_pair_cut_to_each_layer() -> None:
    plain, model = built("vera(rank=7, targets='q,v,fc1,fc2')")
    pair = model.vera
    assert pair.down.shape == (7, 4 * D) and pair.up.shape == (4 * D, 7)  # the widest of the targets
    old, new = plain.blocks[1], model.blocks[1]  # type: ignore[index]
    at = new.attn.qkv.lora
    weight = old.attn.qkv.weight.detach().clone()
    for name, first in (("q", 0), ("v", 2 * D)):
        b, d = at[name].b, at[name].d
        weight[first:first + D] += torch.diag(b) @ pair.up[:D] @ torch.diag(d) @ pair.down[:, :D]
    close(new.attn.qkv(tokens()), tokens() @ weight.T + old.attn.qkv.bias)
    b, d = new.mlp.fc2.lora["fc2"].b, new.mlp.fc2.lora["fc2"].d
    change = torch.diag(b) @ pair.up[:D] @ torch.diag(d) @ pair.down
    close(new.mlp.fc2(tokens(width=4 * D)), old.mlp.fc2(tokens(width=4 * D)) + tokens(width=4 * D) @ change.T)


def test_veras_pair_follows_from_its_key_alone_and_is_not_stored() -> None:
    first = adapted("vera(rank=7)", tiny_vit(), seed=1)[1]
    again = adapted("vera(rank=7)", tiny_vit(seed=4), seed=2)[1]
    other = adapted("vera(rank=7, key=1)", tiny_vit())[1]
    assert torch.equal(first.vera.down, again.vera.down) and torch.equal(first.vera.up, again.vera.up)  # type: ignore
    assert not torch.equal(first.vera.down, other.vera.down)  # type: ignore[union-attr, arg-type]
    assert not [n for n in first.state_dict() if n.startswith("vera.")]
    assert all(bool((p == 0.1).all()) for n, p in trainable(first).items() if n.endswith(".d"))


def fit_of(text: str) -> Fit:
    return setup(text, tiny_vit(), size=32)[1]


@pytest.mark.parametrize("text", ["paca", "vera"])
def test_every_view_leads_back_to_the_pretrained_weights(text: str) -> None:
    fit = fit_of(text)
    plain = tiny_vit()
    scramble(fit.model)
    x = images(2)
    for view in fit.views:
        assert view.norms("mars").shape[0] in (1, view.param.shape[0])
        view.write(torch.zeros(1))
    fit.model.eval(), plain.eval()
    with torch.no_grad():
        got, expected = fit.model.forward_features(x), plain.forward_features(x)  # type: ignore[operator]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
