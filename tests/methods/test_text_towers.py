"""Text towers against the classes of transformers with random weights, and what a checkpoint's folder may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text import LENGTHS, TOWERS, texts, tiny_text
from torch import Tensor, nn

from methods import hf
from methods.families import face_of
from methods.text import BUCKETS, TextTransformer, buckets, built
from methods.towers import NAMED, TowerError, from_config, is_tower, spelled, tower

SIZES = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=100, vocab_size=60,
             max_position_embeddings=40)


def _moved(model: nn.Module) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def _taken(config: Any, model: nn.Module, **told: Any) -> TextTransformer:
    own = from_config(config.to_dict(), **told)
    net = built(own).eval()
    net.load_state_dict(hf.renamed(model.state_dict(), own))
    return net


def _real(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[:, None]


@torch.no_grad()
def test_bert_is_transformers_bert() -> None:
    kit = pytest.importorskip("transformers")
    config, ids = kit.BertConfig(**SIZES), texts("bert", 16)
    ids[0, 7] = 3  # a second separator opens no third segment
    model = _moved(kit.BertModel(config, add_pooling_layer=False))
    second = (torch.arange(16) > 2) & _real(ids)  # behind the separator in place 2
    expected = model(ids, attention_mask=_real(ids).long(), token_type_ids=second.long()).last_hidden_state
    found = _taken(config, model, mark=3).forward_features(ids)
    torch.testing.assert_close(found[_real(ids)], expected[_real(ids)], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [16, 300])
def test_t5s_encoder_is_transformers_encoder_near_and_far(length: int) -> None:
    kit = pytest.importorskip("transformers")
    config = kit.T5Config(vocab_size=60, d_model=48, d_kv=12, num_layers=3, num_heads=4, d_ff=100)
    model, ids = _moved(kit.T5Model(config)), texts("t5", length)
    ids[0] = torch.arange(length) % 50 + 4
    real = _real(ids) | (torch.arange(4) == 0)[:, None]
    expected = model.encoder(ids, attention_mask=real.long()).last_hidden_state
    found = _taken(config, model).forward_features(ids)
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("end", [59, 2])
def test_clips_text_tower_is_transformers_with_either_way_of_finding_the_end(end: int) -> None:
    kit = pytest.importorskip("transformers")
    config = kit.CLIPTextConfig(**SIZES, eos_token_id=end, bos_token_id=1, pad_token_id=59)
    model, ids = _moved(kit.CLIPTextModel(config)), texts("clip_text", 16)
    expected = model(ids)
    net = _taken(config, model)
    torch.testing.assert_close(net.forward_features(ids), expected.last_hidden_state, atol=1e-5, rtol=0)
    found = net.forward_head(net.forward_features(ids), pre_logits=True)
    torch.testing.assert_close(found, expected.pooler_output, atol=1e-5, rtol=0)


def test_distances_have_thirty_two_kinds_of_which_far_ones_are_one() -> None:
    kinds = buckets(torch.arange(-400, 401))
    assert kinds[400] == 0 and set(kinds.tolist()) == set(range(BUCKETS)) - {16}  # 16: no key ahead has distance 0
    assert kinds[400 - 7:400].flip(0).tolist() == list(range(1, 8)) and kinds[401:408].tolist() == list(range(17, 24))
    assert kinds[:400 - 127].unique().tolist() == [15] and kinds[400 + 128:].unique().tolist() == [31]


@pytest.mark.parametrize("kind", TOWERS)
@torch.no_grad()
def test_passing_tokens_block_by_block_is_the_towers_own_pass(kind: str) -> None:
    net, ids = tiny_text(kind).double().eval(), texts(kind)
    face = face_of(net)
    t, context = face.embed(ids)
    for block in face.blocks():
        t = face.through(block, t, context)
    torch.testing.assert_close(face.features(face.final(t), context),
                               net.forward_head(net.forward_features(ids), pre_logits=True))
    assert context.share is not None and torch.allclose(context.share.sum(1), torch.ones(4, dtype=torch.float64))
    with pytest.raises(IndexError):
        net(torch.full_like(ids, -1))


@pytest.mark.parametrize("kind", TOWERS)
@torch.no_grad()
def test_plain_attention_is_the_kernels(kind: str) -> None:
    net, ids = tiny_text(kind).double().eval(), texts(kind)
    fused = net(ids)
    for block in net.blocks:
        block.attn.fused_attn = False
    torch.testing.assert_close(net(ids), fused)


@pytest.mark.parametrize("name", [*NAMED, "bert_l3_d48_h4_f100_v90_n40_s3_mean", "clip_text_l2_d64_h2_s-1_gelu"])
def test_a_name_says_every_number(name: str) -> None:
    assert is_tower(name) and spelled(tower(name)) == name


def test_the_named_towers_have_their_published_sizes() -> None:
    def count(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in built(tower(name)).parameters())

    assert count("minilm") == 22_565_376  # real.md: 22.6 M without the pooler
    assert count("bert_base") == 108_891_648  # 109,482,240 of bert-base-uncased less its pooler's 768 * 769
    assert count("t5_base") == 109_628_544  # T5-base's encoder with its words
    assert count("clip_text_b32") == 63_165_952  # openai/clip-vit-base-patch32's text model


@pytest.mark.parametrize(("name", "told"), [
    ("bert", "whose numbers a folder says"), ("bert_l2_d48", "needs blocks, width and heads"),
    ("bert_l2_d48_h5", "heads must divide"), ("bert_l2_d48_h4_x9", "a name is made as"), ("gpt", "no text tower")])
def test_a_wrong_name_is_a_sentence(name: str, told: str) -> None:
    with pytest.raises(TowerError, match=told):
        tower(name)


@pytest.mark.parametrize(("config", "told"), [
    ({"model_type": "roberta"}, "built here are bert, t5"), ({"model_type": "bert"}, "does not say"),
    ({"model_type": "bert", "hidden_act": "relu"}, "hidden_act 'relu'"),
    ({"model_type": "t5", "feed_forward_proj": "gated-gelu"}, "gated MLP"),
    ({"model_type": "t5", "d_model": 1024, "num_heads": 32, "d_kv": 128}, "wider than its stream")])
def test_a_form_that_is_not_built_is_a_sentence(config: dict[str, Any], told: str) -> None:
    with pytest.raises(TowerError, match=told):
        from_config(config)


def test_old_names_prefixes_and_heads_of_a_real_file_are_known_and_others_are_not() -> None:
    net = tiny_text("bert")
    theirs: dict[str, Tensor] = {}
    state = net.state_dict()
    for ours, names in hf.BERT.items():
        for i in range(3 if "{i}" in ours else 1):
            for kind in ("weight", "bias"):
                value = state.get(f"{ours.format(i=i)}.{kind}")
                if value is not None:
                    sources = (names,) if isinstance(names, str) else names
                    for source, part in zip(sources, value.chunk(len(sources)), strict=True):
                        old = {"weight": "gamma", "bias": "beta"}[kind] if "LayerNorm" in source else kind
                        theirs[f"bert.{source.format(i=i)}.{old}"] = part
    theirs |= {"cls.predictions.bias": torch.zeros(60), "bert.pooler.dense.weight": torch.zeros(48, 48),
               "bert.embeddings.position_ids": torch.arange(40)}
    found = hf.renamed(theirs, TOWERS["bert"])
    assert found.keys() == state.keys() and all(torch.equal(found[n], state[n]) for n in state)
    with pytest.raises(TowerError, match=r"'encoder.layer.3.x.weight', which is no part"):
        hf.renamed(theirs | {"encoder.layer.3.x.weight": torch.zeros(1)}, TOWERS["bert"])
    del theirs["bert.encoder.layer.1.output.dense.bias"]
    with pytest.raises(TowerError, match=r"lacks 'encoder.layer.1.output.dense.bias'"):
        hf.renamed(theirs, TOWERS["bert"])


def test_a_folder_says_its_tower_and_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(TowerError, match=r"has no config.json"):
        hf.described(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | SIZES))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 7, "content": "[SEP]"}]}')
    assert hf.described(tmp_path) == from_config({"model_type": "bert"} | SIZES, mean=True, mark=7)
    with pytest.raises(TowerError, match=r"has no model.safetensors"):
        hf.weights_in(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TowerError, match="cannot be read as tensors"):
        hf.tensors(hf.weights_in(tmp_path))
