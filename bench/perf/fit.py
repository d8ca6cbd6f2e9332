"""The largest batch that a method can train with in so much memory: on a GPU by trying, on a CPU from the ledger.

The ledger (weights, gradients, optimizer, what is kept for backward) leaves out a step's temporaries and the
allocator's gaps; an answer from it is an upper bound and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

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


def ledger_bytes(spec: RunSpec, batch: int, classes: int = CLASSES) -> int | None:
    """The forecast ledger's sum at another batch size."""
    return forecast(replace(spec, batch_size=batch), classes, BATCHES * batch).total_bytes


def from_ledger(variant: Variant, budget_bytes: float) -> Largest:
    """From the straight line of bytes over the batch; where there is none, from forecasts at one batch after another.

    Every part of the ledger is fixed or kept per image, so that two forecasts give the line; a third, far from both,
    shows that it is one (a loss over pairs of images is not).
    """
    line = ledger_line(variant.spec)
    if line is None:
        return Largest(variant.name, budget_bytes, None, "its step reads numbers and cannot be forecast")
    if line.straight:
        return Largest(variant.name, budget_bytes, min(LIMIT, line.images(budget_bytes)), "ledger")

    def fits(count: int) -> bool:
        total = ledger_bytes(variant.spec, count)
        return total is not None and total <= budget_bytes

    return Largest(variant.name, budget_bytes, largest(fits, line.images(budget_bytes) or 1), "ledger")


@dataclass(frozen=True)
class Line:
    """Bytes of a step's ledger: `fixed` and `each` image's; `straight`: so far away from where it was measured too."""

    fixed: int
    each: int
    straight: bool

    def at(self, batch: int) -> int:
        """Bytes that a step of so many images takes."""
        return self.fixed + batch * self.each

    def images(self, budget_bytes: float) -> int:
        """The largest batch within a budget."""
        return max(0, int((budget_bytes - self.fixed) // max(1, self.each)))


@cache
def ledger_line(spec: RunSpec, classes: int = CLASSES) -> Line | None:
    """Bytes over the batch, from forecasts at 16, 32 and 128 images; None where a step cannot be forecast."""
    one, two, far = (ledger_bytes(spec, n, classes) for n in (16, 32, 128))
    if one is None or two is None or far is None:
        return None
    each, rest = divmod(two - one, 16)
    line = Line(one - 16 * each, each, not rest)
    return replace(line, straight=line.straight and line.at(128) == far)


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
