"""Pixels straight from a memory map: the plain chain's numbers for any number of threads, memory as torch gives it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine.feeding import ALIGNED, Buffers, Normaliser

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [8, 224])
def test_a_read_only_map_gives_the_plain_chain_bit_for_bit(size: int, threads: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, size, size), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    rows = torch.tensor([4, 0, 3, 3])
    raw = torch.from_numpy(pixels[rows.numpy()])
    plain = (raw.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one = Normaliser(MEAN, STD, torch.device("cpu"))
            assert torch.equal(one.rows(mapped, rows), plain)
            assert torch.equal(one.rows(pixels, rows), plain) and torch.equal(one.rows(mapped, rows), plain)
    finally:
        torch.set_num_threads(before)


def test_two_splits_in_turns_are_never_mixed_up() -> None:
    one = Normaliser((0.0,) * 3, (1.0,) * 3, torch.device("cpu"))
    dark, bright = np.zeros((2, 3, 4, 4), np.uint8), np.full((2, 3, 4, 4), 255, np.uint8)
    for _ in range(2):
        assert one.rows(dark, torch.tensor([1])).sum() == 0
        assert one.rows(bright, torch.tensor([1])).sum() == 48


@pytest.mark.parametrize("size", [3, 1000, 2_000_000])
def test_memory_for_batches_is_aligned_and_counted_as_torch_does_it(size: int) -> None:
    taken = Buffers().take((size,))
    assert taken.data_ptr() % ALIGNED == 0
    assert taken.untyped_storage().nbytes() == 4 * size and taken.storage_offset() == 0
