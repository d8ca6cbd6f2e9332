"""Runs on texts from a checkpoint's folder to the record: tokens, tasks, scores, prefix, forecast, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import checkout, cli
from bench.engine import backbones
from bench.engine.forecast import forecast
from bench.engine.record import execute
from bench.engine.session import Session
from bench.engine.wording import Wording, file_hash, usual_length
from datasets import registry
from datasets.card import DataError, Item, Text
from methods.grammar import MethodError
from results import store
from results.metrics import recompute

from . import tiny_texts
from .tiny_texts import MODEL, WORDS, run


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny_texts.use()
    yield
    tiny_texts.forget()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_texts.folder(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize("method", ["linear", "full", "lora", "sherl(reduction=4)", "lst(reduction=4, fisher_images=8)",
                                    "unipt(reduction=4)", "lora_last", "lora+pace", "full+tpgm", "lp_ft",
                                    "lora+ugr(objective='ent')"])
def test_a_method_runs_on_texts_and_its_stored_prefix_changes_no_bit(method: str, at: Path, tmp_path: Path) -> None:
    spec = tiny_texts.spec(method, at)
    found, plain = run(spec, at, tmp_path), run(spec, at, tmp_path / "plain", cached=False)
    assert found.metrics == plain.metrics and found.history == plain.history
    assert found.metrics["test.n"] == 40 and found.backbone is not None and found.backbone.family == "text"
    assert found.diagnostics["cut_share"] == 0 and "test.score" not in found.metrics
    assert found.dataset is not None and len(found.dataset.content_hash) == 64
    stored = list((tmp_path / "cache" / "prefix").glob("*/facts.json"))
    assert bool(stored) == method.startswith(("linear", "sherl", "lst", "unipt", "lora_last"))


def test_the_forecast_is_what_the_first_step_keeps(at: Path, tmp_path: Path) -> None:
    for method in ("lora", "sherl(reduction=4)"):
        spec = tiny_texts.spec(method, at, epochs=1)
        assert forecast(spec, 2, 64).memory == run(spec, at, tmp_path).memory


def test_a_score_is_learned_stored_and_follows_from_its_file(at: Path, tmp_path: Path) -> None:
    from scipy.stats import pearsonr, spearmanr

    spec = tiny_texts.spec("full", at, dataset="tiny_score", epochs=12)
    found = run(spec, at, tmp_path)
    path = store.path_of(spec, tmp_path / "runs")
    held = np.load(path.with_suffix(".npz"))
    r, rho = pearsonr(held["pred"], held["label"])[0], spearmanr(held["pred"], held["label"])[0]
    assert found.metrics["test.score"] == pytest.approx((r + rho) / 2) and found.metrics["test.score"] > 0.5
    assert "test.top1" not in found.metrics and "train.top1" not in found.metrics
    assert found.metrics["test.mse"] == pytest.approx(float(((held["pred"] - held["label"]) ** 2).mean()))
    assert list(recompute(tmp_path / "runs")) == []
    body = json.loads(path.read_text())
    body["metrics"]["test.score"] = 0.99
    path.write_text(json.dumps(body))
    assert [d.metric for d in recompute(tmp_path / "runs")] == ["test.score"]


def test_mcc_is_told_beside_accuracy_and_the_best_epoch_is_chosen_by_it(at: Path, tmp_path: Path) -> None:
    from sklearn.metrics import matthews_corrcoef

    spec = tiny_texts.spec("lora", at, dataset="tiny_mcc", phase="tune", select="val")
    found = run(spec, at, tmp_path)
    assert {"val.top1", "val.mcc", "val.score", "val.score_se"} <= found.metrics.keys()
    looks = [h["val.score"] for h in found.history if "val.score" in h]
    assert looks and found.metrics["val.score"] == max(v for v in looks if v is not None)
    test = run(tiny_texts.spec("lora", at, dataset="tiny_mcc"), at, tmp_path)
    told = np.load(next((tmp_path / "runs").rglob(f"*{test.run_id}.npz")))
    assert test.metrics["test.mcc"] == pytest.approx(matthews_corrcoef(told["label"], told["pred"]))


def test_regression_refuses_what_fits_classes(at: Path, tmp_path: Path) -> None:
    found = execute(tiny_texts.spec("full+tpgm", at, dataset="tiny_score"), {}, tiny_texts.where(at, tmp_path),
                    tmp_path / "runs")
    assert found.status == "failed" and found.failure is not None and "this set has none" in found.failure.message


def test_more_room_for_padding_changes_no_prediction(at: Path, tmp_path: Path) -> None:
    logits = []
    for length in (16, 24):
        session = Session(tiny_texts.spec("lora", at, epochs=1, text_length=length),
                          registry.get("tiny_film"), tiny_texts.where(at, tmp_path))
        session.run()
        batch = next(session.built.splits.of(session.built.train_pictures).in_order())
        with torch.no_grad():
            logits.append(session.built.fit.forward(batch.x))
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


def test_a_text_is_cut_counted_and_padded_and_a_pair_loses_its_longer_part(at: Path) -> None:
    words = Wording(at / "tokenizer.json", pad=0)
    items = [Item(Text("a", "the film was good"), 0), Item(Text("b", "the film was very very bad", "it"), 1)]
    ids, cut = words.numbers(items, 8)
    number = WORDS.index
    assert ids.dtype == np.int32 and cut == 1 and words.lengths(items) == [6, 10]
    assert ids[0].tolist() == [1, *map(number, ["the", "film", "was", "good"]), 2, 0, 0]
    assert ids[1].tolist() == [1, *map(number, ["the", "film", "was", "very"]), 2, number("it"), 2]
    assert usual_length([5] * 99 + [90]) == 96 and usual_length([5] * 400 + [90]) == 8 and usual_length([999]) == 128
    with pytest.raises(DataError, match="is no text"):
        words.numbers([Item(Path("x.png"), 0)], 8)


def test_a_kind_takes_its_numbers_from_the_folder_and_a_wrong_name_says_which_is_right(at: Path) -> None:
    assert backbones.completed("bert", at) == MODEL == backbones.completed(MODEL, at)
    for name in ("t5", "minilm"):
        with pytest.raises(backbones.BackboneError, match="say --backbones bert"):
            backbones.completed(name, at)
    with pytest.raises(backbones.BackboneError, match="whose numbers a folder says"):
        backbones.check_name("bert")


def test_a_folder_that_does_not_fit_is_a_sentence(at: Path, tmp_path: Path) -> None:
    other = tiny_texts.folder(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    state["embeddings.word_embeddings.weight"] = torch.zeros(5, 32)
    save_file(state, other / "model.safetensors")
    with pytest.raises(backbones.BackboneError, match=r"word_embeddings.weight of .* \(5, 32\), expected \(16, 32\)"):
        backbones.check_file(MODEL, backbones.find_weights(MODEL, other))
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokenizer"):
        Wording(other / "tokenizer.json", 0)
    assert backbones.load(MODEL, backbones.find_weights(MODEL, at)).adjusted == ""


def test_a_folder_is_named_planned_and_priced_and_what_does_not_run_is_said(at: Path, tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(datasets=("sst2",), data="standin", methods=("lora", "sherl(reduction=4)"), backbones=("bert",),
                    weights=at, seeds=(0,), epochs=1, sets=("text_length=24",))
    plan = make(asked, tmp_path)
    assert {r.spec.model for r in plan.runs} == {MODEL}
    spec = plan.runs[0].spec
    assert (spec.text_length, spec.image_size, spec.normalise, spec.augment) == (24, 0, "none", "none")
    assert spec.tokenizer == file_hash(at / "tokenizer.json") and plan.runs[0].weights == at / "model.safetensors"
    with pytest.raises(UsageError) as told:
        make(replace(asked, methods=("vpt", "ssf"), datasets=("sst2", "svhn")), tmp_path)
    assert any("its prompts lengthen the sequence" in p for p in told.value.problems)
    assert any("'svhn' holds images" in p for p in told.value.problems)


def test_what_says_nothing_to_texts_is_refused_where_it_was_typed(tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(datasets=("sst2",), data="standin", methods=("lora",), backbones=(backbones.EMBEDDED_TEXT,))
    for name, value in (("augment", "crop_flip"), ("normalise", "peer"), ("image_size", "32")):
        with pytest.raises(UsageError) as told:
            make(replace(asked, sets=(f"{name}={value}",)), tmp_path)
        assert f"{name}={value!r}".replace("'32'", "32") + " is about pictures, and 'sst2' holds texts alone; leave " \
            "it out" in told.value.problems
    for mode in ("train", "eval"):
        with pytest.raises(UsageError, match="means nothing on a text tower, which has no batch norm"):
            make(replace(asked, sets=(f"batch_norm={mode}",)), tmp_path)
    plain = make(asked, tmp_path).runs[0].spec  # the protocol's own native colours are left out, as ever
    assert make(replace(asked, sets=("augment=none",)), tmp_path).runs[0].spec.id == plain.id


def test_one_pair_alone_is_no_batch(tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(datasets=("flickr30k",), data="standin", methods=("linear",), batch_size=1,
                    backbones=(f"regatta_vit_64:{backbones.EMBEDDED_TEXT}",))
    for one in (asked, replace(asked, sets=("loss=triplet",))):
        with pytest.raises(UsageError, match="one alone teaches nothing; say 2 or more"):
            make(one, tmp_path)
    assert make(replace(asked, batch_size=2), tmp_path).runs


def test_no_label_is_smoothed_where_answers_are_numbers(at: Path, tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(datasets=("stsb", "sst2"), data="standin", methods=("linear",), sets=("label_smoothing=0.1",),
                    backbones=(backbones.EMBEDDED_TEXT,))
    with pytest.raises(UsageError) as told:
        make(asked, tmp_path)
    assert told.value.problems == ["label_smoothing=0.1 does not fit 'stsb', whose answers are numbers: there are no "
                                   "classes to smooth over; leave it out"]
    assert make(replace(asked, datasets=("sst2",)), tmp_path).runs[0].spec.label_smoothing == 0.1
    assert make(replace(asked, sets=("label_smoothing=0",)), tmp_path).runs
    found = execute(tiny_texts.spec("linear", at, dataset="tiny_score", label_smoothing=0.1), {},
                    tiny_texts.where(at, tmp_path), tmp_path / "runs")
    assert found.failure is not None and "no classes to smooth over" in found.failure.message


def test_a_card_of_a_method_on_a_text_tower_tells_its_bytes_or_why_it_does_not_run() -> None:
    from bench.verbs.show import _count

    told = _count("lora", "bert_l2_d32_h4_v60_n128")
    assert "texts of 128 tokens" in told and "2,048 trained weights" in told.replace("\n", " ")
    with pytest.raises(backbones.BackboneError, match="its prompts lengthen"):
        _count("vpt_deep", "minilm")


def test_what_asks_a_stored_run_about_images_says_that_this_one_reads_texts(at: Path, tmp_path: Path) -> None:
    from bench.engine.stored import open_run
    from methods.weights import StoredError

    spec = tiny_texts.spec("linear", at, epochs=1)
    run(spec, at, tmp_path)
    with pytest.raises(StoredError, match="reads texts"):
        open_run(store.path_of(spec, tmp_path / "runs"))


def test_a_stored_run_answers_for_texts_as_it_answered_for_its_test_texts(
        at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tiny_texts.spec("lora", at)
    run(spec, at, tmp_path)
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    items, lines = registry.get("tiny_film").items(tmp_path, "test"), tmp_path / "lines.txt"
    lines.write_text("\n".join(item.image.a for item in items) + "\n\n")
    words = ["predict", spec.id, "--weights", str(at), "--texts", str(lines)]
    assert cli.main([*words, "--json", "--top", "1"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    held = np.load(store.path_of(spec, tmp_path / "runs").with_suffix(".npz"))
    assert [one["classes"][0]["class"] for one in told] == held["pred"].tolist() and told[0]["text"] == items[0].image.a
    assert [one["classes"][0]["probability"] for one in told] == pytest.approx(held["confidence"].tolist(), abs=1e-5)
    assert cli.main(words) == 0 and "very bad" in capsys.readouterr().out

    lines.write_text("a\tb\tc\nthe film\tthe story\n")
    assert cli.main(words) == 2 and "line 1: 3 texts" in capsys.readouterr().err
    assert cli.main([*words[:-1], str(tmp_path)]) == 2 and "cannot be read" in capsys.readouterr().err
    assert cli.main([*words[:-2], str(lines)]) == 2 and "reads texts; `predict RUN --texts" in capsys.readouterr().err
    lines.write_text("the film\n\nthe film\tthe story\ngood film\t\n")
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert all(f"line {n}: 2 texts; those of 'tiny_film' stand one on a line" in said for n in (3, 4)), "by its items"
    assert "line 1" not in said
    monkeypatch.setitem(registry._cards, "tiny_film", replace(registry.get("tiny_film"), texts=2))
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "line 1: 1 text; those of 'tiny_film' stand two on a line, a tab between" in said and "line 3" not in said
    assert "line 4: a text beside the tab is empty; those of" in said
    lines.write_text("the film\tthe story\n")
    assert cli.main(words) == 0 and "the film | the story" in capsys.readouterr().out
    scored = tiny_texts.spec("lora", at, dataset="tiny_score", epochs=1)
    run(scored, at, tmp_path)
    assert cli.main(["predict", scored.id, *words[2:]]) == 2 and "to a score are not asked" in capsys.readouterr().err


def test_a_line_ends_where_an_editor_ends_it_and_no_other_sign_cuts_a_text(tmp_path: Path) -> None:
    from bench.verbs.predict import texts_of

    odd, file = "one\u2028two\x85three\x0cfour\x1cfive", tmp_path / "lines.txt"
    file.write_bytes(f"{odd}\r\nsecond\rthird\n".encode())
    assert [text.a for text in texts_of([file])] == [odd, "second", "third"]


def test_a_finished_run_is_tested_again_from_its_stored_weights(at: Path, tmp_path: Path) -> None:
    for dataset in ("tiny_film", "tiny_score"):
        spec = tiny_texts.spec("lora", at, dataset=dataset, epochs=1)
        found = run(spec, at, tmp_path)
        path = store.path_of(spec, tmp_path / "runs")
        adapter = next(a.path for a in found.artifacts if a.kind == "adapter")
        again, _ = Session(spec, registry.get(dataset), tiny_texts.where(at, tmp_path)).test_again(
            path.with_name(adapter))
        held = np.load(path.with_suffix(".npz"))
        np.testing.assert_allclose(again.pred, held["pred"], atol=1e-6)


class Killed(BaseException):
    """What `execute` does not catch."""


@pytest.mark.parametrize("method", ["sherl(reduction=4)", "lora+pace"])
def test_a_killed_run_goes_on_to_the_same_bits(method: str, at: Path, tmp_path: Path) -> None:
    spec, root = tiny_texts.spec(method, at), tmp_path / "killed"
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


def test_images_and_texts_are_kept_apart(at: Path, tmp_path: Path) -> None:
    from bench.engine.forms import check_input
    from methods.grammar import parse

    with pytest.raises(MethodError, match="needs a text backbone"):
        check_input(parse("lora"), "vit", registry.get("tiny_film"))
    with pytest.raises(MethodError, match="which a text backbone does not read"):
        check_input(parse("lora"), "text", registry.get("svhn"))


def test_the_tokenizer_and_the_length_are_part_of_a_runs_name_and_only_the_first_of_its_protocol(at: Path) -> None:
    spec = tiny_texts.spec("lora", at)
    longer, other = replace(spec, text_length=24), replace(spec, tokenizer="0" * 12)
    assert len({spec.id, longer.id, other.id}) == 3
    assert spec.protocol_id == longer.protocol_id != other.protocol_id
