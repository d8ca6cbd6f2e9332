"""T5 with its decoder in runs: from a folder to a prediction; what is asked, answered, refused; its bytes and rates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from bench.engine import backbones
from bench.engine.forecast import forecast
from bench.engine.forms import input_problems
from bench.engine.optim import learning_rate
from bench.engine.wording import Wording, file_hash, question, spoken
from datasets import registry
from datasets.card import Item, Text
from methods import hf, on_t5, t5, tasks
from methods.adapters import lst_t5, sherl_t5
from methods.grammar import parse
from methods.towers import tower
from results.schema import RunSpec

from . import tiny_texts
from .test_text_bytes import spec as priced
from .tiny_texts import run

WORDS = ["<pad>", "</s>", "[UNK]", "0", "1", "tiny_film", "sentence", ":", *tiny_texts.WORDS[4:],
         *map(str, range(2, 100))]
MODEL = f"t5_l2_d32_h4_f64_v{len(WORDS)}.decoder"


def folder(at: Path) -> Path:
    """config.json, model.safetensors by theirs names, tokenizer.json."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    own = tower(backbones.plain(MODEL))
    (at / "config.json").write_text(json.dumps({
        "model_type": "t5", "num_layers": 2, "d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 64, "pad_token_id": 0,
        "vocab_size": len(WORDS), "feed_forward_proj": "relu", "eos_token_id": 1}))
    torch.manual_seed(0)
    state, theirs = t5.built(own).state_dict(), {}
    for ours, names in (hf.T5 | t5.DECODER).items():
        for i in range(2 if "{i}" in ours else 1):
            sources = (names,) if isinstance(names, str) else names
            value = state[f"{ours.format(i=i)}.weight"]
            theirs |= {f"{s.format(i=i)}.weight": part.contiguous()
                       for s, part in zip(sources, value.chunk(len(sources)), strict=True)}
    save_file(theirs, at / "model.safetensors")
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    made.save(str(at / "tokenizer.json"))
    return at


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny_texts.use()
    yield
    tiny_texts.forget()


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("t5"))


def spec(method: str, at: Path, **changes: Any) -> RunSpec:
    made = tiny_texts.spec(method, at, model=MODEL, weights=backbones.find_weights(MODEL, at).sha256,
                           tokenizer=file_hash(at / "tokenizer.json"))
    return replace(made, **changes)


@pytest.mark.parametrize("method", ["full", "sherl_t5(reduction=4)", "lst_t5(reduction=2)", "lora+pace",
                                    "full+l2_sp+wise"])
def test_a_run_on_texts_is_answered_by_the_decoder_and_a_stored_prefix_changes_no_bit(
        method: str, at: Path, tmp_path: Path) -> None:
    found = run(spec(method, at), at, tmp_path)
    assert found.metrics["test.n"] == 40
    if "_t5" in method:
        plain = run(spec(method, at), at, tmp_path / "plain", cached=False)
        assert found.metrics == plain.metrics and found.history == plain.history
        assert list((tmp_path / "cache" / "prefix").glob("*/facts.json"))


def test_labels_are_spoken_as_digits_and_texts_are_asked_as_one(at: Path) -> None:
    assert spoken(at / "tokenizer.json")[:4] == tuple(map(WORDS.index, "0123"))
    net: Any = backbones.load(MODEL, backbones.find_weights(MODEL, at)).model
    net.reset_classifier(2)
    assert net.answers.words.tolist() == [3, 4]
    words = Wording(at / "tokenizer.json", 0, asks="tiny_film")
    ids, _ = words.numbers([Item(Text("a", "the film was good"), 1)], 12)
    asked = ["tiny_film", "sentence", ":", "the", "film", "was", "good"]
    assert ids[0].tolist() == [*map(WORDS.index, asked), 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("name", "told"), [
    ("mrpc", "mrpc sentence1: x y sentence2: z"), ("rte", "rte sentence1: x y sentence2: z"),
    ("qqp", "qqp question1: x y question2: z"), ("mnli", "mnli premise: x y hypothesis z"),
    ("qnli", "qnli question: x y sentence: z")])
def test_a_pair_is_asked_as_the_authors_ask_it(name: str, told: str) -> None:
    assert question(name, Text("a", "x y", "z")) == told
    assert question("cola", Text("a", "x y")) == "cola sentence: x y"


def test_names_of_decoders(at: Path) -> None:
    assert backbones.completed("t5.decoder", at) == MODEL == backbones.completed(MODEL, at)
    assert backbones.completed("t5", at) == backbones.plain(MODEL) and not backbones.decodes("t5_base")
    assert backbones.family("t5_base.decoder") == backbones.TEXT and backbones.decodes("t5_base.decoder")
    for name, told in (("bert_base.decoder", "only t5 has a decoder"), ("t5.decoder", "whose numbers a folder says")):
        with pytest.raises(backbones.BackboneError, match=told):
            backbones.check_name(name)
    with pytest.raises(backbones.BackboneError, match=r"say --backbones t5\.decoder"):
        backbones.completed("t5_base.decoder", at)
    with pytest.raises(backbones.BackboneError, match="give --weights FOLDER"):
        backbones.find_weights("t5_base.decoder")


@pytest.mark.parametrize(("method", "told"), [
    ("linear", "there is no head to train; adapters that do: full, lora"), ("sherl", "its form there is sherl_t5"),
    ("bitfit", "it is not tried there"), ("lora+ugr(objective='ent')", "what does: pace")])
