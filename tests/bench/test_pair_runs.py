"""Runs on pictures with captions: two towers from their names to the record, ranks, resume, the seal, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine import backbones, forms, halves
from bench.engine.forecast import forecast
from bench.engine.loaders import SealedTest, each_picture
from bench.engine.record import execute
from bench.engine.session import Session
from bench.planning.examine import _predictions as received
from datasets import registry
from datasets.card import DataError, Item
from methods.grammar import MethodError, parse
from methods.triplet import Triplet
from reports.check import _record as judged
from results import evidence, store
from results.metrics import recompute

from . import tiny_pairs, tiny_texts
from .tiny_pairs import MODEL, NAME
from .tiny_texts import run


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny_pairs.use()
    yield
    tiny_pairs.forget()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_texts.folder(tmp_path_factory.mktemp("checkpoint"))


def test_a_run_on_pairs_tells_recalls_that_follow_from_its_ranks(at: Path, tmp_path: Path) -> None:
    spec = tiny_pairs.spec("lora", at, epochs=6)
    found = run(spec, at, tmp_path)
    told = found.metrics
    assert told["test.n"] == 24 and found.test_passes == 1 and found.backbone is not None
    assert found.backbone.family == "pair" and found.backbone.weights_sha256 == spec.weights
    recalls = [told[f"test.{side}_r{k}"] or 0.0 for side in ("text", "image") for k in (1, 5, 10)]
    assert told["test.score"] == pytest.approx(sum(recalls) / 6) and (told["test.score_se"] or 0) > 0
    losses = [h["train.loss"] or 0.0 for h in found.history]
    assert losses[-1] < losses[0] and "train.top1" not in found.history[-1]
    assert forecast(spec, 1, 44).memory == found.memory
    assert not list((tmp_path / "cache").glob("prefix/*")), "nothing of two towers is stored"

    path = store.path_of(spec, tmp_path / "runs")
    held = np.load(path.with_suffix(".npz"))
    assert str(held["task"]) == "match" and held["pred"].shape == held["rank_of_text"].shape == (24,)
    assert list(recompute(tmp_path / "runs")) == []
    kept = [(a.kind, a.path, a.sha256) for a in found.artifacts]
    assert evidence.faults(path.parent, "final", told, kept, "rmean") == {}
    wrong = evidence.faults(path.parent, "final", told | {"test.score": 0.99}, kept, "rmean")
    assert wrong["test"][0] == evidence.CONTRADICTED and "test.score" in wrong["test"][1]
    changed = replace(found, metrics=told | {"test.image_r5": 0.99})
    ranks = path.with_suffix(".npz").read_bytes()
    assert received(ranks, "test", found) == "" and "score changed" in received(ranks, "test", changed)
    assert [t for t in judged(found, path.parent) if "dirty" not in t] == []
    assert any("test.image_r5" in t for t in judged(changed, path.parent))
    body = json.loads(path.read_text())
    body["metrics"]["test.image_r5"] = 0.99
    path.write_text(json.dumps(body))
    assert [d.metric for d in recompute(tmp_path / "runs")] == ["test.image_r5"]

    adapter = next(a.path for a in found.artifacts if a.kind == "adapter")
    again, _ = Session(spec, registry.get(NAME), tiny_texts.where(at, tmp_path)).test_again(path.with_name(adapter))
    assert (again.pred[:, 0] == held["pred"]).all() and (again.label == held["label"]).all()


def test_a_set_with_folds_is_ranked_within_each_of_them_too(at: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """As COCO's 1K numbers: 12 test pictures in 3 folds of 4, each picture among 4 and each caption among 8."""
    monkeypatch.setitem(registry._cards, NAME, replace(registry.get(NAME), folds=3))
    found = run(tiny_pairs.spec("lora", at, epochs=1), at, tmp_path)
    told, path = found.metrics, store.path_of(found.spec, tmp_path / "runs")
    assert told["test:folds.text_r10"] == told["test:folds.image_r5"] == 1.0, "of 4 pictures, 6 others' captions"
    assert (told["test:folds.score"] or 0) > (told["test.score"] or 0) and found.test_passes == 1
    file = {a.kind: path.parent / a.path for a in found.artifacts}
    alone, among = np.load(file["predictions:folds"]), np.load(file["predictions"])
    assert alone["pred"].max() < 4 and (alone["pred"] <= among["pred"]).all()
    assert told["test:folds.image_r1"] == pytest.approx((alone["pred"] < 1).mean())
    assert str(alone["items"]) == str(among["items"]) and list(recompute(tmp_path / "runs")) == []
    kept = [(a.kind, a.path, a.sha256) for a in found.artifacts]
    assert evidence.faults(path.parent, "final", told, kept, "rmean") == {}
    assert "test:folds" in evidence.faults(path.parent, "final", told | {"test:folds.score": 0.99}, kept,
                                            "rmean")
    tuned = run(replace(tiny_pairs.spec("lora", at, epochs=1), phase="tune"), at, tmp_path)
    assert "val.score" in tuned.metrics and not any("folds" in name for name in tuned.metrics)


