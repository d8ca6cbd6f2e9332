"""Stored weights give the stored predictions again; a file that was tampered with does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save

from bench.engine.record import execute
from bench.engine.where import Where
from bench.planning.request import UsageError
from bench.verbs.verify import check, runs_of
from methods import weights
from results import store
from results.schema import RunResult
from tests.results.damage import BROKEN, NO_FILES

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


def _renamed(path: Path, kind: str, content: bytes) -> None:
    """Put a file in the place of a stored one, and its hash into the record: what is wrong must be found by itself."""
    record = store.load(path)
    (old,) = [a for a in record.artifacts if a.kind == kind]
    path.with_name(old.path).write_bytes(content)
    new = replace(old, sha256=sha256(content).hexdigest(), bytes=len(content))
    store.save(replace(record, artifacts=tuple(new if a is old else a for a in record.artifacts)), path.parents[1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("finished"), "lora")[1]


@pytest.fixture
def stored(finished: Path, tmp_path: Path) -> Path:
    """The record of a finished run, to be tampered with."""
    folder = tmp_path / "runs" / finished.parent.name
    shutil.copytree(finished.parent, folder)
    return folder / finished.name


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_broken_predictions_are_one_sentence(kind: str, stored: Path) -> None:
    _renamed(stored, "predictions", BROKEN[kind])
    good, words = _check(stored)
    assert not good and f"{stored.stem}.npz" in words and "\n" not in words


@pytest.mark.parametrize("kind", sorted(NO_FILES))
@pytest.mark.parametrize("suffix", (".npz", ".safetensors"))
def test_what_is_no_file_is_one_sentence(kind: str, suffix: str, stored: Path) -> None:
    stored.with_suffix(suffix).unlink()
    NO_FILES[kind](stored.with_suffix(suffix))
    good, words = _check(stored)
    assert not good and f"{stored.stem}{suffix} " in words and ("is missing" in words or "cannot be read" in words)


@pytest.mark.parametrize("metric", ("top1", "class_mean", "n", "se"))
def test_a_raised_number_beside_unchanged_predictions_is_noticed(metric: str, stored: Path) -> None:
    record = store.load(stored)
    raised = record.metrics | {f"test.{metric}": 1.0}
    store.save(replace(record, metrics=raised), stored.parents[1])
    good, words = _check(stored)
    assert not good and f"field 'metrics.test.{metric}' is 1, but the predictions in" in words


def _adapters(content: bytes) -> dict[str, bytes]:
    """Adapters broken in ways of their own."""
    held, header = load(content), json.loads(content[8:8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    first = next(iter(held))

    def bent(**changes: Any) -> bytes:
        return save(held | {k.replace("__", "."): v for k, v in changes.items()}, header)

    def one(tensor: torch.Tensor) -> bytes:
        return save(held | {first: tensor}, header)

    told = json.loads(header["regatta"])
    return {
        "empty": b"", "no adapter": b"PK", "cut off": content[:-10], "cut in the head": content[:50],
        "a head without end": (2**62).to_bytes(8, "little") + content[8:],
        "a nested head": (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "nan": one(torch.full_like(held[first], torch.nan)), "infinite": one(torch.full_like(held[first], torch.inf)),
        "complex": one(held[first].to(torch.complex64)), "whole numbers": one(held[first].to(torch.int64)),
        "half": one(held[first].half()), "another shape": one(held[first][..., :1].contiguous()),
        "one more": bent(more=torch.zeros(1)), "one less": save({k: v for k, v in held.items() if k != first}, header),
        "no note": save(held), "a note that is no JSON": save(held, {"regatta": "{"}),
        "a nested note": save(held, {"regatta": "[" * 100_000}), "a list for a note": save(held, {"regatta": "[]"}),
        "a number for a hash": save(held, {"regatta": json.dumps(told | {"backbone_hash": 7})}),
        "another method": save(held, {"regatta": json.dumps(told | {"method": 5})}),
        "another format": save(held, {"regatta": json.dumps(told | {"format": "1"})}),
        "one field more": save(held, {"regatta": json.dumps(told | {"more": 1})}),
    }


def test_broken_adapters_are_one_sentence_each(stored: Path) -> None:
    content = stored.with_suffix(".safetensors").read_bytes()
    for kind, damaged in _adapters(content).items():
        _renamed(stored, "adapter", damaged)
        good, words = _check(stored)
        assert not good and f"{stored.stem}.safetensors" in words and "\n" not in words, (kind, words)
    _renamed(stored, "adapter", content)
    assert _check(stored)[0]


def test_a_record_that_cannot_be_read_is_one_sentence(stored: Path) -> None:
    stored.write_text("{")
    assert _check(stored) == (False, f"{stored.parent.name}/{stored.name}: not valid JSON (Expecting property name "
                                     "enclosed in double quotes: line 1 column 2 (char 1))")


def test_runs_are_named_by_their_first_digits(tmp_path: Path) -> None:
    record, path = _run(tmp_path, "linear")
    assert runs_of([record.run_id[:6]], tmp_path / "runs") == [path] == runs_of(["all"], tmp_path / "runs")
    with pytest.raises(UsageError, match="no run is called 'zzz'"):
        runs_of(["zzz"], tmp_path / "runs")
