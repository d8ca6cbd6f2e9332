"""Stored weights give the stored predictions again; a file that was tampered with does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from bench.engine.record import execute
from bench.engine.where import Where
from bench.plan import UsageError
from bench.verify import check, runs_of
from methods import weights
from results import store
from results.schema import RunResult

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def _run(folder: Path, method: str, keep: str = "all", **changes: Any) -> tuple[RunResult, Path]:
    where = tiny.where(folder, checkpoints=None, keep_weights=keep)
    record = execute(tiny.spec(method, epochs=2, **changes), {}, where, folder / "runs")
    return record, store.path_of(record.spec, folder / "runs")


def _check(path: Path) -> tuple[bool, str]:
    return check(path, None, None, Where(Path(), None, None))


@pytest.mark.parametrize("method", ("linear", "lora+pace", "full+tpgm", "bitfit+wise", "lp_ft", "lst", "vpt_deep",
                                    "adapter+ugr(tta='episodic')", "lora+ugr(objective='ent', tta='online')"))
def test_stored_weights_give_the_stored_predictions(method: str, tmp_path: Path) -> None:
    record, path = _run(tmp_path, method)
    assert record.status == "ok", record.failure
    good, words = _check(path)
    assert good and "40 of 40 predictions are the same, margins differ by 0.0e+00" in words


def test_the_record_counts_the_bytes_that_were_stored(tmp_path: Path) -> None:
    record, path = _run(tmp_path, "lora")
    (adapter,) = [a for a in record.artifacts if a.kind == "adapter"]
    assert record.params is not None and record.params.stored_bytes == adapter.bytes
    assert path.with_name(adapter.path).stat().st_size == adapter.bytes
    header = weights.read_header(path.with_name(adapter.path))
    assert (header.card, header.classes, header.backbone) == (tiny.DATASET, tiny.CLASSES, tiny.MODEL)
    held = load_file(path.with_name(adapter.path))
    assert record.params.trained == sum(t.numel() for t in held.values())


def test_weights_are_kept_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.engine import record as engine

    def kinds(keep: str, method: str = "full") -> set[str]:
        return {a.kind for a in _run(tmp_path / keep / method, method, keep)[0].artifacts}

    assert "adapter" in kinds("small"), "small at all"
    monkeypatch.setattr(engine, "SMALL_BYTES", 1000)
    monkeypatch.setattr(engine, "SMALL_SHARE", 0.5)
    assert "adapter" not in kinds("small") and "adapter" in kinds("small", "lora")
    assert "adapter" in kinds("all") and "adapter" not in kinds("none", "lora")
    record, path = _run(tmp_path / "none" / "lora", "lora", "none")
    assert record.params is not None and record.params.stored_bytes, "their size is known all the same"
    assert _check(path) == (False, f"{record.run_id} tiny_test lora seed 0: the run stored no adapter; "
                            "`run --keep-weights all` does")


def test_only_final_runs_store_weights(tmp_path: Path) -> None:
    for phase in ("tune", "peek"):
        record, _ = _run(tmp_path, "lora", phase=phase)
        assert not [a for a in record.artifacts if a.kind == "adapter"]


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    _, path = _run(tmp_path, "lora")
    stored = path.with_suffix(".safetensors")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    good, words = _check(path)
    assert not good and "is not the file that was stored" in words


def test_other_predictions_are_noticed(tmp_path: Path) -> None:
    """Weights of another seed, with a record that says they are right."""
    _, path = _run(tmp_path, "lora")
    other, path_of_other = _run(tmp_path, "lora", seed=1)
    path.with_suffix(".safetensors").write_bytes(path_of_other.with_suffix(".safetensors").read_bytes())
    record = store.load(path)
    theirs = {a.kind: a for a in other.artifacts}
    lying = tuple(replace(theirs["adapter"], path=a.path) if a.kind == "adapter" else a for a in record.artifacts)
    store.save(replace(record, artifacts=lying), tmp_path / "runs")
    good, words = _check(path)
    assert not good and "predictions are the same" in words


def test_other_test_images_are_noticed(tmp_path: Path) -> None:
    record, path = _run(tmp_path, "linear")
    predictions = path.with_suffix(".npz")
    held = dict(np.load(predictions))
    np.savez_compressed(predictions, **held | {"items": np.array("others")})
    artifact = next(a for a in record.artifacts if a.kind == "predictions")
    from hashlib import sha256

    content = predictions.read_bytes()
    changed = replace(artifact, sha256=sha256(content).hexdigest(), bytes=len(content))
    store.save(replace(record, artifacts=tuple(changed if a is artifact else a for a in record.artifacts)),
               tmp_path / "runs")
    good, words = _check(path)
    assert not good and "the test images are others" in words


def test_runs_are_named_by_their_first_digits(tmp_path: Path) -> None:
    record, path = _run(tmp_path, "linear")
    assert runs_of([record.run_id[:6]], tmp_path / "runs") == [path] == runs_of(["all"], tmp_path / "runs")
    with pytest.raises(UsageError, match="no run is called 'zzz'"):
        runs_of(["zzz"], tmp_path / "runs")
