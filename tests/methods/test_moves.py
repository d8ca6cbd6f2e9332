"""Weights that move come back bit for bit, random streams leave no trace, copies share stochastic depth."""

from __future__ import annotations

import pytest
import torch
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from tiny_models import tiny_vit
from torch import nn

from methods.droppath import SharedDropout, SharedDropPath, share, sharing
from methods.moves import derived_seed, global_norm, inner, isolated, kept, kept_statistics, moved, placed

CPU = torch.device("cpu")


def weights(seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(50, 40)), nn.Parameter(1e-3 * torch.randn(200))]


def test_moved_restores_weights_bit_for_bit_where_adding_back_does_not() -> None:
    theta, steps = weights(), weights(1)
    before = [p.detach().clone() for p in theta]
    with moved(theta, steps):
        assert all(torch.equal(p, b + s) for p, b, s in zip(theta, before, steps, strict=True))
    assert all(torch.equal(p, b) for p, b in zip(theta, before, strict=True))
    added_back = [(b + s) - s for b, s in zip(before, steps, strict=True)]
    assert not all(torch.equal(a, b) for a, b in zip(added_back, before, strict=True))


@pytest.mark.parametrize("context", ["moved", "placed", "kept"])
def test_weights_return_when_the_block_raises(context: str) -> None:
    theta = weights()
    before = [p.detach().clone() for p in theta]
    made = {"moved": lambda: moved(theta, weights(1)), "placed": lambda: placed(theta, weights(2)),
            "kept": lambda: kept(theta)}[context]
    with pytest.raises(ZeroDivisionError), made():
        with torch.no_grad():
            theta[0].zero_()
        _ = 1 / 0
    assert all(torch.equal(p, b) for p, b in zip(theta, before, strict=True))


def test_moves_nest_and_unwind_in_order() -> None:
    theta = weights()
    before = [p.detach().clone() for p in theta]
    with moved(theta, weights(1)):
        once = [p.detach().clone() for p in theta]
        with moved(theta, weights(2)):
            assert not torch.equal(theta[0], once[0])
        assert torch.equal(theta[0], once[0])
    assert torch.equal(theta[0], before[0])


def test_a_move_of_the_wrong_length_changes_nothing() -> None:
    theta = weights()
    before = theta[0].detach().clone()
    with pytest.raises(ValueError), moved(theta, weights(1)[:1]):
        pass
    assert torch.equal(theta[0], before)


def test_placed_holds_exactly_the_values() -> None:
    theta, values = weights(), weights(5)
    with placed(theta, values):
        assert all(torch.equal(p, v) for p, v in zip(theta, values, strict=True))


def test_an_isolated_block_leaves_the_random_stream_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with isolated(CPU, 99):
        first = torch.rand(4)
        torch.randn(1000)
    assert torch.equal(torch.rand(4), expected)
    with isolated(CPU, 99):
        assert torch.equal(torch.rand(4), first)


def test_an_isolated_block_without_a_seed_repeats_the_draws_that_follow() -> None:
    torch.manual_seed(3)
    with isolated(CPU):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), inside)


def test_derived_seeds_are_stable_and_differ_by_every_word() -> None:
    assert derived_seed(1, 2, "ugr") == 0x62d8e928d69fd428  # another value would break resumed runs
    made = {derived_seed(*words) for words in [(1, 2, "ugr"), (2, 1, "ugr"), (1, 2, "rec"), (12, "ugr")]}
    assert len(made) == 4 and all(0 <= s < 2**63 for s in made)


def test_running_statistics_are_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with kept_statistics(model):
        model(torch.randn(8, 4))
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_norm_and_inner_product_cover_all_tensors() -> None:
    a, b = weights(), weights(1)
    flat_a, flat_b = (torch.cat([t.detach().flatten() for t in w]) for w in (a, b))
    torch.testing.assert_close(global_norm(t.detach() for t in a), flat_a.norm())
    torch.testing.assert_close(inner([t.detach() for t in a], [t.detach() for t in b]), flat_a @ flat_b)


def vit_with_drops(**settings: float) -> VisionTransformer:
    return tiny_vit(drop_path_rate=0.4, proj_drop_rate=0.3, **settings).train()


def test_swapped_modules_draw_as_before_until_copies_are_announced() -> None:
    plain, swapped = vit_with_drops(), vit_with_drops()
    made = share(swapped)
    assert {type(m) for m in made} == {SharedDropPath, SharedDropout}
    assert not any(type(m) in (DropPath, nn.Dropout) for m in swapped.modules())
    x = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    a = plain(x)
    torch.manual_seed(0)
    assert torch.equal(swapped(x), a)
    assert torch.rand(1) is not None


def test_two_copies_of_a_batch_meet_the_same_drops() -> None:
    model = vit_with_drops()
    made = share(model)
    x = torch.randn(4, 3, 32, 32)
    with sharing(made, 2, "batch_mean"):
        first, second = model(torch.cat([x, x])).chunk(2)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    first, second = model(torch.cat([x, x])).chunk(2)
    assert not torch.allclose(first, second, atol=1e-2)


def test_sharing_twice_swaps_once() -> None:
    model = vit_with_drops()
    assert {id(m) for m in share(model)} == {id(m) for m in share(model)}


def test_what_cannot_be_shared_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"patch_drop.*patch dropout"):
        share(nn.ModuleDict({"patch_drop": PatchDropout(0.5)}))
    model = tiny_vit(attn_drop_rate=0.1)
    assert model.blocks[0].attn.fused_attn
    with pytest.raises(ValueError, match="without attention dropout"):
        share(model)
