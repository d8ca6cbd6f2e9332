"""oft, goft, qgoft against dense products written from their papers; orthogonal by construction, or plainly not."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import adapted, scramble, tiny_vit, trainable
from torch import Tensor, nn

from methods.adapters.givens import turn
from methods.grammar import MethodError

SIZES = (2, 3, 7, 8, 12, 48)


def planes(size: int) -> list[tuple[int, int]]:
    """(k, k + 2^l), k a multiple of 2^(l + 1), level by level."""
    found, step = [], 1
    while step < size:
        found += [(k, k + step) for k in range(0, size, 2 * step) if k + step < size]
        step *= 2
    return found


def dense(size: int, pairs: Tensor) -> Tensor:
    """The product of size - 1 matrices that each touch two coordinates; the first acts first."""
    whole = torch.eye(size, dtype=pairs.dtype)
    for (k, m), pair in zip(planes(size), pairs, strict=True):
        one = torch.eye(size, dtype=pairs.dtype)
        one[k, k], one[k, m], one[m, k], one[m, m] = pair[0, 0], pair[0, 1], pair[1, 0], pair[1, 1]
        whole = one @ whole
    return whole


def off(matrix: Tensor) -> float:
    """How far from orthogonal."""
    matrix = matrix.detach()
    return float((matrix @ matrix.mT - torch.eye(len(matrix), dtype=matrix.dtype)).abs().max())


def layers(text: str) -> list[nn.Module]:
    """qkv and fc2 of an adapted block with weights far from the start, float64."""
    _, model = adapted(text, tiny_vit(depth=1).double())
    scramble(model, spread=1.0)
    return [model.get_submodule(f"blocks.0.{path}") for path in ("attn.qkv", "mlp.fc2")]


def matrix(layer: nn.Module) -> Tensor:
    """M of W M, read off from the layer's input: its columns are what becomes of the unit vectors."""
    eye = torch.eye(layer.in_features, dtype=torch.float64)  # type: ignore[arg-type, call-overload]
    return (eye + layer.turn(eye)).mT.detach()  # type: ignore[operator]


def same_layer(layer: nn.Module, wanted: Tensor) -> None:
    """It computes W M x + b, and folds into W M."""
    x = torch.randn(2, 5, layer.in_features, dtype=torch.float64)  # type: ignore[call-overload]
    weight = layer.weight @ wanted  # type: ignore[operator]
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.folded()[0], weight, rtol=1e-10, atol=1e-10)  # type: ignore[operator]


@pytest.mark.parametrize("size", SIZES)
def test_the_tree_is_the_dense_product_of_its_planes(size: int) -> None:
    pairs = torch.randn(size - 1, 2, 2, dtype=torch.float64)
    x = torch.randn(4, size, dtype=torch.float64)
    torch.testing.assert_close(turn(x, pairs), x @ dense(size, pairs).T, rtol=1e-10, atol=1e-10)


def test_goft_rotates_by_pi_tanh_of_its_angles() -> None:
    for layer in layers("goft"):
        angles = math.pi * torch.tanh(layer.turn.angles)  # type: ignore[union-attr, arg-type]
        pairs = torch.stack([torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).reshape(2, 2) for a in angles])
        wanted = dense(layer.in_features, pairs)  # type: ignore[arg-type]
        same_layer(layer, wanted)
        assert off(wanted) < 1e-12


def test_goft_with_stretch_scales_each_input_first_and_is_orthogonal_no_more() -> None:
    for layer in layers("goft(stretch=True)"):
        scale = 1 + layer.turn.stretch  # type: ignore[union-attr, operator]
        whole = matrix(layer)
        with torch.no_grad():
            layer.turn.stretch.zero_()  # type: ignore[union-attr, operator]
        rotation = matrix(layer)
        torch.testing.assert_close(whole, rotation * scale, rtol=1e-10, atol=1e-10)
        assert off(rotation) < 1e-12 < 0.1 < off(whole)


def test_qgoft_takes_free_matrices_around_the_identity_and_is_not_orthogonal() -> None:
    for layer in layers("qgoft"):
        wanted = dense(layer.in_features, torch.eye(2) + layer.turn.free)  # type: ignore[arg-type, union-attr, operator]
        same_layer(layer, wanted)
        assert off(wanted) > 0.1


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("block", [2, 8, 16])
def test_oft_is_orthogonal_however_far_its_entries_have_moved(block: int, spread: float) -> None:
    _, model = adapted(f"oft(block={block})", tiny_vit(depth=1).double())
    scramble(model, spread=spread)
    layer = model.blocks[0].attn.proj  # type: ignore[index, union-attr]
    rotation = matrix(layer)
    assert off(rotation) < 1e-12
    assert torch.linalg.det(rotation) == pytest.approx(1.0)  # a rotation, not a reflection
    assert torch.equal(rotation != 0, torch.block_diag(*[torch.ones(block, block)] * (48 // block)) != 0)


def test_oft_is_the_cayley_transform_of_entries_above_the_diagonal() -> None:
    for layer in layers("oft(block=4)"):
        blocks = []
        for entries in layer.turn.skew:  # type: ignore[union-attr]
            q = torch.zeros(4, 4, dtype=torch.float64)
            for value, (r, c) in zip(entries, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], strict=True):
                q[r, c], q[c, r] = value, -value
            eye = torch.eye(4, dtype=torch.float64)
            blocks.append((eye + q) @ torch.linalg.inv(eye - q))
        same_layer(layer, torch.block_diag(*blocks))


def test_a_fast_form_that_always_swaps_neighbours_would_shear() -> None:
    """The trap: cosines placed for (k, k + 2^l), sines taken from the neighbour; from the second level on it shears."""
    angles = torch.linspace(0.3, 1.2, 7, dtype=torch.float64)

    def swapped(levels: int) -> Tensor:
        x, used = torch.eye(8, dtype=torch.float64), 0
        for level in range(levels):
            cos, sin, step = torch.ones(8).double(), torch.zeros(8).double(), 2**level
            for k in range(0, 8, 2 * step):
                for j in (k, k + step):
                    cos[j], sin[j] = angles[used].cos(), angles[used].sin()
                used += 1
            neighbour = torch.stack([-x[:, 1::2], x[:, 0::2]], -1).flatten(1)
            x = x * cos + neighbour * sin
        return x

    pairs = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).reshape(7, 2, 2)
    assert off(swapped(1)) < 1e-12 and off(swapped(2)) > 0.1
    assert off(turn(torch.eye(8, dtype=torch.float64), pairs)) < 1e-12


@pytest.mark.parametrize("name", ["oft", "goft", "qgoft"])
def test_where_says_which_layers_are_turned(name: str) -> None:
    for where, paths in (("qkv", {"qkv"}), ("attn", {"qkv", "proj"}), ("all", {"qkv", "proj", "fc1", "fc2"})):
        _, model = adapted(f"{name}(where={where!r})", tiny_vit())
        assert {n.split(".")[3] for n in trainable(model) if ".turn." in n} == paths


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(MethodError, match=r"'oft': the 48 inputs of blocks.0.attn.qkv cannot be cut into blocks of 32"):
        adapted("oft(block=32)", tiny_vit())
