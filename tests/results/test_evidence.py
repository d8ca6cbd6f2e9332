"""Records and the predictions beside them: what does not follow is named, whatever the file is, and nothing waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import evidence, index, packs, ranges, store
from results.evidence import CONTRADICTED, UNPROVEN, PredictionError
from results.metrics import recompute
from results.parsing import parse
from results.schema import Artifact, RecordError, from_json, to_json
from results.strict import sound
from tests.reports import fakes
from tests.results.damage import BROKEN, NO_FILES, npz

RUN = fakes.spec("svhn")


def _store(root: Path, content: bytes, **metrics: float) -> Path:
    """A record that names the file's true hash, and the file."""
    path = store.path_of(RUN, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".npz").write_bytes(content)
    kept = Artifact("predictions", f"{path.stem}.npz", sha256(content).hexdigest(), len(content))
    told = {"test.top1": 1.0, "test.n": 40.0, **{k.replace("__", "."): v for k, v in metrics.items()}}
    return store.save(fakes.record(RUN, 1.0, artifacts=(kept,), metrics=told), root)


def test_the_numbers_are_those_of_a_count_by_hand() -> None:
    pred, label = np.array([0, 1, 1, 2, 2, 0]), np.array([0, 0, 1, 2, 2, 2])  # right: 1 of 2, 1 of 1, 2 of 3
    found = evidence.numbers(pred, label)
    assert found["top1"] == 4 / 6 and found["n"] == 6.0
    assert found["class_mean"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert found["se"] == pytest.approx(0.19245008972987526)


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_file_is_one_sentence_everywhere(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PredictionError):
        evidence.arrays(BROKEN[kind])
    path = _store(tmp_path, BROKEN[kind])
    columns = index.read(tmp_path, index=False)
    assert f"svhn/{path.stem}.npz" in columns.get_text(f"{UNPROVEN}.test", 0)
    told: list[RecordError] = []
    assert not list(recompute(tmp_path, on_problem=told.append))
    assert len(told) == 1 and path.stem in str(told[0])


@pytest.mark.parametrize("kind", sorted(NO_FILES))
def test_what_is_no_file_is_named_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = _store(tmp_path, npz())
    path.with_suffix(".npz").unlink()
    NO_FILES[kind](path.with_suffix(".npz"))
    why = index.read(tmp_path, index=False).get_text(f"{UNPROVEN}.test", 0)
    assert why.startswith(f"svhn/{path.stem}.npz: ") and ("is missing" in why or "cannot be read" in why)


@pytest.mark.parametrize(("metric", "value"), (("top1", 0.975), ("n", 41.0), ("class_mean", 0.5), ("se", 0.1)))
def test_a_number_beside_unchanged_predictions_is_contradicted(metric: str, value: float, tmp_path: Path) -> None:
    path = _store(tmp_path, npz(), **{f"test__{metric}": value})
    why = index.read(tmp_path, index=False).get_text(f"{CONTRADICTED}.test", 0)
    assert why.startswith(f"field 'metrics.test.{metric}' is {value:.6g}, but the predictions in svhn/{path.stem}.npz")


def test_what_follows_has_no_fault(tmp_path: Path) -> None:
    _store(tmp_path, npz(), test__class_mean=1.0, test__se=0.0)
    assert not [name for name in index.read(tmp_path).text if name.startswith((CONTRADICTED, UNPROVEN))]


def test_further_splits_have_their_own_faults(tmp_path: Path) -> None:
    path = store.path_of(RUN, tmp_path)
    path.parent.mkdir()
    files = {"predictions": npz(), "predictions:noadapt": npz(), "predictions:other": npz()}
    kept = []
    for kind, content in files.items():
        name = f"{path.stem}{'.test.' + kind.partition(':')[2] if ':' in kind else ''}.npz"
        path.with_name(name).write_bytes(content)
        kept.append(Artifact(kind, name, sha256(content).hexdigest(), len(content)))
    path.with_name(kept[2].path).write_bytes(npz(compress=False))
    store.save(fakes.record(RUN, 1.0, artifacts=tuple(kept), metrics={
        "test.top1": 1.0, "test:noadapt.top1": 0.5, "test:other.top1": 1.0}), tmp_path)
    columns = index.read(tmp_path)
    found = {name: bool(columns.get_text(name, 0)) for name in columns.text if name.startswith(("contra", "unpro"))}
    assert found == {"contradicted.test:noadapt": True, "unproven.test:other": True}


def _old(root: Path) -> None:
    """As if everything had been written long ago, so that the index trusts time stamps."""
    import os

    for path in root.rglob("*"):
        if path.is_file():
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**10))


