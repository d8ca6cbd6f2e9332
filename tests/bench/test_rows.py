"""Several test sets in one pass over the model: equal predictions; pixels go to a GPU once per split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.engine import evaluate
from bench.engine.evaluate import predict_among, predict_row
from bench.engine.feeding import Normaliser
from bench.engine.loaders import cuts
from bench.engine.phases import passes
from bench.perf.rig import Rig, made_up
from datasets import registry

from . import tiny


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.mark.parametrize(("lengths", "size", "wanted"), [
    ([5], 2, [[(0, 0, 2)], [(0, 2, 4)], [(0, 4, 5)]]),
    ([3, 2, 4], 4, [[(0, 0, 3), (1, 0, 1)], [(1, 1, 2), (2, 0, 3)], [(2, 3, 4)]]),
    ([1, 1, 1], 8, [[(0, 0, 1), (1, 0, 1), (2, 0, 1)]]),
    ([4, 4], 4, [[(0, 0, 4)], [(1, 0, 4)]]), ([], 4, [])])
def test_a_row_is_cut_into_full_batches(lengths: list[int], size: int, wanted: list[Any]) -> None:
    assert cuts(lengths, size) == wanted


def rig(**changes: Any) -> Rig:
    return Rig(tiny.spec("lora", dataset="made-up", data="made-up", **changes))


def test_one_pass_over_several_sets_predicts_what_single_passes_do() -> None:
    made = rig(eval_batch_size=16)
    sets = [made_up(count, tiny.SIZE) for count in (21, 3, 40)]
    masks: list[tuple[Any, ...]] = [(None,), (None, (1, 2, 50)), ((0, 7),)]
    alone = [predict_among(made.method, made.fit, made.splits.of(images), ways)
             for images, ways in zip(sets, masks, strict=True)]
    asked: list[int] = []
    plain = made.fit.model.forward
    made.fit.model.forward = lambda x: asked.append(len(x)) or plain(x)  # type: ignore[method-assign, func-returns-value]
    together = predict_row(made.method, made.fit, made.splits.in_row(sets),
                           [(len(images), ways) for images, ways in zip(sets, masks, strict=True)])
    assert asked == [16, 16, 16, 16], "64 images without a short batch between the sets"
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.pred, b.pred)
            np.testing.assert_array_equal(a.label, b.label)
            for column in ("margin", "confidence", "nll"):
                np.testing.assert_allclose(getattr(a, column), getattr(b, column), rtol=1e-4, atol=1e-6)
    assert set(together[1][1].pred) <= {1, 2, 50}


def test_a_row_is_begun_again_with_half_the_batch_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rig(eval_batch_size=32)
    sets = [made_up(count, tiny.SIZE) for count in (20, 20)]
    wanted = [predict_among(made.method, made.fit, made.splits.of(images), (None,))[0].pred for images in sets]
    plain = made.fit.model.forward

    def small(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(x)

    made.fit.model.forward = small  # type: ignore[method-assign]
    row = made.splits.in_row(sets)
    found = predict_row(made.method, made.fit, row, [(20, (None,)), (20, (None,))])
    assert row.batch_size == 16 and made.splits.report() == {"eval_batch": 16.0}
    for pred, (one,) in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(pred, one.pred)


def test_sets_stand_in_a_row_on_a_gpu_alone() -> None:
    names = (tiny.DATASET, tiny.DATASET)
    card = registry.get(tiny.DATASET)
    assert passes(names, in_one=False) == [[card], [card]] and passes(names, in_one=True) == [[card, card]]
    assert passes((), in_one=True) == []


@pytest.mark.parametrize(("room", "once", "each", "largest", "wanted"), [
    (1000.0, 0, 10, 512, 64), (1280.0, 0, 10, 512, 128), (1280.0, 1, 10, 512, 64), (1e12, 0, 10, 512, 512),
    (1e12, 0, 10, 2048, 2048), (5.0, 0, 10, 512, 1), (5.0, 100, 10, 512, 1)])
def test_the_largest_batch_is_a_power_of_two_within_the_room(room: float, once: int, each: int, largest: int,
                                                            wanted: int) -> None:
    assert evaluate.fitting(room, once, each, largest) == wanted


def test_a_splits_pixels_go_to_the_gpu_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The meta device stands for a GPU: shapes without numbers."""
    free = [10**9]
    uploads: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: uploads.append(1) or (free[0], 0))
    normalise = Normaliser((0.5,) * 3, (0.5,) * 3, torch.device("meta"))
    normalise.upload = lambda small: small.to("meta")  # type: ignore[method-assign]
    one, other = (made_up(8, tiny.SIZE).pixels for _ in range(2))
    assert one is not None and other is not None
    for _ in range(3):
        for pixels in (one, other):
            assert normalise.rows(pixels, torch.arange(4)).shape == (4, 3, tiny.SIZE, tiny.SIZE)
    assert len(uploads) == 2
