"""SPT: who gets what by a slow count on small scores, the budget met exactly, the function by hand, storing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from robust_kit import data, setup
from tiny_models import adapted, features, images, scramble, step, tiny_vit

from methods.adapters.pooled import Pool, share_out
from methods.grammar import MethodError
from methods.weights import Header, load, save

HEADER = Header(backbone="tiny_vit.test", backbone_hash="a" * 64, method="spt", card="digits", classes=5)


def by_hand(scores: list[torch.Tensor], sizes: list[tuple[int, int]], rank: int, budget: int) -> tuple[set[int], int]:
    """(targets with a pair, tau): tau raised one by one, as far as the budget goes."""
    ranked = sorted(((float(s), t) for t, row in enumerate(scores) for s in row), reverse=True)
    best: tuple[set[int], int] = (set(), 0)
    for tau in range(len(ranked) + 1):
        held = [sum(t == n for _, t in ranked[:tau]) for n in range(len(sizes))]
        pairs = {n for n, (o, i) in enumerate(sizes) if held[n] >= rank * (o + i) / 10}
        taken = sum(rank * sum(sizes[n]) if n in pairs else held[n] for n in range(len(sizes)))
        if taken <= budget:
            best = (pairs, tau)
    return best


@pytest.mark.parametrize("budget", [9, 25, 40, 55])
def test_matrices_with_many_sensitive_entries_get_a_pair_and_the_budget_is_met(budget: int) -> None:
    generator, sizes = torch.Generator().manual_seed(budget), [(6, 6), (8, 6), (6, 8), (10, 6)]
    scores = [torch.rand(o * i, generator=generator) ** (1 + 3 * n) for n, (o, i) in enumerate(sizes)]
    pool = Pool(torch.zeros(1), sizes, budget)
    share_out(pool, scores, rank=1)
    pairs, tau = by_hand(scores, sizes, 1, budget)
    assert {n for n, s in enumerate(pool.starts.tolist()) if s >= 0} == pairs
    cost = sum(sum(sizes[n]) for n in pairs)
    entries = pool.index[cost:].tolist()
    assert bool((pool.index[:cost] == -1).all()) and len(set(entries)) == len(entries) == budget - cost
    first = [0, 36, 84, 132]
    apart = [(float(s), first[n] + k) for n, row in enumerate(scores) for k, s in enumerate(row) if n not in pairs]
    assert set(entries) == {k for _, k in sorted(apart, reverse=True)[:budget - cost]}
    assert bool(pairs) == (budget > 9) and tau > 0  # nine do not buy the smallest pair


def test_it_is_the_frozen_weight_plus_entries_and_pairs() -> None:
    net = tiny_vit().double()
    plain = copy.deepcopy(net)
    _, fit = setup("spt(share=0.05, rank=2)", net, size=32)
    assert torch.equal(features(fit.model, images(dtype=torch.float64)), features(plain, images(dtype=torch.float64)))
    scramble(fit.model)
    pool = fit.model.spt
    assert isinstance(pool, Pool) and 0 < int((pool.starts >= 0).sum()) < 18
    values, index, first, number = pool.values.detach(), pool.index.tolist(), 0, 0
    for block, old in zip(fit.model.blocks, plain.blocks, strict=True):  # type: ignore[arg-type]
        for path, rows in (("attn.qkv", [slice(0, 48), slice(48, 96), slice(96, 144)]), ("attn.proj", [slice(0, 48)]),
                           ("mlp.fc1", [slice(0, 192)]), ("mlp.fc2", [slice(0, 48)])):
            weight = old.get_submodule(path).weight.detach().clone()
            for r in rows:
                part = weight[r]
                o, i = part.shape
                for slot, k in enumerate(index):
                    if first <= k < first + o * i:
                        part[(k - first) // i, (k - first) % i] += values[slot]
                if (at := int(pool.starts[number])) >= 0:
                    b, a = values[at:at + 2 * o].view(o, 2), values[at + 2 * o:at + 2 * (o + i)].view(2, i)
                    part += b @ a
                first, number = first + o * i, number + 1
            x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
            layer = block.get_submodule(path)
            torch.testing.assert_close(layer(x), F.linear(x, weight, layer.bias), rtol=1e-9, atol=1e-9)


def test_the_most_sensitive_entry_of_the_task_is_chosen() -> None:
    net = tiny_vit()
    plain = copy.deepcopy(net)
    _, fit = setup("spt(share=0.0001)", net, size=32)  # eight entries, no pair
    plain.reset_classifier(5)
    plain.head.load_state_dict({n.partition(".")[2]: fit.trainable[n].detach() for n in fit.head})
    batch = data(20, 32, seed=7, dtype=torch.float32)  # what `setup` shows to `prepare`
    F.cross_entropy(plain(batch.x), batch.y).backward()
    paths = [f"blocks.{b}.{p}.weight" for b in range(3) for p in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    every = torch.cat([plain.get_parameter(p).grad.square().flatten() for p in paths])  # type: ignore[union-attr]
    chosen = fit.model.spt.index.long()  # type: ignore[union-attr, operator]
    assert len(chosen) == 8 and float(every[chosen].min()) >= 0.999 * float(every.topk(8).values.min())


def test_how_the_pool_was_shared_out_is_stored(tmp_path: Path) -> None:
    _, fit = setup("spt(share=0.05)", tiny_vit(), size=32)
    step(fit.model)
    save(tmp_path / "a.safetensors", fit.model, HEADER)
    _, fresh = adapted("spt(share=0.05)", tiny_vit())  # as nobody has prepared it
    load(tmp_path / "a.safetensors", fresh, backbone="tiny_vit.test", backbone_hash="a" * 64, method="spt")
    assert torch.equal(fresh.eval()(images()), fit.model.eval()(images()))


def test_at_the_anchor_nothing_is_added_and_a_budget_for_everybody_is_refused() -> None:
    net = tiny_vit()
    expected = features(copy.deepcopy(net), images())
    _, fit = setup("spt(share=0.05)", net, size=32)
    scramble(fit.model)
    for view in fit.views:
        view.write(torch.zeros(1))
    torch.testing.assert_close(features(fit.model, images()), expected, rtol=0, atol=1e-5)
    with pytest.raises(MethodError, match="fewer than a pair for every matrix"):
        adapted("spt(share=0.1, rank=1)", tiny_vit())