def test_the_index_notices_changed_predictions_both_ways(tmp_path: Path) -> None:
    path = _store(tmp_path, npz())
    _old(tmp_path)
    held = path.with_suffix(".npz")
    good, stat = held.read_bytes(), held.stat()

    def fault() -> str:
        return index.read(tmp_path).get_text(f"{UNPROVEN}.test", 0)

    assert not fault() and not fault()
    held.write_bytes(npz(pred=np.zeros(40, np.int32)))
    assert "is not the file that was stored" in fault()
    held.unlink()
    assert "is missing" in fault()
    held.write_bytes(good)
    assert not fault()
    import os

    os.utime(held, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not fault()


def test_predictions_are_hashed_once_while_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _store(tmp_path, npz())
    _old(tmp_path)
    index.read(tmp_path)
    monkeypatch.setattr(index, "faults", lambda *_: pytest.fail("the predictions were read again"))
    assert len(index.read(tmp_path)) == 1


BODY: dict[str, Any] = json.loads(to_json(fakes.record(RUN, 0.5, artifacts=(Artifact("log", "a", "b", 1),),
                                                       history=({"val.top1": 0.5},))))


def _set(*where: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = where

    def change(body: dict[str, Any]) -> None:
        place: Any = body
        for key in path:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(("change", "field"), (
    (_set("metrics", "test.top1", 7.5), "metrics.test.top1"), (_set("metrics", "test.top1", -0.1), "metrics.test.top1"),
    (_set("metrics", "test:other.class_mean", 1.1), "metrics.test:other.class_mean"),
    (_set("metrics", "test.n", 0.0), "metrics.test.n"), (_set("metrics", "test.n", 2.5), "metrics.test.n"),
    (_set("metrics", "test.nll", -1.0), "metrics.test.nll"), (_set("metrics", "test.ece", 2), "metrics.test.ece"),
    (_set("history", 0, "val.top1", 2.0), "history[0].val.top1"),
    (_set("params", "trained", -1), "params.trained"),
    (_set("memory", "gradients_bytes", -1), "memory.gradients_bytes"),
    (_set("time", "train_s", -0.5), "time.train_s"), (_set("dataset", "train", -5), "dataset.train"),
    (_set("throughput", "train_images_per_s", -1.0), "throughput.train_images_per_s"),
    (_set("test_passes", -1), "test_passes"), (_set("artifacts", 0, "bytes", -1), "artifacts"),
    (_set("cell_id", "0" * 12), "cell_id"), (_set("cell_id", None), "cell_id"), (_set("phase", "tune"), "phase"),
    (_set("run_id", "0" * 12), "run_id"),
))
def test_what_cannot_be_is_refused_by_name(change: Callable[[dict[str, Any]], None], field: str) -> None:
    body = json.loads(json.dumps(BODY))
    assert sound(body)
    change(body)
    assert not sound(body)
    assert ranges.problem(body) == "" or not ranges.possible(body), "the quick check is never the milder one"
    with pytest.raises(RecordError, match=f"'{field}'".replace("[", r"\[").replace(".", r"\.")):
        from_json(json.dumps(body))


@pytest.mark.parametrize("spec", ({"batch_size": 0}, {"epochs": -1}, {"lr": -0.1}, {"drop_path": 1.5},
                                  {"holdout": -1.0}, {"label_smoothing": 2.0}, {"image_size": 0}))
def test_a_spec_that_cannot_be_is_refused_under_its_own_id(spec: dict[str, Any]) -> None:
    run = replace(RUN, **spec)
    body = BODY | {"spec": json.loads(json.dumps(asdict(run))), "run_id": run.id, "cell_id": run.cell_id}
    body["spec"] = json.loads(json.dumps(run.written()))
    assert not sound(body)
    with pytest.raises(RecordError, match=f"field 'spec.{next(iter(spec))}' is"):
        from_json(json.dumps(body))


def test_the_ends_of_the_ranges_are_allowed() -> None:
    for top1 in (0.0, 1.0):
        record = fakes.record(RUN, top1, n=1)
        assert from_json(to_json(record)) == record and sound(json.loads(to_json(record)))


@pytest.mark.parametrize("twice", ('"schema": 1,', '"status": "failed",', '"run_id": "000000000000",'))
def test_a_key_that_stands_there_twice_is_refused(twice: str, tmp_path: Path) -> None:
    """Python takes the last of the two; the first may be what a reader saw."""
    text = to_json(fakes.record(RUN, 0.5))
    with pytest.raises(RecordError, match="stands there twice"):
        from_json("{" + twice + text[1:])
    text = text.replace('"test.top1": 0.5', '"test.top1": 0.9, "test.top1": 0.5')
    path = store.path_of(RUN, tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RecordError, match=r"key 'test\.top1' stands there twice"):
        index.read(tmp_path)
    with pytest.raises(RecordError, match=r"key 'test\.top1' stands there twice"):
        store.load(path)


@pytest.mark.parametrize("text", ("[" * 100_000, "{\"a\":" * 100_000, "[" * 100_000 + "]" * 100_000, "NaN", "-Infinity",
                                  "1" * 5000, "{\"a\": 1, \"a\": 1}", "", "{"))
def test_whatever_is_wrong_with_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse(text)


def test_every_committed_record_loads_by_the_quick_check_and_follows_from_its_predictions() -> None:
    roots = sorted(path.parent for path in (store.ROOT / "reference").glob("*/suite.json"))
    count = 0
    for root in roots:
        for path in store.record_files(root):
            body = json.loads(packs.read(path))
            assert sound(body), path
            assert not index.faults_of(body, path.parent), path
            count += 1
    assert count >= 1491


def test_a_score_without_stored_predictions_is_not_believed(tmp_path: Path) -> None:
    metrics = {"test.top1": 0.99, "test:noadapt.top1": 0.5, "train.top1": 1.0, "test.n": 200.0}
    found = evidence.faults(tmp_path, "final", metrics, [])
    assert {split: kind for split, (kind, _) in found.items()} == {"test": UNPROVEN, "test:noadapt": UNPROVEN}
    assert all("no predictions are stored" in why for _, why in found.values())
    assert evidence.unstored("final", metrics, ["predictions", "log"]) == ["test:noadapt"]
    assert evidence.unstored("final", {"test.top1": None}, []) == []


def test_a_record_under_the_name_of_another_run_is_no_record_of_that_run(tmp_path: Path) -> None:
    source = store.ROOT / "reference" / "memory"
    one, other = store.record_files(source)[:2]
    folder = tmp_path / one.parent.name
    folder.mkdir(parents=True)
    (folder / other.name).write_bytes(packs.read(one))
    with pytest.raises(RecordError, match="holds the record of run"):
        store.load(folder / other.name)
    problems: list[RecordError] = []
    assert len(index.read(tmp_path, index=False, on_error=problems.append)) == 0
    assert "holds the record of run" in str(problems[0])
