"""Loaders, the image cache, stored prefixes and the store of records, timed.

`pytest tests/perf/test_perf_io.py --benchmark-only -o addopts=`
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.engine import backbones
from bench.engine.cache import ImageCache
from bench.engine.loaders import IMAGENET, Batches, Normaliser
from bench.engine.states import StateCache
from bench.perf.rig import made_up
from results import store
from tests.perf import prefix_epochs
from tests.perf.image_epochs import SIZE, draw
from tests.reports import fakes

COUNT = 64


def epoch(batches: Batches) -> int:
    return sum(len(b.y) for b in batches.epoch(0))


@pytest.mark.benchmark(group="loaders")
@pytest.mark.parametrize("size", [48, SIZE])
def test_an_epoch_of_decoded_pixels(benchmark: Any, size: int) -> None:
    batches = Batches(made_up(COUNT, size), Normaliser(*IMAGENET, torch.device("cpu")), 64, 0)
    benchmark.extra_info["images"] = benchmark.pedantic(partial(epoch, batches), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="image cache")
@pytest.mark.parametrize("state", ["cold", "warm"])
def test_a_split_through_the_image_cache(benchmark: Any, state: str, tmp_path: Path) -> None:
    items = draw(tmp_path, COUNT)
    folders = iter(range(1000))

    def read() -> None:
        folder = tmp_path / ("kept" if state == "warm" else f"new{next(folders)}")
        pixels = ImageCache(folder).pixels("jpegs", items, SIZE)
        assert pixels is not None and pixels.shape == (COUNT, 3, SIZE, SIZE)

    benchmark.extra_info["images"] = COUNT
    benchmark.pedantic(read, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="stored prefix")
@pytest.mark.parametrize("state", ["cold", "warm"])
def test_states_of_a_split(benchmark: Any, state: str, tmp_path: Path) -> None:
    """Written, flushed and hashed, or only opened and hashed: the tokens of ViT-S behind one block, 19 MB."""
    tokens = torch.rand(COUNT, 197, 384)
    keys = iter(range(1000))

    def batches() -> Iterator[tuple[torch.Tensor, dict[int, torch.Tensor]]]:
        yield from ((rows, {1: tokens[rows]}) for rows in torch.arange(COUNT).split(16))

    def read() -> None:
        key = "kept" if state == "warm" else f"new{next(keys)}"
        shelf = StateCache(tmp_path).shelf(key, COUNT, batches, torch.device("cpu"))
        assert shelf is not None and shelf.take(torch.tensor([3]), torch.device("cpu"))[1].equal(tokens[3:4])

    benchmark.extra_info["images"] = COUNT
    benchmark.pedantic(read, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="stored prefix")
@pytest.mark.parametrize("method", ["linear", "partial_k(k=1)"])
def test_a_training_epoch_from_the_store(benchmark: Any, method: str, tmp_path: Path) -> None:
    rig = prefix_epochs.rig_of(method, backbones.EMBEDDED, 16, COUNT)
    prefix, _ = prefix_epochs.stored(rig, tmp_path)
    benchmark.extra_info["images"] = COUNT
    benchmark.pedantic(prefix_epochs.epoch, (rig, prefix), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="store")
def test_a_record_is_saved(benchmark: Any, tmp_path: Path) -> None:
    record = fakes.record(fakes.spec())
    benchmark.pedantic(store.save, (record, tmp_path), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="store")
def test_a_record_is_loaded(benchmark: Any, tmp_path: Path) -> None:
    path = store.save(fakes.record(fakes.spec()), tmp_path)
    benchmark.pedantic(store.load, (path,), rounds=10, warmup_rounds=1)
