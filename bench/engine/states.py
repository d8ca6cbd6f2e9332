"""Stored states: per image and state one row of a memory map, or of a tensor on the GPU when all of it fits there.

A folder `<key>/` holds a file per state and appears whole or not at all; two runs that want the same one compute it
once. The folder as a whole is kept below a limit, the longest unused first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from .cache import alone, make_room

States = dict[int, Tensor]
Batches = Callable[[], Iterator[tuple[Tensor, States]]]  # rows and their states, from row 0 on
GPU_SHARE = 0.25  # of its free memory at most goes to stored states
ENTRY_BYTES = int(float(os.environ.get("REGATTA_PREFIX_GB", "8")) * 2**30)  # of one split; larger ones are not stored


@dataclass
class Shelf:
    """The states of one split, ready to be taken by row."""

    arrays: dict[int, np.ndarray[Any, Any]]
    dtypes: dict[int, torch.dtype]
    strides: dict[int, tuple[int, ...]]  # of a batch's state, as the model gives it; what reads it sees the same layout
    on_device: dict[int, Tensor] | None = None

    def take(self, rows: Tensor, device: torch.device) -> States:
        """(B,) -> {state: (B, ...)}, fresh tensors."""
        found = {}
        for i, array in self.arrays.items():
            if self.on_device is not None:
                taken = self.on_device[i][rows.to(device)]
            else:
                taken = torch.from_numpy(array[rows.cpu().numpy()]).view(self.dtypes[i]).to(device, non_blocking=True)
            if taken.stride() != self.strides[i]:
                laid = torch.empty_strided(taken.shape, self.strides[i], dtype=taken.dtype, device=device)
                taken = laid.copy_(taken)
            found[i] = taken
        return found

    def move(self, device: torch.device) -> None:
        """Onto a GPU that has room for it."""
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        if sum(a.nbytes for a in self.arrays.values()) <= GPU_SHARE * free:
            self.on_device = {i: torch.from_numpy(np.array(a)).view(self.dtypes[i]).to(device)
                              for i, a in self.arrays.items()}


class StateCache:
    """A folder of stored states, kept below `limit` bytes in all."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder, self.limit = folder, limit

    def shelf(self, key: str, count: int, batches: Batches, device: torch.device) -> Shelf | None:
        """The states under the key, computed and stored first if need be; None when they cannot be stored."""
        try:
            with alone(self.folder, key):
                found = self._open(key)
                if found is None and self._fill(key, count, batches):
                    found = self._open(key)
        except OSError:  # a full or read-only disk costs time, never a run
            return None
        if found is not None:
            found.move(device)
        return found

    def _open(self, key: str) -> Shelf | None:
        folder = self.folder / key
        try:
            facts = json.loads((folder / "facts.json").read_text())
            if facts.pop("sha256") != _digest_of(facts) or any(
                    _digest(folder / f"{i}.npy") != f["sha256"] for i, f in facts.items()):
                return None  # damaged: computed and written anew
            arrays = {int(i): np.load(folder / f"{i}.npy", mmap_mode="r") for i in facts}
            os.utime(folder)
            return Shelf(arrays, {int(i): getattr(torch, f["dtype"]) for i, f in facts.items()},
                         {int(i): tuple(f["stride"]) for i, f in facts.items()})
        except (OSError, ValueError, EOFError, TypeError, KeyError, AttributeError,
                RecursionError):
            return None

    def _fill(self, key: str, count: int, batches: Batches) -> bool:
        """False when it would be too large."""
        made = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self.folder))
        arrays: dict[int, Any] = {}
        facts: dict[str, dict[str, Any]] = {}
        try:
            for rows, states in batches():
                if not arrays:
                    size = sum(t[:1].numel() * t.element_size() for t in states.values()) * count
                    if size > min(ENTRY_BYTES, shutil.disk_usage(self.folder).free // 2):
                        return False
                    for i, t in states.items():
                        facts[str(i)] = {"dtype": str(t.dtype).removeprefix("torch."), "stride": list(t.stride())}
                        arrays[i] = open_memmap(made / f"{i}.npy", mode="w+", dtype=_plain(t[:1]).numpy().dtype,
                                                shape=(count, *t.shape[1:]))
                        _allocate(made / f"{i}.npy")
                for i, t in states.items():
                    arrays[i][rows.numpy()] = _plain(t).numpy()
            for i, array in arrays.items():
                array.flush()
                facts[str(i)]["sha256"] = _digest(made / f"{i}.npy")
            (made / "facts.json").write_text(json.dumps(facts | {"sha256": _digest_of(facts)}))
            shutil.rmtree(self.folder / key, ignore_errors=True)  # a damaged one
            made.rename(self.folder / key)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        make_room(self.folder, self.limit, keep=key)
        return True


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _allocate(path: Path) -> None:
    """Take the disk's room now: a full disk is then an error here, not a signal in the middle of a write."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _plain(t: Tensor) -> Tensor:
    """On the CPU, contiguous, in a type that numpy has: bfloat16 as the 16-bit integers that it is made of."""
    t = t.detach().cpu().contiguous()
    return t.view(torch.int16) if t.dtype == torch.bfloat16 else t
