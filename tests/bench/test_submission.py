"""A pack of honest runs is verified; each forgery is refused by its name; what cannot be seen is never verified."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import checkout, cli
from bench.engine.record import execute
from bench.engine.where import Where
from bench.planning import examine
from bench.verbs import judge
from results import archive, received, store
from results.schema import RunResult
from results.suites import Column, Entry, Row, SuiteView

from . import tiny

HERE = Where(Path(), None, None)


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one method."""
    folder = tmp_path_factory.mktemp("finished")
    for seed in (0, 1):
        made = execute(tiny.spec("lora", epochs=1, seed=seed), {}, tiny.where(folder, checkpoints=None),
                       folder / "runs")
        assert made.status == "ok", made.failure
    return folder / "runs"


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their records, to be tampered with by somebody who packs them."""
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.setattr(checkout, "RECEIVED", tmp_path / "received")
    monkeypatch.setattr(checkout, "CACHE", tmp_path / "cache")
    return tmp_path / "runs"


def _first(runs: Path) -> Path:
    return next(p for p in store.record_files(runs) if "-s0-" in p.name)


def _again(path: Path, **changes: Any) -> RunResult:
    """The record stored anew, with a hash for every file as it lies there now: nothing but the content can tell."""
    record = store.load(path)
    kept = []
    for artifact in record.artifacts:
        content = path.with_name(artifact.path).read_bytes()
        kept.append(replace(artifact, sha256=sha256(content).hexdigest(), bytes=len(content)))
    changed = replace(record, artifacts=tuple(kept), **changes)
    store.save(changed, path.parents[1])
    return changed


def _judged(runs: Path, sample: int | None = None) -> dict[int, received.Judged]:
    """Seed -> verdict, after packing and taking out."""
    out = runs.parent / "made.zip"
    archive.write(store.record_files(runs), out)
    found = judge.judge(archive.unpack(out, checkout.RECEIVED), None, None, HERE, sample)
    return {one.record.spec.seed: one.judged for one in found.values()}


def _only_first(runs: Path, verdict: str, words: str) -> None:
    found = _judged(runs)
    assert found[0].verdict == verdict and words in found[0].why
    assert found[1].verdict == "verified", "the other run is judged for itself"


def test_honest_runs_are_verified_by_their_weights(runs: Path) -> None:
    found = _judged(runs)
    assert {one.verdict for one in found.values()} == {"verified"}
    assert "40 of 40 predictions are the same" in found[0].why


def test_what_is_not_scored_again_is_consistent(runs: Path) -> None:
    assert {one.verdict for one in _judged(runs, sample=0).values()} == {"consistent"}
    one = _judged(runs, sample=1)
    assert sorted(j.verdict for j in one.values()) == ["consistent", "verified"]


def test_a_raised_score_with_untouched_predictions_is_refused(runs: Path) -> None:
    path = _first(runs)
    metrics = store.load(path).metrics
    _again(path, metrics=metrics | {"test.top1": (metrics["test.top1"] or 0) + 0.1})
    _only_first(runs, "refused", "score changed: the record says test.top1")


def _as_labels(path: Path, whole: bool, forged: str = "pred") -> None:
    """Predictions that are the labels, with every number that follows; `whole`: confidence and loss, too. Or labels
    that are the predictions."""
    from results.metrics import metrics

    held = dict(np.load(path.with_suffix(".npz")))
    held[forged] = held["pred" if forged == "label" else "label"].astype(held[forged].dtype)
    if whole:
        held["nll"] = -np.log(held["confidence"])
    stream = io.BytesIO()
    np.savez_compressed(stream, **held)
    path.with_suffix(".npz").write_bytes(stream.getvalue())
    now = metrics(held["pred"], held["label"], held["confidence"], held["nll"], "test")
    _again(path, metrics=store.load(path).metrics | now)


def test_labels_in_place_of_predictions_are_refused(runs: Path) -> None:
    _as_labels(_first(runs), whole=False)
    _only_first(runs, "refused", "predictions replaced: on")


def test_labels_in_place_of_predictions_are_refused_by_scoring_when_every_number_fits(runs: Path) -> None:
    _as_labels(_first(runs), whole=True)
    _only_first(runs, "refused", "predictions replaced: scored again")


def test_answers_in_place_of_labels_are_refused_by_the_data_when_every_number_fits(runs: Path) -> None:
    _as_labels(_first(runs), whole=True, forged="label")
    _only_first(runs, "refused", "the labels stored for test are not those of the data here")


def test_an_adapter_of_another_run_is_refused(runs: Path) -> None:
    path = _first(runs)
    other = next(p for p in store.record_files(runs) if p != path)
    path.with_suffix(".safetensors").write_bytes(other.with_suffix(".safetensors").read_bytes())
    _again(path)
    _only_first(runs, "refused", "another run's adapter")


def test_an_adapter_of_another_method_is_refused_by_what_it_says_of_itself(runs: Path, tmp_path: Path) -> None:
    made = execute(tiny.spec("bitfit", epochs=1), {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "others")
    theirs = store.path_of(made.spec, tmp_path / "others").with_suffix(".safetensors")
    path = _first(runs)
    path.with_suffix(".safetensors").write_bytes(theirs.read_bytes())
    _again(path)
    _only_first(runs, "refused", "was trained by bitfit")


def test_a_test_read_twice_is_refused(runs: Path) -> None:
    _again(_first(runs), test_passes=2)
    _only_first(runs, "refused", "test read twice")


@pytest.mark.parametrize("forge", (lambda path: _as_labels(path, True), lambda path: path.with_suffix(
    ".safetensors").write_bytes(next(p for p in path.parent.glob("*-s1-*.safetensors")).read_bytes())))
def test_without_the_backbone_no_row_is_verified(runs: Path, monkeypatch: pytest.MonkeyPatch, forge: Any) -> None:
    from bench.engine import backbones

    def none_here(*words: Any) -> None:
        raise backbones.BackboneError("its weights are not on this machine")

    monkeypatch.setattr(backbones, "find_weights", none_here)
    forge(_first(runs))
    _again(_first(runs))
    found = _judged(runs)
    assert {one.verdict for one in found.values()} == {"consistent"}
    assert "not on this machine" in found[0].why


def test_without_weights_without_data_and_without_predictions(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _first(runs)
    path.with_suffix(".safetensors").unlink()
    found = _judged(runs)
    assert (found[0].verdict, found[1].verdict) == ("consistent", "verified")
    path.with_suffix(".npz").unlink()
    assert _judged(runs)[0].verdict == "claimed" and "were not sent" in _judged(runs)[0].why
    tiny.forget()
    try:
        assert _judged(runs)[1].verdict == "consistent"
    finally:
        tiny.use()


def test_other_images_other_sources_and_other_settings(runs: Path) -> None:
    path = _first(runs)
    record = store.load(path)
    assert record.dataset is not None
    for changes, verdict, words in (
        ({"dataset": replace(record.dataset, split_hash="0" * 64)}, "refused", "other images: the training list"),
        ({"dataset": replace(record.dataset, content_hash="0" * 64)}, "refused", "other images: the training pixels"),
        ({"method": replace(record.method, source_hash="0" * 64)}, "claimed", "source is another here"),
        ({"method": replace(record.method, text="lora(rank=2)")}, "refused", "another method"),
        ({"method": replace(record.method, adapts_at_test="online")}, "refused", "adapts at test not at all"),
        ({"method": replace(record.method, text="nobodys")}, "claimed", "there is no method 'nobodys'"),
    ):
        store.save(replace(record, **changes), runs)  # type: ignore[arg-type]
        found = _judged(runs)[0]
        assert (found.verdict, words in found.why) == (verdict, True), found


def _suite(runs: Path, seeds: tuple[int, ...]) -> SuiteView:
    record = store.load(_first(runs))
    entries = []
    for seed in seeds:
        entries.append(Entry(tiny.spec("lora", epochs=1, seed=seed).id, tiny.DATASET, record.method.text, tiny.MODEL,
                             seed))
    return SuiteView("mine", "Mine", "", "", (Column(tiny.DATASET, "Tiny", "real", False),), {"real": "Real"},
                     (Row(record.method.text, tiny.MODEL),), tuple(entries))


def test_a_row_that_lacks_a_seed_of_its_suite_is_refused(runs: Path) -> None:
    for seeds, verdict in (((0, 1), "consistent"), ((0, 1, 2), "refused")):
        out = runs.parent / f"{len(seeds)}.zip"
        archive.write(store.record_files(runs), out, _suite(runs, seeds))
        found = judge.judge(archive.unpack(out, checkout.RECEIVED), None, None, HERE, 0)
        assert {one.judged.verdict for one in found.values()} == {verdict}
    assert all("lacks seed 2" in one.judged.why for one in found.values())


def test_rows_of_unequal_budgets_are_refused(runs: Path, tmp_path: Path) -> None:
    tried = {"tuned.budget": 4, "tuned.sampler": "grid"}
    _again(_first(runs), passed=tried | {"tuned.tried": 4})
    made = execute(tiny.spec("bitfit", epochs=1), tried | {"tuned.tried": 16}, tiny.where(tmp_path, checkpoints=None),
                   runs)
    assert made.status == "ok"
    out = tmp_path / "unequal.zip"
    archive.write([p for p in store.record_files(runs) if "-s0-" in p.name], out)
    found = judge.judge(archive.unpack(out, checkout.RECEIVED), None, None, HERE, 0)
    assert {one.judged.verdict for one in found.values()} == {"refused"}
    assert all("unequal budget" in one.judged.why for one in found.values())


def test_a_tuned_row_that_its_suite_calls_plain_is_refused(runs: Path) -> None:
    for path in store.record_files(runs):
        _again(path, passed={"tuned.budget": 4, "tuned.sampler": "grid", "tuned.tried": 4})
    suite = _suite(runs, (0, 1))
    for pool, verdict in (("tuned per set", "consistent"), ("plain", "refused"), ("", "refused")):
        out = runs.parent / f"{pool}.zip"
        archive.write(store.record_files(runs), out, replace(suite, rows=(replace(suite.rows[0], pool=pool),)))
        found = judge.judge(archive.unpack(out, checkout.RECEIVED), None, None, HERE, 0)
        assert {one.judged.verdict for one in found.values()} == {verdict}, pool
    assert all("calls the row plain, its runs say that 4 of 4 settings (grid) were tried" in one.judged.why
               for one in found.values())


def test_several_runs_put_together_are_no_row_of_single_runs(runs: Path) -> None:
    record = store.load(_first(runs))
    record = replace(record, spec=replace(record.spec, combined="seeds", ingredients=("1*aaaaaaaaaaaa",)))
    suite = _suite(runs, (0,))
    entry = replace(suite.entries[0], run_id=record.run_id)
    for pool, words in (("plain", "the suite calls the row plain, its runs put several together"), ("ensembled", "")):
        told = replace(suite, entries=(entry,), rows=(replace(suite.rows[0], pool=pool),))
        assert examine.rows([record], told).get((record.method.text, tiny.MODEL), "").endswith(words)
        assert bool(examine.rows([record], told)) is bool(words)


def test_the_commands(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checkout, "RUNS", runs)
    out = tmp_path / "mine.zip"
    ids = [received.run_of(p) for p in store.record_files(runs)]
    assert cli.main(["pack", *ids, "--out", str(out)]) == 0
    assert "2 runs, 2 of them with weights" in capsys.readouterr().out
    assert cli.main(["submit-check", str(out), "--device", "cpu"]) == 0
    assert "2 verified" in capsys.readouterr().out
    (folder,) = received.folders(["all"], checkout.RECEIVED)
    assert {one.verdict for one in received.verdicts(folder).values()} == {"verified"}
    assert cli.main(["unpack", str(out)]) == 0 and "2 runs" in capsys.readouterr().out
    out.write_bytes(b"PK")
    for verb in ("unpack", "submit-check"):
        assert cli.main([verb, str(out)]) == 1 and "refused: mine.zip" in capsys.readouterr().out
    assert cli.main(["pack", "nosuchthing", "--out", str(out)]) == 2
    assert "no run is called 'nosuchthing'" in capsys.readouterr().err
