"""The largest batch that a method can train with in so much memory: on a GPU by trying, on a CPU from the ledger.

The ledger (weights, gradients, optimizer, what is kept for backward) leaves out a step's temporaries and the
allocator's gaps; an answer from it is an upper bound and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from results.schema import RunSpec

from ..engine.forecast import forecast
from .measure import out_of_memory
from .rig import BATCHES, CLASSES, Rig, Variant, release

LIMIT = 65536


@dataclass(frozen=True)
class Largest:
    """`batch` images fit into `budget_bytes`; 0 when not even one does, None when nobody can say."""

    variant: str
    budget_bytes: float
    batch: int | None
    how: str  # "tried", "ledger", or why it is not known


def largest(fits: Callable[[int], bool], guess: int = 1, limit: int = LIMIT) -> int:
    """The largest n for which `fits(n)`; a batch that fits is assumed to fit when it is smaller. 0 when 1 does not."""
    low, high = 0, max(1, min(guess, limit))
    while fits(high):
        low = high
        if high == limit:
            return limit
        high = min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def ledger_bytes(spec: RunSpec, batch: int) -> int | None:
    """The forecast ledger's sum at another batch size."""
    return forecast(replace(spec, batch_size=batch), CLASSES, BATCHES * batch).total_bytes


def from_ledger(variant: Variant, budget_bytes: float) -> Largest:
    """Two forecasts give a straight line; the batch that it proposes is then checked exactly."""
    one, many = ledger_bytes(variant.spec, 16), ledger_bytes(variant.spec, 32)
    if one is None or many is None:
        return Largest(variant.name, budget_bytes, None, "its step reads numbers and cannot be forecast")
    each = max(1.0, (many - one) / 16)
    batch = min(LIMIT, int(max(0.0, 16 + (budget_bytes - one) / each)))
    known: dict[int, bool] = {0: True}

    def fits(count: int) -> bool:
        if count not in known:
            total = ledger_bytes(variant.spec, count)
            known[count] = total is not None and total <= budget_bytes
        return known[count]

    while batch and not fits(batch):
        batch -= 1
    while batch < LIMIT and fits(batch + 1):
        batch += 1
    return Largest(variant.name, budget_bytes, batch, "ledger")


def two_steps(spec: RunSpec, device: str) -> None:
    """Train twice on made-up images: the optimizer's state exists from the first step on."""
    rig = Rig(spec, device)
    rig.train_once()
    rig.train_once()
    if rig.device.type == "cuda":
        torch.cuda.synchronize(rig.device)


def by_trying(variant: Variant, budget_bytes: float, device: str) -> Largest:
    """Real steps on the GPU with the allocator limited to the budget."""
    where = torch.device(device)
    total = torch.cuda.get_device_properties(where).total_memory
    guess = from_ledger(variant, min(budget_bytes, total)).batch or 1
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / total), where)

    def fits(batch: int) -> bool:
        try:
            two_steps(replace(variant.spec, batch_size=batch), device)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
        finally:
            release(where)
        return True

    try:
        return Largest(variant.name, budget_bytes, largest(fits, guess), "tried")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, where)
