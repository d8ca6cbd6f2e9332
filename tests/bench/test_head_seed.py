"""`head_seed`: runs of all seeds begin with one head, all else follows from their own; unset, nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.engine.build import Built
from bench.engine.cache import ImageCache
from bench.engine.loaders import open_data
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from datasets import registry
from results.schema import RunSpec, from_json, to_json
from results.strict import sound
from tests.reports import fakes

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def weights(spec: RunSpec, folder: Path) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """What a run trains, before its first step, and which of it is the head's."""
    where = tiny.where(folder)
    card = registry.get(spec.dataset)
    built = Built(spec, card, where, open_data(card, where.data_root, spec, ImageCache(None)))
    return {n: p.detach().clone() for n, p in built.fit.trainable.items()}, built.fit.head


@pytest.mark.parametrize("method", ["lora", "full", "unipt"])  # lst prunes by its head's gradients
def test_seeds_share_the_head_and_nothing_else(method: str, tmp_path: Path) -> None:
    seeds = ((0, 5), (1, 5), (0, None), (0, 6))
    runs = [weights(tiny.spec(method, seed=s, head_seed=h), tmp_path)[0] for s, h in seeds]
    head = weights(tiny.spec(method), tmp_path)[1]
    assert head
    for name in runs[0]:
        first, other_seed, own, other_head = (run[name] for run in runs)
        if name in head:
            assert torch.equal(first, other_seed)
            if name.endswith("weight"):
                assert not torch.equal(first, own) and not torch.equal(first, other_head)
                assert float(first.std()) == pytest.approx(0.02, rel=0.3)
        else:
            assert torch.equal(first, own) and torch.equal(first, other_head), "the head's draws move no other stream"
    drawn = [n for n in runs[0] if n not in head and not torch.equal(runs[0][n], runs[1][n])]
    assert drawn or method == "full", "the run's seed still draws what an adapter starts from"


def test_unset_it_is_neither_hashed_nor_written_and_set_it_is_another_protocol() -> None:
    plain, own, other = (replace(fakes.spec(), head_seed=h) for h in (None, 0, 1))
    assert plain.id == fakes.spec().id and "head_seed" not in plain.written()
    assert len({s.id for s in (plain, own, other)}) == len({s.protocol_id for s in (plain, own, other)}) == 3
    for spec in (plain, own):
        text = to_json(fakes.record(spec, 0.5))
        assert from_json(text).spec == spec and sound(json.loads(text))


def test_the_command_line_takes_a_whole_number(tmp_path: Path) -> None:
    asked = Request(suite="demo", datasets=("dtd",), methods=("lora",), seeds=(0, 1))
    runs = make(replace(asked, sets=("head_seed=0",)), tmp_path).runs
    assert [r.spec.head_seed for r in runs] == [0, 0] and [r.spec.seed for r in runs] == [0, 1]
    assert make(replace(asked, sets=("head_seed=None",)), tmp_path).runs[0].spec.id == make(
        asked, tmp_path).runs[0].spec.id
    for wrong in ("-1", "0.5", "x", "True"):
        with pytest.raises(UsageError, match="head_seed must be a whole number of 0 or more"):
            make(replace(asked, sets=(f"head_seed={wrong}",)), tmp_path)
