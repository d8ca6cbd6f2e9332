"""From decoded pixels to normalised batches, quickly: buffers used again, pieces that stay in the cache, a GPU's copy.

Fresh memory costs more than the arithmetic: the kernel hands out a batch page by page. So a batch's memory is used
again, but only once nobody holds it any more (the storage says how many do): a part may keep a batch as long as it
likes. The arithmetic is `x / 255 - mean` over `std` in exactly this order, bit for bit that of the usual transforms;
it begins with the bytes where they lie in the memory map. More threads than one share each piece.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

ALIGNED = 64  # bytes: what torch's own memory promises its kernels
IN_CACHE = 200_000  # numbers worked on at a time: their floats fit a core's second-level cache
KEPT = 6  # buffers: two each of a few batch sizes
GPU_SHARE = 0.25  # of a GPU's free memory at most goes to a split's pixels
T = TypeVar("T")


class Buffers:
    """Float tensors, used again once nobody holds them."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, int]] = []

    def take(self, shape: Sequence[int]) -> Tensor:
        """A tensor of the shape with whatever numbers it holds, in memory of its own size."""
        size = math.prod(shape)
        for flat, alone in self._kept:
            if flat.numel() == size and _holders(flat) == alone:
                return flat.view(*shape)
        flat = _fresh(size)
        self._kept = [*self._kept[1 - KEPT:], (flat, _holders(flat))]
        return flat.view(*shape)


def _fresh(size: int) -> Tensor:
    """Floats in memory that numpy takes: for a large array it asks the kernel for large pages, which torch does not."""
    raw = np.empty(size + ALIGNED // 4, np.float32)
    start = -raw.ctypes.data % ALIGNED // 4
    with torch.inference_mode(False):
        return torch.from_numpy(raw[start:start + size])


def _holders(flat: Tensor) -> int:
    """How many tensors share the memory, autograd's saved ones among them."""
    return int(torch._C._storage_Use_Count(flat.untyped_storage()._cdata))  # type: ignore[attr-defined]


class Normaliser:
    """uint8 pixels -> float32, `x / 255 - mean` over `std` in exactly this order."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device)
        self.std = torch.tensor(std, device=device)
        self.device = device
        self._buffers = Buffers()
        self._resident: dict[int, tuple[np.ndarray[Any, Any], Tensor | None]] = {}
        self._read: tuple[np.ndarray[Any, Any], Tensor] | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> the same in float32, on the device."""
        if self.device.type == "cpu":
            return self._in_pieces(len(raw), tuple(raw.shape[1:]), lambda start, stop: raw[start:stop])
        return self._normalise(raw.to(self.device, non_blocking=True).float())

    def upload(self, small: Tensor) -> Tensor:
        """The same on the device; to a GPU through pinned memory, for an ordinary copy waits for all that it does."""
        if self.device.type == "cpu":
            return small
        return small.pin_memory().to(self.device, non_blocking=True)

    def rows(self, pixels: np.ndarray[Any, Any], rows: Tensor) -> Tensor:
        """(N, 3, S, S) uint8 and positions (B,) -> (B, 3, S, S) normalised."""
        if self.device.type == "cpu":
            source = self._as_tensor(pixels)

            def piece(start: int, stop: int) -> Tensor:
                wanted = rows[start:stop]
                return source[int(wanted)][None] if len(wanted) == 1 else source.index_select(0, wanted)

            return self._in_pieces(len(rows), pixels.shape[1:], piece)
        there = self._on_device(pixels)
        if there is not None:
            return self._normalise(there[self.upload(rows)].float())
        return self(torch.from_numpy(pixels[rows.numpy()]).pin_memory())

    def _as_tensor(self, pixels: np.ndarray[Any, Any]) -> Tensor:
        """The same memory."""
        if self._read is None or self._read[0] is not pixels:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a map that may not be written to: nobody does
                self._read = pixels, torch.from_numpy(np.asarray(pixels))
        return self._read[1]

    def _in_pieces(self, count: int, shape: Sequence[int], piece: Callable[[int, int], Tensor]) -> Tensor:
        out = self._buffers.take((count, *shape))
        step = max(1, IN_CACHE // math.prod(shape))
        for start in range(0, count, step):
            part = out[start:start + step]
            self._normalise(part.copy_(piece(start, start + step)))
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        return x.div_(255).sub_(self.mean.view(3, 1, 1)).div_(self.std.view(3, 1, 1))

    def _on_device(self, pixels: np.ndarray[Any, Any]) -> Tensor | None:
        """The whole split on the GPU, uploaded at first use, when it has room for it."""
        if id(pixels) not in self._resident:
            free, _ = torch.cuda.mem_get_info(self.device)
            fits = pixels.nbytes <= GPU_SHARE * free
            there = torch.from_numpy(np.array(pixels)).to(self.device) if fits else None
            self._resident[id(pixels)] = pixels, there  # holding the array keeps its id from being given again
        return self._resident[id(pixels)][1]


def ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same, each made by a thread while the one before is at work; what goes wrong there is raised here."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = pool.submit(next, batches, None)
            yield batch
