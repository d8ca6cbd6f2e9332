"""What missing runs would cost, from records of like runs; what cannot fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning.price import lines, past, price, refuse
from bench.planning.profile import Profile
from bench.planning.request import Request, UsageError
from bench.planning.resolve import Planned, resolve, specs_of
from results import store
from results.schema import Memory, RunResult
from tests.reports import fakes


def _planned(*methods: str, datasets: tuple[str, ...] = ("digits",), seeds: tuple[int, ...] = (0,),
             batch: int | None = None) -> list[Planned]:
    request = Request(suite="demo", datasets=datasets, methods=methods, seeds=seeds, batch_size=batch)
    return specs_of(request, resolve(request))


def _record(planned: Planned, seconds: float, saved: int = 1_000_000, train: int = 160, test: int = 200,
            device: str = "cpu") -> RunResult:
    made = fakes.record(planned.spec, 0.5)
    assert made.dataset is not None
    return replace(made, time=replace(made.time, total_s=seconds), method=replace(made.method, text=planned.text),
                   dataset=replace(made.dataset, train=train, test=test),
                   memory=Memory(saved, saved / planned.spec.batch_size, 4_000_000, 1_000_000, 1_000_000, 2_000_000),
                   provenance=replace(made.provenance, device=device))


def test_nothing_like_it_means_unknown_and_no_number(tmp_path: Path) -> None:
    found = price(_planned("lora"), past(tmp_path))
    assert found.seconds is None and found.low is None and found.unknown == 1 and found.saved_bytes is None
    assert "no like run is recorded" in lines(found, 1, 1, "core")[0]


def test_the_same_cell_with_other_seeds_counts_first(tmp_path: Path) -> None:
    for seed, seconds in enumerate((10.0, 11.0, 12.0)):
        store.save(_record(*_planned("lora", seeds=(seed,)), seconds), tmp_path)
    store.save(_record(*_planned("linear"), 1.0), tmp_path)
    found = price(_planned("lora", seeds=(7, 8)), past(tmp_path))
    assert found.levels == {"the same cell": 2} and set(found.per_run.values()) == {11.0}
    assert found.low is not None and found.high is not None and found.seconds is not None
    assert 20.0 <= found.low <= found.seconds <= found.high <= 24.0


def test_another_data_set_is_scaled_by_its_images(tmp_path: Path) -> None:
    store.save(_record(*_planned("lora"), 10.0, train=100, test=0), tmp_path)
    store.save(_record(*_planned("linear", datasets=("svhn",)), 1.0, train=300, test=0), tmp_path)
    found = price(_planned("lora", datasets=("svhn",)), past(tmp_path))
    assert found.levels == {"the same method and backbone": 1}
    assert found.seconds == pytest.approx(30.0), "three times the images"
    assert found.low is None, "one record says nothing about the spread"


def test_other_options_then_any_method_on_the_backbone(tmp_path: Path) -> None:
    store.save(_record(*_planned("lora"), 10.0), tmp_path)
    found = price(_planned("lora(rank=2)", "bitfit"), past(tmp_path))
    assert found.levels == {"the same method with other options": 1, "the same backbone": 1}


def test_seconds_of_a_cpu_are_no_gpu_hours(tmp_path: Path) -> None:
    store.save(_record(*_planned("lora"), 100.0), tmp_path)
    assert price(_planned("lora", seeds=(1,)), past(tmp_path), gpu=True).seconds is None
    store.save(_record(*_planned("lora", seeds=(2,)), 5.0, device="Some GPU"), tmp_path)
    found = price(_planned("lora", seeds=(1,)), past(tmp_path), gpu=True)
    told = lines(found, 4, 1, "GPU")[0]
    assert found.seconds == 5.0 and "GPU-hours" in told and "Some GPU" in told


def test_kept_bytes_grow_with_the_batch_and_what_cannot_fit_is_refused(tmp_path: Path) -> None:
    store.save(_record(*_planned("lora", batch=8), 10.0, saved=2_000_000_000), tmp_path)
    todo = _planned("lora", batch=32)
    found = price(todo, past(tmp_path))
    assert found.saved_bytes == 8e9
    (need,) = found.needs
    assert need.host_bytes is not None and need.host_bytes > 8e9 and need.batch == 32
    with pytest.raises(UsageError) as refusal:
        refuse(todo, past(tmp_path), Profile(mem_gb=4))
    assert "'lora' on regatta_vit_48 with batch 32 is expected to take" in refusal.value.problems[0]
    assert "a task gets 4.0 GB" in refusal.value.problems[0] and "--mem-gb" in refusal.value.problems[-1]
    with pytest.raises(UsageError, match="GB of GPU memory, a task gets 8"):
        refuse(todo, past(tmp_path), Profile(gpus=1, mem_gb=64, gpu_mem_gb=8))
    refuse(todo, past(tmp_path), Profile(mem_gb=64))
    refuse(_planned("bitfit"), past(tmp_path), Profile(mem_gb=0.1))  # nothing is known of it: not refused


def test_a_method_that_no_record_is_like_is_forecast(tmp_path: Path) -> None:
    """The network is tiny: a process and a CUDA context take 0.8 GB each, the ledger some megabytes."""
    todo = _planned("bitfit", batch=512)
    with pytest.raises(UsageError, match="'bitfit' on regatta_vit_48 with batch 512"):
        refuse(todo, past(tmp_path), Profile(gpus=1, gpu_mem_gb=0.81), forecast=True)
    refuse(todo, past(tmp_path), Profile(gpus=1, mem_gb=2, gpu_mem_gb=8), forecast=True)


def test_disk_is_what_like_runs_left(tmp_path: Path) -> None:
    made = _record(*_planned("lora"), 10.0)
    path = store.save(made, tmp_path)
    found = price(_planned("lora", seeds=(1, 2)), past(tmp_path))
    assert found.disk_bytes == 2 * path.stat().st_size
