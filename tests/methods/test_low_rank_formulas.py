"""LoRA, DoRA and FacT once more, naively, from their papers' formulas, in float64."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from formula_kit import D, X, built, close, tokens
from tiny_models import adapted, features, images, scramble, tiny_vit, trainable
from torch import Tensor

from methods.grammar import MethodError


def test_lora_is_a_product_on_the_rows_of_q_and_v() -> None:
    plain, model = built("lora(rank=3, alpha=6)")
    x, old, new = tokens(), plain.blocks[1].attn.qkv, model.blocks[1].attn.qkv  # type: ignore[index, union-attr]
    weight = old.weight.detach().clone()
    weight[:D] += 2.0 * new.lora["q"].up @ new.lora["q"].down
    weight[2 * D:] += 2.0 * new.lora["v"].up @ new.lora["v"].down
    close(new(x), x @ weight.T + old.bias)


def test_lora_can_share_one_a_for_the_fused_rows() -> None:
    plain, model = built("lora(rank=3, targets='q,v,fc1', shared_a=True)")
    x, old, new = tokens(), plain.blocks[1].attn.qkv, model.blocks[1].attn.qkv  # type: ignore[index, union-attr]
    pair = new.lora["qv"]
    added = 8 / 3 * x @ pair.down.T @ pair.up.T
    zero = torch.zeros_like(added[..., :D])
    close(new(x), old(x) + torch.cat([added[..., :D], zero, added[..., D:]], -1))
    assert list(new.lora) == ["qv"] and list(model.blocks[1].mlp.fc1.lora) == ["fc1"]  # type: ignore[index, union-attr]


@pytest.mark.parametrize("targets", ["", "w", "q;v", "q,kv"])
def test_unknown_targets_are_refused_with_the_known_ones(targets: str) -> None:
    for name in ("lora", "dora"):
        with pytest.raises(MethodError, match=re.escape("q, k, v, o, fc1, fc2")):
            adapted(f"{name}(targets={targets!r})", tiny_vit())


def test_dora_sets_the_length_of_each_row() -> None:
    plain, model = built("dora(rank=3)")
    x, old, new = tokens(), plain.blocks[1].attn.qkv, model.blocks[1].attn.qkv  # type: ignore[index, union-attr]
    weight = old.weight.detach().clone()
    for name, rows in (("q", slice(0, D)), ("v", slice(2 * D, 3 * D))):
        at = new.dora[name]
        v = weight[rows] + 8 / 3 * at.up @ at.down
        weight[rows] = at.magnitude[:, None] * v / v.norm(dim=1, keepdim=True)
        torch.testing.assert_close(weight[rows].norm(dim=1), at.magnitude.abs())
    close(new(x), x @ weight.T + old.bias)


def test_dora_ignores_the_length_of_v_and_holds_its_norm_constant_for_the_gradient() -> None:
    _, model = built("dora(rank=3)")
    layer = model.blocks[0].attn.qkv  # type: ignore[index, union-attr]
    x, at = tokens(), layer.dora["q"]
    before = layer(x)
    w = layer.weight[:D].detach()
    with torch.no_grad():  # V = W + s B A scaled by 3 in row 0, through W and B
        layer.weight[0] *= 3.0
        at.up[0] *= 3.0
    close(layer(x), before)
    weight = torch.randn(before.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (layer(x) * weight).sum().backward()
    with torch.no_grad():
        layer.weight[0] = w[0]
        at.up[0] /= 3.0
    up = at.up.detach().clone().requires_grad_()
    v = w + at.scale * up @ at.down.detach()
    constant = (at.magnitude / v.norm(dim=1)).detach()  # detached, as in the paper's section 4.3
    (((x @ v.T) * constant) * weight[..., :D]).sum().backward()
    close(at.up.grad[1:], up.grad[1:])


def test_dora_leaves_a_frozen_row_of_zeros_as_it_is_and_learns_on() -> None:
    net = tiny_vit().double()
    with torch.no_grad():
        net.blocks[0].attn.qkv.weight[2] = 0.0  # type: ignore[index, union-attr]
    expected = features(copy.deepcopy(net), X)
    adapter, model = adapted("dora(rank=3)", net)
    assert torch.equal(features(model, X), expected)
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    after = features(model, X).detach()
    assert not torch.allclose(after, expected)
    close(features(adapter.merge(model), X), after)


def test_dora_with_dropout_feeds_the_same_dropped_input_to_the_base() -> None:
    _, model = built("dora(rank=3, dropout=0.5, targets='o')")
    layer = model.blocks[0].attn.proj.train()  # type: ignore[index, union-attr]
    at = layer.dora["o"]
    with torch.no_grad():
        at.up.zero_()
        at.magnitude.copy_(2 * layer.weight.norm(dim=1))
    torch.manual_seed(0)
    got = layer(tokens())
    torch.manual_seed(0)
    dropped = F.dropout(tokens(), 0.5)
    close(got, layer.weight.new_zeros(()) + tokens() @ layer.weight.T + layer.bias + dropped @ layer.weight.T)


@pytest.mark.parametrize("text", ["fact_tt(rank=3, scale=2.0)", "fact_tk(rank=3, scale=2.0)"])
def test_fact_changes_each_slice_by_v_s_u(text: str) -> None:
    plain, model = built(text)
    f, depth = model.fact, 1
    first = 12 * depth
    if "tt" in text:
        cores = f.core[first:first + 12]  # type: ignore[union-attr, index]
    else:
        stack = torch.einsum("abj,kj->abk", f.core, f.p[first:first + 12])  # type: ignore[union-attr, index]
        cores = stack.movedim(-1, 0)
    change = [2.0 * f.v @ s @ f.u for s in cores]  # type: ignore[union-attr, operator]
    old, new = plain.blocks[depth], model.blocks[depth]  # type: ignore[index]
    wanted = {"attn.qkv": torch.cat(change[:3]), "attn.proj": change[3], "mlp.fc1": torch.cat(change[4:8]),
              "mlp.fc2": torch.cat(change[8:], dim=1)}
    for path, added in wanted.items():
        a, b = old.get_submodule(path), new.get_submodule(path)
        x = torch.randn(2, 5, a.in_features, dtype=torch.float64)
        close(b(x), x @ (a.weight + added).T + a.bias)


@pytest.mark.parametrize(("layout", "wanted"), [("official", (0.0, 1.0)), ("slices", (0.0, 0.0))])
def test_fact_tk_takes_the_code_as_a_row_in_the_authors_layout(layout: str, wanted: tuple[float, float]) -> None:
    """One entry of the core, from the first index to the second: a row (1, 0) times it is (0, 1)."""
    _, model = built(f"fact_tk(rank=2, tk_layout={layout!r})")
    f, layer = model.fact, model.blocks[0].attn.qkv  # type: ignore[index, union-attr]
    with torch.no_grad():
        for p in (f.u, f.v, f.core, f.p):  # type: ignore[union-attr]
            p.zero_()
        f.u[:, :2], f.v[:2] = torch.eye(2), torch.eye(2)  # type: ignore[union-attr, index, operator]
        f.core[0, 1, 0], f.p[0, 0] = 1.0, 1.0  # type: ignore[union-attr, index, operator]
    x = torch.zeros(D, dtype=torch.float64)
    x[0] = 1.0
    added = layer(x) - F.linear(x, layer.weight, layer.bias)
    close(added[:2], torch.tensor(wanted, dtype=torch.float64))
    assert not added[2:].any()


def test_fact_tk_official_computes_what_the_authors_code_does() -> None:
    """Entry by entry: the stack's last two indices of a mixed layer are counted as one, slice fastest, then divided."""
    plain, model = built("fact_tk(rank=3, scale=2.0, tk_layout='official')")
    f, r, old, new = model.fact, 3, plain.blocks[1], model.blocks[1]  # type: ignore[index]

    def stack(a: int, b: int, k: int) -> Tensor:
        return (f.core[a, b] * f.p[12 + k]).sum()  # type: ignore[union-attr, index, return-value]

    def mixed(first: int) -> Tensor:  # (r, 4 r)
        return torch.stack([torch.stack([stack(a, m // 4, first + m % 4) for m in range(4 * r)]) for a in range(r)])

    x, hidden = tokens(), torch.randn(3, 17, 4 * D, dtype=torch.float64)
    code = x @ f.u.T  # type: ignore[union-attr, operator]
    own = [torch.stack([torch.stack([stack(a, b, k) for b in range(r)]) for a in range(r)]) for k in range(4)]
    added = {"attn.qkv": torch.cat([code @ own[k] @ f.v.T for k in range(3)], -1),  # type: ignore[union-attr]
             "attn.proj": code @ own[3] @ f.v.T,  # type: ignore[union-attr]
             "mlp.fc1": torch.cat([c @ f.v.T for c in (code @ mixed(4)).split(r, -1)], -1)}  # type: ignore[union-attr]
    for path, change in added.items():
        close(new.get_submodule(path)(x), old.get_submodule(path)(x) + 2 * change)
    codes = torch.cat([c @ f.u.T for c in hidden.split(D, -1)], -1)  # type: ignore[union-attr, operator]
    close(new.mlp.fc2(hidden), old.mlp.fc2(hidden) + 2 * codes @ mixed(8).T @ f.v.T)  # type: ignore[union-attr]


def test_layouts_of_fact_tk_have_one_count_and_are_two_functions() -> None:
    outputs = []
    for layout in ("slices", "official"):
        _, model = built(f"fact_tk(rank=4, tk_layout={layout!r})")
        outputs.append((sum(p.numel() for p in trainable(model).values()), features(model, X)))
    assert outputs[0][0] == outputs[1][0] and not torch.allclose(outputs[0][1], outputs[1][1])


def test_fact_fills_the_last_square_of_a_layer_that_is_no_whole_number_of_them() -> None:
    adapter, model = adapted("fact_tt(rank=4)", tiny_vit(mlp_ratio=2.5).double())
    depth, squares = len(model.blocks), 3 + 1 + 3 + 3  # type: ignore[arg-type]  # of q k v, proj, fc1, fc2: two and a half
    new = sum(p.numel() for name, p in trainable(model).items() if not name.startswith("head"))
    assert new == 2 * D * 4 + depth * squares * 4 * 4
    scramble(model)
    x = images().double()
    merged = adapter.merge(copy.deepcopy(model)).eval()
    close(merged(x), model.eval()(x))
