"""Every measurement that reaches a table, defined once: bytes kept for backward, the ledger, images per second.

Kept for backward (`saved_bytes`): bytes of the unique storages that autograd saves during one training step,
parameters and buffers excluded, at the moment when they are most (peak-live). Two passes one after the other thus
count once, two at the same time twice. Expanded tensors count what they occupy, slices the storage they keep alive,
sparse ones their values.

Throughput: training images per second, each image counted once per step however many passes a method makes; the
figure from a training log is called informal.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from results.schema import Memory


@dataclass
class SavedBytes:
    """Filled while `saved_bytes` is open: what lives now, and the most that ever lived."""

    live: int = 0
    peak: int = 0
    _count: dict[int, int] = field(default_factory=dict)
    _size: dict[int, int] = field(default_factory=dict)

    def add(self, key: int, size: int) -> None:
        self._count[key] = self._count.get(key, 0) + 1
        if self._count[key] == 1:
            self._size[key] = size
            self.live += size
            self.peak = max(self.peak, self.live)

    def drop(self, key: int) -> None:
        self._count[key] -= 1
        if not self._count[key]:
            del self._count[key]
            self.live -= self._size.pop(key)


class _Handle:
    """Stands for a saved tensor; holding it keeps the storage's address from being used again."""

    __slots__ = ("key", "ledger", "tensor")

    def __init__(self, tensor: Tensor, key: int, ledger: SavedBytes) -> None:
        self.tensor, self.key, self.ledger = tensor, key, ledger
        ledger.add(key, _storage(tensor).nbytes())

    def __del__(self) -> None:
        self.ledger.drop(self.key)


@contextmanager
def saved_bytes(fixed: Iterable[Tensor]) -> Iterator[SavedBytes]:
    """Count what autograd saves inside the block; `fixed` (parameters and buffers) is not counted.

    In-place damage to a saved tensor goes unnoticed under these hooks, so only one step of a run is measured.
    """
    ledger = SavedBytes()
    excluded = {_key(t) for t in fixed}

    def pack(tensor: Tensor) -> Tensor | _Handle:
        key = _key(tensor)
        return tensor if key in excluded else _Handle(tensor, key, ledger)

    def unpack(packed: Tensor | _Handle) -> Tensor:
        return packed.tensor if isinstance(packed, _Handle) else packed

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield ledger


class PeakLive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of storages made inside the block that ever lived at once; kernels' own workspaces not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (key := _key(tensor)) not in self._alive and key not in given:
                self._watch(key, _storage(tensor))
        return out

    def _watch(self, key: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.live -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _key(tensor: Tensor) -> int:
    """Identity of the storage: its object's address, which fake tensors have too."""
    return _storage(tensor)._cdata


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    """What holds its numbers; of a sparse tensor the values alone count, not their places."""
    return (tensor._values() if tensor.layout is torch.sparse_coo else tensor).untyped_storage()


def fixed_tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of distinct tensors."""
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())


def ledger(model: nn.Module, optimizer: torch.optim.Optimizer, saved: int | None, batch: int) -> Memory:
    """Where training memory goes, in bytes; the optimizer must have stepped once."""
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [t for t in fixed_tensors(model) if not t.requires_grad]
    state = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor) and v.numel() > 1]
    return Memory(
        saved_bytes=saved,
        saved_bytes_per_image=None if saved is None else saved / batch,
        weights_frozen_bytes=tensor_bytes(frozen),
        weights_trained_bytes=tensor_bytes(trained),
        gradients_bytes=tensor_bytes(p.grad for p in trained if p.grad is not None),
        optimizer_bytes=tensor_bytes(state),
    )


def total_bytes(found: Memory) -> int:
    """The ledger's sum: weights, gradients, optimizer state, and what is kept for backward where it is known."""
    return (found.weights_frozen_bytes + found.weights_trained_bytes + found.gradients_bytes + found.optimizer_bytes
            + (found.saved_bytes or 0))
