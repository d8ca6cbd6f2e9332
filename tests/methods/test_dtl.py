"""DTL and DTL+ against the authors' forward pass, typed again over plain timm blocks; what has no graph; the trap."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from formula_kit import X, built
from tiny_models import CLASSES, adapted, tiny_vit
from torch import Tensor, nn

from methods.grammar import MethodError


def theirs(plain: nn.Module, pairs: list[tuple[Tensor, Tensor]], first: int, conv: Tensor | None = None) -> Tensor:
    """(B, N, D) behind the final norm: h += x A' B' in front of each block, x += h sigmoid(100 h) behind the late ones.

    `conv` (D, 1, k, k) runs over the map of patches of what is added, 4 x 4 here.
    """
    net = plain
    x = net._pos_embed(net.patch_embed(X))  # type: ignore[operator]
    prefix = net.num_prefix_tokens
    h = torch.zeros_like(x)
    for i, block in enumerate(net.blocks):  # type: ignore[arg-type]
        a, b = pairs[i]
        h = h + x @ a.T @ b.T
        x = block(x)
        if i >= first:
            joins = h * torch.sigmoid(100 * h)
            if conv is not None:
                maps = joins[:, prefix:].permute(0, 2, 1).reshape(len(x), -1, 4, 4)
                maps = F.conv2d(maps, conv, padding=conv.shape[-1] // 2, groups=len(conv))
                joins = torch.cat([joins[:, :prefix], maps.flatten(2).permute(0, 2, 1)], 1)  # type: ignore[misc]
            x = x + joins
    return net.norm(x)  # type: ignore[no-any-return, operator]


def pairs_of(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(b.into.down, b.into.up) for b in model.blocks]  # type: ignore[union-attr]


@pytest.mark.parametrize("options, first", [("", 1), ("(rank=5, joined=1)", 2), ("(joined=3)", 0)])
@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 2}], ids=["class token", "registers"])
def test_dtl_is_the_authors_loop(options: str, first: int, settings: dict[str, int]) -> None:
    plain, model = built(f"dtl{options}", **settings)
    expected = theirs(plain, pairs_of(model), first)
    torch.testing.assert_close(model.forward_features(X), expected, rtol=1e-10, atol=1e-10)  # type: ignore[operator]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 2}], ids=["class token", "registers"])
def test_dtl_plus_convolves_what_joins_with_one_kernel(kernel: int, settings: dict[str, int]) -> None:
    plain, model = built(f"dtl_plus(kernel={kernel})", **settings)
    expected = theirs(plain, pairs_of(model), 1, model.side_conv.weight)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(model.forward_features(X), expected, rtol=1e-10, atol=1e-10)  # type: ignore[operator]


def test_blocks_in_front_of_the_first_joined_one_keep_no_graph() -> None:
    _, model = built("dtl")
    graphs: list[bool] = []
    for block in model.blocks:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _, args, out: graphs.append(out.requires_grad))
    model.train()(X)
    assert graphs == [False, False, True]  # block 1 is the first that is joined: behind it


def test_the_first_step_moves_what_comes_in_and_not_yet_what_it_reads_by() -> None:
    _, model = adapted("dtl_plus", tiny_vit().double())
    F.cross_entropy(model(X), torch.arange(3) % CLASSES).backward()
    for block in model.blocks:  # type: ignore[union-attr]
        assert block.into.up.grad.any() and not block.into.down.grad.any()
    assert not model.side_conv.weight.grad.any()  # type: ignore[union-attr, operator]


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    with pytest.raises(MethodError, match="at most 3"):
        adapted("dtl(joined=4)", tiny_vit())
    with pytest.raises(MethodError, match="kernel is odd"):
        adapted("dtl_plus(kernel=4)", tiny_vit())
    with pytest.raises(MethodError, match="fixed grid"):
        adapted("dtl_plus", tiny_vit(dynamic_img_size=True))
