"""A fixed number of trained weights that data share out among layers: single entries here, low-rank pairs there.

Which matrices get what is known only after a look at the data, but the number of trained weights is not: they are one
row of numbers, the pool. `index` says for each where it stands among all entries of all targets, or -1 where it belongs
to a pair; `starts` says for each target where its pair begins in the pool, or -1. Both are stored with the values, no
shape depends on them, and an adapter loaded elsewhere shares the pool out as it was.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..insertion import zeros

TENTH = 10  # SPT's alpha for LoRA


class Pool(nn.Module):
    """The trained numbers of all targets and what they are; `sizes` are the targets' (o, i)."""

    index: Tensor
    starts: Tensor

    def __init__(self, like: Tensor, sizes: list[tuple[int, int]], budget: int) -> None:
        super().__init__()
        every = sum(o * i for o, i in sizes)
        self.sizes = sizes
        self.values = zeros(like, budget)
        evenly = torch.arange(budget, device=like.device) * (every // budget)  # until somebody has looked at data
        self.register_buffer("index", evenly.int())
        self.register_buffer("starts", torch.full((len(sizes),), -1, dtype=torch.int32, device=like.device))


class Share(nn.Module):
    """What one target has from the pool, as a change of its rows: (..., i) -> (..., o)."""

    def __init__(self, pool: Pool, number: int, rows: slice, rank: int) -> None:
        super().__init__()
        self._shared: list[Any] = [pool]  # in a list, so that torch does not register it here
        self.rows, self.rank, self.number = [rows], rank, number
        self.first = sum(o * i for o, i in pool.sizes[:number])

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i): entries, and B A where the target has a pair."""
        pool = self._shared[0]
        values, (o, i) = pool.values, pool.sizes[self.number]
        place = pool.index - self.first
        inside = (place >= 0) & (place < o * i)
        spread = torch.arange(len(values), device=values.device) % (o * i)  # zeros of others: where does not matter
        entries = values.new_zeros(o * i).index_add(0, torch.where(inside, place, spread), values * inside)
        start = pool.starts[self.number]
        slots = start.clamp_min(0) + torch.arange(self.rank * (o + i), device=values.device)
        numbers = values.index_select(0, slots.clamp_max(len(values) - 1))
        up, down = numbers[:o * self.rank].view(o, -1), numbers[o * self.rank:].view(-1, i)
        found: Tensor = entries.view(o, i) + (start >= 0) * (up @ down)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.product())


@torch.no_grad()
def share_out(pool: Pool, scores: list[Tensor], rank: int) -> None:
    """Place the pool by the targets' scores (o i,), in place: B of a pair zero, A random, entries zero."""
    budget, device = len(pool.values), pool.values.device
    cost = torch.tensor([rank * (o + i) for o, i in pool.sizes], device=device)
    size = torch.tensor([o * i for o, i in pool.sizes], device=device)
    order = torch.cat(scores).argsort(descending=True, stable=True)
    owner = torch.repeat_interleave(torch.arange(len(size), device=device), size)[order]

    def paired(tau: int) -> tuple[Tensor, int]:
        """(targets,) of bool, and the weights that the tau most sensitive entries take."""
        held = torch.bincount(owner[:tau], minlength=len(size))
        pairs = (held * TENTH >= cost) & (cost < size)
        return pairs, int(torch.where(pairs, cost, held).sum())

    low, high = 0, len(order)
    while low < high:  # what is taken grows with tau
        middle = (low + high + 1) // 2
        low, high = (middle, high) if paired(middle)[1] <= budget else (low, middle - 1)
    pairs, _ = paired(low)
    pool.values.zero_()
    pool.index.fill_(-1)
    pool.starts.fill_(-1)
    at = 0
    for n in pairs.nonzero().flatten().tolist():
        o, i = pool.sizes[n]
        pool.starts[n] = at
        down = pool.values[at + o * rank:at + (o + i) * rank].view(rank, i)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        at += (o + i) * rank
    pool.index[at:] = order[~pairs[owner]][:budget - at].int()