def test_what_does_not_run_with_the_decoder_is_a_sentence(method: str, told: str) -> None:
    (problem,) = input_problems(parse(method), "text", registry.get("tiny_film"), decodes=True)
    assert told in problem


def test_the_t5_forms_are_refused_elsewhere_and_a_number_is_too_long_an_answer() -> None:
    (problem,) = input_problems(parse("sherl_t5"), "text", registry.get("tiny_film"))
    assert "as t5.decoder has it" in problem
    (problem,) = input_problems(parse("full"), "text", registry.get("tiny_score"), decodes=True)
    assert "asks for a number" in problem


def test_the_suite_takes_a_folder_and_in_miniature_generated_tables(at: Path, tmp_path: Path) -> None:
    from bench.planning.plan import make
    from bench.planning.request import Request, UsageError

    asked = Request(suite="sherl-glue-standin", backbones=("t5.decoder",), weights=at)
    with pytest.raises(UsageError) as told:  # the tiny tower is too narrow for the ladder of the paper
        make(replace(asked, backbones=()), tmp_path)
    assert any("not 't5_base'" in p for p in told.value.problems)
    plan = make(replace(asked, datasets=("sst2", "rte"), sets=("text_length=24",)), tmp_path)
    assert {r.spec.model for r in plan.runs} == {MODEL} and len(plan.runs) == 8
    assert {r.spec.schedule for r in plan.runs} == {"linear"}


def test_a_card_of_a_method_on_t5_tells_its_weights_and_its_bytes() -> None:
    from bench.verbs.show import _count

    told = " ".join(_count("sherl_t5", "t5_base.decoder").split())
    assert "1,907,236 trained weights without the head (a head for 100 classes adds 0)" in told
    assert "texts of 128 tokens" in told


def test_linear_decay_begins_behind_the_published_warm_up_and_a_short_run_is_all_warm_up() -> None:
    def rates(epochs: int, per_epoch: int) -> list[float]:
        one: Any = SimpleNamespace(warmup_epochs=0, warmup_steps=500, epochs=epochs, lr=3e-3, schedule="linear")
        return [learning_rate(one, step, per_epoch) for step in range(epochs * per_epoch)]

    long, short = rates(10, 100), rates(20, 25)
    assert long[499] == pytest.approx(3e-3) == pytest.approx(long[500]) and long[249] == pytest.approx(1.5e-3)
    assert long[750] == pytest.approx(1.5e-3) and long[999] == pytest.approx(3e-3 / 500)
    assert short[-1] == pytest.approx(3e-3) == max(short)


@pytest.mark.parametrize("method", ["full", "lora", "sherl_t5(reduction=4)", "lst_t5(reduction=2)"])
def test_every_method_learns_over_the_whole_vocabulary(method: str, at: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run's own mode: the last column is all other words, though nothing of the head trains."""
    shapes = set()
    monkeypatch.setattr(tasks.Classify, "loss", lambda self, out, y, smoothing=0.0: (
        shapes.add(out.shape[1]), F.cross_entropy(out, y))[1])
    run(spec(method, at, epochs=1), at, tmp_path)
    assert shapes == {3}


THEIRS = [("full", 128, 83.8), ("lora(rank=32)", 128, 63.1), ("lst_t5", 128, 18.7),
          ("sherl_t5(dropout=0.0)", 128, 8.5), ("full", 64, 40.4), ("lora(rank=32)", 64, 31.6), ("lst_t5", 64, 7.9),
          ("sherl_t5(dropout=0.0)", 64, 4.5)]  # MiB on the transformers classes, dropout 0, two tokens of the decoder


def kept(method: str, length: int) -> float:
    """MiB that a step keeps of a text."""
    memory = forecast(replace(priced("t5_base.decoder", method), batch_size=4, text_length=length), 2).memory
    assert memory is not None and memory.saved_bytes_per_image is not None
    return memory.saved_bytes_per_image / 2**20


@pytest.mark.parametrize(("method", "length", "mib"), THEIRS)
def test_l8_what_a_step_keeps_of_a_text_on_t5_base(method: str, length: int, mib: float) -> None:
    """Against what was measured before this code was written: within 4 %, but for SHERL's short texts, of which the
    second token is 5 %; see below."""
    assert kept(method, length) == pytest.approx(mib, rel=0.055 if mib < 5 else 0.04)


@pytest.mark.parametrize(("method", "length", "mib"), [THEIRS[4], *THEIRS[6:]])
def test_l8_with_a_second_token_of_the_decoder_the_bytes_are_theirs(method: str, length: int, mib: float,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """To the digit that they are given in. Of LoRA they are 1 to 2.4 % below, with one matrix for q, k and v."""
    before = t5.before
    for module in (on_t5, sherl_t5, lst_t5):
        monkeypatch.setattr(module, "before", lambda distance, _: before(distance, 2))
    monkeypatch.setattr(t5.T5, "begin", lambda self, count: torch.zeros(count, 2, dtype=torch.int64))
    monkeypatch.setattr(t5.T5, "forward_head", lambda self, x, pre_logits=False: self.answers(x.flatten(0, 1)))
    monkeypatch.setattr(on_t5.T5Side, "pooled", lambda self, states: self.tokens(states).flatten(0, 1))
    monkeypatch.setattr(tasks.Classify, "loss", lambda self, out, y, smoothing=0.0: F.cross_entropy(
        out, y.repeat_interleave(2)))
    assert kept(method, length) == pytest.approx(mib, abs=0.05)
