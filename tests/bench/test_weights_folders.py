"""A text checkpoint's folder whose files contradict each other or hold what cannot be: a sentence at planning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.engine import backbones
from bench.engine.backbones import BackboneError
from bench.planning.plan import make
from bench.planning.request import Request, UsageError

from . import tiny_texts
from .tiny_texts import MODEL, WORDS

KEY = "encoder.layer.0.attention.self.key.weight"
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64,
         "vocab_size": len(WORDS), "max_position_embeddings": 40, "pad_token_id": 0, "eos_token_id": 2}
T5 = {"model_type": "t5", "num_layers": 2, "d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 64,
      "vocab_size": len(WORDS)}


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny_texts.use()
    yield
    tiny_texts.forget()


def _checked(at: Path, kind: str = "bert") -> str:
    """As planning does it."""
    name = backbones.completed(kind, at)
    backbones.check_name(name)
    backbones.check_file(name, backbones.find_weights(name, at))
    return name


def _told(at: Path, kind: str = "bert") -> str:
    with pytest.raises(BackboneError) as told:
        _checked(at, kind)
    assert str(told.value).count("\n") == 0
    return str(told.value)


@pytest.mark.parametrize(("field", "value", "told"), [
    ("num_attention_heads", 0, "num_attention_heads 0, where a whole number of at least 1"),
    ("num_attention_heads", 3, "num_attention_heads 3, which does not divide hidden_size 32"),
    ("hidden_size", None, "hidden_size null, where"), ("hidden_size", 32.0, "hidden_size 32.0, where"),
    ("hidden_size", [32], r"hidden_size \[32\], where"), ("vocab_size", True, "vocab_size true, where"),
    ("num_hidden_layers", -2, "num_hidden_layers -2, where"), ("intermediate_size", "64", 'intermediate_size "64"'),
    ("num_hidden_layers", 10 ** 6, "num_hidden_layers 1,000,000, for which model.safetensors is too small"),
    ("pad_token_id", [0], r"pad_token_id \[0\], where a whole number of at least 0"),
    ("pad_token_id", 99, "has pad_token_id 99, said or usual, but its table has 16 words")])
def test_a_number_of_the_config_that_cannot_be_is_its_fault(field: str, value: Any, told: str, tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd", **{field: value})
    with pytest.raises(BackboneError, match=rf"^config.json of odd/ .*{told}"):
        _checked(at)


@pytest.mark.parametrize(("config", "told"), [
    (T5 | {"num_heads": 0}, "num_heads 0, where"), (T5 | {"n_positions": "x"}, 'n_positions "x", where'),
    ({"model_type": "clip", "text_config": [1]}, "a text_config that is no JSON object"),
    ({"model_type": "clip", "text_config": SIZES | {"eos_token_id": None}}, "eos_token_id null, where"),
    ({"model_type": "clip_text_model"} | SIZES | {"eos_token_id": 77}, "eos_token_id 77, said or usual, but its table"),
    ({"model_type": "clip_text_model"} | SIZES | {"num_attention_heads": 5}, "does not divide hidden_size")])
def test_so_it_is_with_t5_and_clip(config: dict[str, Any], told: str, tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    (at / "config.json").write_text(json.dumps(config))
    assert told in _told(at, "t5" if config["model_type"] == "t5" else "clip_text")


@pytest.mark.parametrize(("name", "value", "told"), [
    (KEY, torch.zeros(32, 31), r"of shape (32, 31), expected (32, 32)"),
    ("embeddings.LayerNorm.weight", torch.tensor(1.0), "of shape (), expected (32,)"),
    (KEY, torch.ones(32, 32, dtype=torch.int8), "as int8, not as plain floating-point numbers"),
    (KEY, torch.full((32, 32), float("nan")), "numbers that no weight can be (NaN or infinite), first in"),
    (KEY, torch.full((32, 32), float("inf")), "numbers that no weight can be (NaN or infinite), first in")])
def test_a_tensor_that_fits_no_place_is_named_with_its_file(name: str, value: torch.Tensor, told: str, tmp_path: Path
                                                             ) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    save_file(load_file(at / "model.safetensors") | {name: value}, at / "model.safetensors")
    found = _told(at)
    assert found.startswith("model.safetensors of odd/") and name in found and told in found


def test_a_checkpoint_of_anything_but_tensors_is_a_sentence(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    torch.save(load_file(at / "model.safetensors") | {"embeddings.LayerNorm.weight": 3}, at / "pytorch_model.bin")
    (at / "model.safetensors").unlink()
    assert "pytorch_model.bin of odd/ holds 'embeddings.LayerNorm.weight', which is no tensor" in _told(at)


def _tokenizer(at: Path, **changes: Any) -> dict[str, Any]:
    file = at / "tokenizer.json"
    held: dict[str, Any] = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(held))
    return held


def test_added_tokens_of_another_form_are_a_sentence(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    added = _tokenizer(at)["added_tokens"]
    for odd in ({"a": 1}, [{k: v for k, v in one.items() if k != "id"} for one in added]):
        _tokenizer(at, added_tokens=odd)
        assert "tokenizer.json of odd/ is no tokenizer" in _told(at)


def test_berts_marks_are_looked_up_in_the_vocabulary_too_and_must_be_somewhere(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    model = _tokenizer(at, added_tokens=[])["model"]
    assert _checked(at) == MODEL  # whose separator is 2
    words = {word.strip("[]") if word == "[SEP]" else word: i for word, i in model["vocab"].items()}
    post = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {}}
    _tokenizer(at, model=model | {"vocab": words}, post_processor=post)
    assert "tokenizer.json of odd/ knows no [SEP]" in _told(at)


def test_a_tokenizer_with_more_words_than_the_table_is_refused_with_both_numbers(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "odd")
    held = _tokenizer(at)
    _tokenizer(at, added_tokens=[*held["added_tokens"], held["added_tokens"][0] | {"id": 16, "content": "[MORE]"}])
    told = _told(at)
    assert "tokenizer.json of odd/ gives numbers up to 16" in told and "its table has 16 words" in told


def test_no_heads_and_no_width_are_no_name() -> None:
    for name in ("bert_l2_d48_h0", "bert_l2_d0_h4", "t5_l2_d48_h0.decoder"):
        with pytest.raises(BackboneError, match="is no text tower"):
            backbones.check_name(name)


def _asked(at: Path, data: str, backbone: str = "bert", length: int = 0) -> Request:
    sets = (f"text_length={length}",) if length else ()
    return Request(datasets=(data,), data="standin", methods=("full",), backbones=(backbone,), weights=at, seeds=(0,),
                   epochs=1, sets=sets)


@pytest.mark.parametrize(("data", "backbone", "least"), [
    ("sst2", "bert", 3), ("rte", "bert", 5), ("flickr30k", "regatta_vit_48:bert", 3)])
def test_a_length_without_room_for_marks_and_a_token_is_refused_with_the_least(
        data: str, backbone: str, least: int, tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "checkpoint")
    asked = _asked(at, data, backbone)
    for length in range(1, least):
        with pytest.raises(UsageError, match=rf"text_length={length} is too short .* say {least} or more"):
            make(replace(asked, sets=(f"text_length={length}",)), tmp_path)
    assert make(replace(asked, sets=(f"text_length={least}",)), tmp_path).runs[0].spec.text_length == least


def test_t5_needs_less_and_its_decoder_reads_two_texts_as_one(tmp_path: Path) -> None:
    from .test_t5_runs import folder

    at = folder(tmp_path)
    for data, backbone, least in (("sst2", "t5", 2), ("rte", "t5", 4), ("rte", "t5.decoder", 2)):
        with pytest.raises(UsageError, match=rf"text_length={least - 1} is too short .* say {least} or more"):
            make(_asked(at, data, backbone, least - 1), tmp_path)
        assert make(_asked(at, data, backbone, least), tmp_path).runs[0].spec.text_length == least


def test_a_tower_with_too_few_positions_is_refused(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "short", max_position_embeddings=4)
    state = load_file(at / "model.safetensors")
    name = "embeddings.position_embeddings.weight"
    save_file(state | {name: state[name][:4].contiguous()}, at / "model.safetensors")
    assert make(_asked(at, "sst2"), tmp_path).runs[0].spec.text_length == 4
    with pytest.raises(UsageError, match="reads 4 tokens at most, which is too short: a text of rte takes 5 tokens"):
        make(_asked(at, "rte"), tmp_path)