def test_coco_alone_has_folds() -> None:
    assert {card.name: card.folds for card in registry.cards("captions") if card.folds > 1} == {"coco": 5}


@pytest.mark.parametrize("method", ["linear", "full", "sherl(reduction=4)", "unipt(reduction=4)", "bitfit",
                                    "lst(reduction=4, init='magnitude')"])
def test_a_method_runs_on_both_towers(method: str, at: Path, tmp_path: Path) -> None:
    found = run(tiny_pairs.spec(method, at, epochs=1), at, tmp_path)
    assert found.metrics["test.score"] is not None


def test_ranks_are_those_of_all_pictures_and_all_captions_and_equal_embeddings_find_nothing(
        at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.engine.matching import ranked
    from methods.pair import Inputs, Towers

    session = Session(tiny_pairs.spec("linear", at, epochs=1), registry.get(NAME), tiny_texts.where(at, tmp_path))
    session.run()
    run_, pictures = session.built, session.built.train_pictures
    batches = run_.splits.of(pictures)
    (found,), model = ranked(run_.fit, batches), run_.fit.model
    assert isinstance(model, Towers)
    model.eval()
    with torch.no_grad():
        whole = next(run_.splits.of(pictures.take(range(5))).in_order()).x
        assert isinstance(whole, Inputs) and whole.image.shape == (5, 3, 48, 48) and whole.text.shape == (5, 8)
        out = torch.cat([model(batches.pairs(torch.arange(s, min(s + 7, 44)))) for s in range(0, 44, 7)])
    image, text = (t.numpy() for t in out.chunk(2, 1))
    for caption in (0, 9, 43):  # pairs embedded together give the scores of those embedded apart
        scores = text[caption] @ image[::2].T
        assert found.pred[caption, 0] == int((scores > scores[caption // 2] + 1e-6).sum())
    for tower in ("pictures", "texts"):
        monkeypatch.setattr(model, tower, lambda x: torch.ones(len(x), 4))
    (constant,) = ranked(run_.fit, batches)
    assert (constant.pred == [21, 42]).all(), "ties count against: nothing is found"


def test_test_pictures_are_listed_after_training_and_a_tuning_run_has_none(at: Path, tmp_path: Path) -> None:
    when: dict[str, int] = {}

    def progress(done: int, steps: int) -> None:
        when[f"{done}"] = tiny_pairs.SEEN.count("test")

    execute(tiny_pairs.spec("linear", at, epochs=1), {}, tiny_texts.where(at, tmp_path), tmp_path / "runs", progress)
    assert set(when.values()) == {0} and tiny_pairs.SEEN.count("test") == 1
    tune = Session(tiny_pairs.spec("linear", at, epochs=1, phase="tune", select="val"), registry.get(NAME),
                   tiny_texts.where(at, tmp_path))
    found = tune.run()
    assert {"val.score", "val.image_r1"} <= found.metrics.keys() and tiny_pairs.SEEN.count("test") == 1
    with pytest.raises(SealedTest):
        tune.data().test()


class Killed(BaseException):
    """What `execute` does not catch."""


def test_a_killed_run_goes_on_to_the_same_bits(at: Path, tmp_path: Path) -> None:
    spec, root = tiny_pairs.spec("sherl(reduction=4)", at), tmp_path / "killed"
    whole = run(spec, at, tmp_path / "whole")

    def kill(done: int, steps: int) -> None:
        if done == steps - 2:
            raise Killed

    where = tiny_texts.where(at, root, checkpoints=root / "checkpoints", checkpoint_every_epochs=1)
    with pytest.raises(Killed):
        execute(spec, {}, where, root / "runs", kill)
    found = execute(spec, {}, where, root / "runs")
    assert found.status == "ok" and [a.resumed_from_step for a in found.attempts][-1] > 0
    assert (found.metrics, found.history, found.diagnostics) == (whole.metrics, whole.history, whole.diagnostics)


def test_a_run_with_the_triplet_loss_killed_in_its_second_epoch_goes_on_to_the_same_bits(
        at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stands in the loss's schedule follows from its step: 5 steps an epoch, killed behind the eighth."""
    spec, root = tiny_pairs.spec("lora", at, epochs=3, loss="triplet"), tmp_path / "killed"
    stood: list[tuple[bool, float]] = []
    loss = Triplet.loss
    monkeypatch.setattr(Triplet, "loss", lambda self, *given: (
        stood.append((self.hardest, self.weight)), loss(self, *given))[1])
    whole = run(spec, at, tmp_path / "whole")
    assert stood == [(False, 1.0)] * 5 + [(True, k / 5) for k in range(5)] + [(True, 1.0)] * 5
    assert forecast(spec, 1, 44).memory == whole.memory

    def kill(done: int, steps: int) -> None:
        if done == 8:
            raise Killed

    where = tiny_texts.where(at, root, checkpoints=root / "checkpoints", checkpoint_every_s=0)
    with pytest.raises(Killed):
        execute(spec, {}, where, root / "runs", kill)
    stood.clear()
    found = execute(spec, {}, where, root / "runs")
    assert found.status == "ok" and [a.resumed_from_step for a in found.attempts][-1] == 7
    assert stood[:3] == [(True, 0.4), (True, 0.6), (True, 0.8)]
    assert (found.metrics, found.history, found.diagnostics) == (whole.metrics, whole.history, whole.diagnostics)


def test_the_triplet_loss_is_asked_for_by_name_on_pairs_alone(at: Path, tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError
    from bench.suites import SUITES

    plain = tiny_pairs.spec("lora", at)
    hinge = replace(plain, loss="triplet")
    assert "loss" not in plain.written() and hinge.written()["loss"] == "triplet"
    assert hinge.id != plain.id and hinge.protocol_id != plain.protocol_id
    pair = Request(datasets=("flickr30k",), data="standin", methods=("lora",), backbones=("regatta_vit_48:bert",),
                   weights=at, seeds=(0,), epochs=1, sets=("loss=triplet", "text_length=24"))
    made = make(pair, tmp_path)
    assert made.runs[0].spec.loss == "triplet" and "triplet loss" in made.view.note + made.view.protocol
    assert make(replace(pair, sets=("loss=", "text_length=24")), tmp_path).runs[0].spec.loss == ""
    for asked, told in ((replace(pair, sets=("loss=hinge",)), "loss must be one of '' (the task's own), triplet"),
                        (Request(datasets=("svhn",), methods=("lora",), data="standin", sets=("loss=triplet",)),
                         "needs a pair of towers"),
                        (replace(pair, sets=("loss=triplet", "compiled=True")), "its batches are two tensors")):
        with pytest.raises(UsageError) as refused:
            make(asked, tmp_path)
        assert any(told in problem for problem in refused.value.problems), refused.value.problems
    with pytest.raises(MethodError, match="needs a pair of towers"):
        forms.check_settings("vit", {"loss": "triplet"})
    protocol = SUITES["sherl-retrieval"]().protocol
    assert (protocol["loss"], protocol["lr"]) == ("triplet", 5e-4) and "loss" not in SUITES["retrieval-demo"]().protocol


def test_the_hash_of_a_pair_is_that_of_both_towers_and_a_wrong_name_or_file_is_a_sentence(at: Path) -> None:
    image, text = halves.parted(MODEL)
    parts = backbones.find_weights(image).sha256, backbones.find_weights(text, at).sha256
    assert backbones.find_weights(MODEL, at).sha256 == halves.hash_of(*parts) != halves.hash_of(*parts[::-1])
    assert backbones.completed(f"{image}:bert", at) == MODEL and backbones.image_size(MODEL) == 48
    assert backbones.family(MODEL) == backbones.PAIR
    for name in ("minilm:regatta_vit_48", "regatta_vit_48:regatta_vit_48", "regatta_vit_48:", ":minilm",
                 "regatta_vit_48:minilm:minilm", "regatta_vit_48:t5_base.decoder"):
        with pytest.raises(backbones.BackboneError, match="is no pair of towers"):
            backbones.check_name(name)
    with pytest.raises(backbones.BackboneError, match="brings no text tower"):
        backbones.find_weights(MODEL, Path(__file__))
    with pytest.raises(backbones.BackboneError, match="are others than the run's"):
        backbones.load(MODEL, replace(backbones.find_weights(MODEL, at), sha256="0" * 64))


def test_what_does_not_fit_a_pair_is_a_sentence(at: Path, tmp_path: Path) -> None:
    card = registry.get(NAME)
    for method, told in (("lora+pace", "'pace' does not run on a pair of towers: only adapters do"),
                         ("lst", "write lst"), ("lp_ft", "its probe is fitted to classes"),
                         ("vpt_deep", "does not run on a pair of towers: its prompts lengthen")):
        assert told in forms.input_problems(parse(method), backbones.PAIR, card)[0]
    assert forms.input_problems(parse("sherl"), backbones.PAIR, card) == []
    assert "needs a pair of towers" in forms.input_problems(parse("lora"), "vit", card)[0]
    assert "needs a pair of towers" in forms.input_problems(parse("lora"), "text", card)[0]
    assert "which a pair of towers does not read" in forms.input_problems(parse("lora"), backbones.PAIR,
                                                                          registry.get("svhn"))[0]
    for name, value in (("fold", "1/3"), ("augment", "crop_flip"), ("label_smoothing", 0.1), ("compiled", True),
                        ("merged_eval", True), ("class_query", True), ("batch_norm", "eval"), ("head_seed", 1)):
        spec = tiny_pairs.spec("lora", at, **{name: value})
        with pytest.raises(MethodError, match="does not fit a pair of towers"):
            forms.check_settings(backbones.PAIR, vars(spec))
    found = execute(tiny_pairs.spec("lora", at, label_smoothing=0.1), {}, tiny_texts.where(at, tmp_path),
                    tmp_path / "runs")
    assert found.failure is not None and "no classes to smooth over" in found.failure.message


def test_pictures_are_numbered_without_a_gap() -> None:
    rows = tiny_pairs.items(Path(), "val")
    assert [one.label for one in each_picture(rows)] == list(range(6))
    with pytest.raises(DataError, match="not numbered from 0"):
        each_picture([Item(one.image, one.label + 1) for one in rows])


def test_a_pair_is_planned_with_its_length_and_tokenizer_and_refused_before_it_runs(at: Path, tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(datasets=("flickr30k",), data="standin", methods=("lora", "linear"),
                    backbones=("regatta_vit_48:bert",), weights=at, seeds=(0,), epochs=1, sets=("text_length=24",))
    plan = make(asked, tmp_path)
    spec = plan.runs[0].spec
    assert {r.spec.model for r in plan.runs} == {MODEL} and spec.weights == backbones.find_weights(MODEL, at).sha256
    assert (spec.text_length, spec.image_size, spec.normalise, spec.augment) == (24, 48, "native", "none")
    assert len(spec.tokenizer) == 12 and plan.runs[0].weights == at / "model.safetensors"
    assert plan.view.columns[0].title.endswith("(mean recall)") and plan.view.columns[0].metric == "rmean"
    with pytest.raises(UsageError) as told:
        make(replace(asked, methods=("lora+pace", "lst"), sets=("label_smoothing=0.1",)), tmp_path)
    assert all(any(words in p for p in told.value.problems) for words in (
        "only adapters do", "write lst(init='magnitude')", "no classes to smooth over"))
    for one in (replace(asked, sets=("batch_size=1",)), replace(asked, sets=("loss=triplet",), batch_size=1)):
        with pytest.raises(UsageError, match="one alone teaches nothing; say 2 or more"):
            make(one, tmp_path)
    assert make(replace(asked, batch_size=2), tmp_path).runs
    found = execute(tiny_pairs.spec("lora", at, batch_size=1), {}, tiny_texts.where(at, tmp_path), tmp_path / "runs")
    assert found.failure is not None and "one alone teaches nothing" in found.failure.message
