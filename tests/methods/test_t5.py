"""T5 with its decoder: the classes of transformers with random weights, answers in words, what LoRA reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_text import LENGTHS, TOWERS, texts
from torch import Tensor, nn

from methods import compose, t5
from methods.grammar import MethodError, parse
from methods.insertion import linears
from methods.t5 import T5, T5Face, built
from methods.towers import TowerError, from_config, tower
from methods.vit import head_names

TOWER = TOWERS["t5"]


def tiny(seed: int = 0) -> T5:
    torch.manual_seed(seed)
    net = built(TOWER)
    with torch.no_grad():
        for p in net.parameters():
            p.add_((0.05 if p.ndim == 1 else 0.1) * torch.randn_like(p))
    net.speak((7, 9, 3, 7))
    return net.eval()


def _theirs(seed: int = 0) -> tuple[Any, Any]:
    kit = pytest.importorskip("transformers")
    config = kit.T5Config(vocab_size=60, d_model=48, d_kv=12, num_layers=3, num_heads=4, d_ff=100,
                          decoder_start_token_id=0)
    torch.manual_seed(seed)
    model = kit.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return config, model.eval()


def _taken(config: Any, model: nn.Module) -> T5:
    own = from_config(config.to_dict())
    net = built(own).eval()
    net.load_state_dict(t5.renamed(model.state_dict(), own))
    return net


def _real(length: int) -> Tensor:
    return torch.arange(length) < torch.tensor(LENGTHS)[:, None]


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
def test_one_step_is_transformers_t5(fused: bool) -> None:
    config, model = _theirs()
    ids, net = texts("t5", 16), _taken(config, model)
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    net.speak((5, 11, 8))
    net.reset_classifier(3)
    expected = model(ids, attention_mask=_real(16).long(), decoder_input_ids=torch.zeros(4, 1, dtype=torch.long)).logits
    torch.testing.assert_close(net(ids), expected[:, 0, [5, 11, 8]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_longer_answer_is_transformers_t5_too_far_buckets_included() -> None:
    config, model = _theirs(1)
    ids, net = texts("t5", 16), _taken(config, model)
    said = torch.arange(4 * 150).view(4, 150) * 7 % 59
    expected = model(ids, attention_mask=_real(16).long(), decoder_input_ids=said).logits
    memory, context = net.encode(ids)
    found = F.linear(net.decode(said, memory, context.real) * 48 ** -0.5, net.patch_embed.word.weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_loss_in_training_is_that_over_the_whole_vocabulary() -> None:
    config, model = _theirs(2)
    ids, net = texts("t5", 16), _taken(config, model)
    net.speak((5, 11, 8))
    net.reset_classifier(3)
    net.train()
    y = torch.tensor([2, 0, 1, 1])
    expected = model(ids, attention_mask=_real(16).long(), labels=torch.tensor([5, 11, 8])[y][:, None]).loss
    torch.testing.assert_close(F.cross_entropy(net(ids), y), expected, atol=1e-5, rtol=0)
    assert net(ids).shape == (4, 4) and net.eval()(ids).shape == (4, 3)


def test_a_checkpoint_without_its_decoder_or_with_a_head_of_its_own_is_a_sentence() -> None:
    config, model = _theirs()
    state, own = dict(model.state_dict()), from_config(config.to_dict())
    name = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    with pytest.raises(TowerError, match=f"lacks '{name}'"):
        t5.renamed({n: v for n, v in state.items() if n != name}, own)
    with pytest.raises(TowerError, match=r"holds 'decoder.block.3.x.weight', which is no part of a decoder"):
        t5.renamed(state | {"decoder.block.3.x.weight": torch.zeros(1)}, own)
    with pytest.raises(TowerError, match="a head of its own"):
        t5.renamed(state | {"lm_head.weight": torch.zeros(60, 48)}, own)
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    assert t5.renamed(state | {old: torch.zeros(32, 4)}, own).keys() == built(own).state_dict().keys()
    with pytest.raises(TowerError, match="only t5 has a decoder"):
        built(TOWERS["bert"])


def test_t5_base_and_large_have_their_published_sizes() -> None:
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in built(tower(n)).parameters()) for n in ("t5_base", "t5_large")]
    assert sizes == [222_903_552, 737_668_096]


def test_labels_that_begin_alike_are_refused() -> None:
    net = tiny()
    net.reset_classifier(3)
    assert net(texts("t5")).shape == (4, 3)
    with pytest.raises(MethodError, match="the labels 0 to 3 begin with 3 different"):
        net.reset_classifier(4)


@torch.no_grad()
def test_padding_and_batch_mates_change_no_answer() -> None:
    net = tiny().double()
    net.reset_classifier(3)
    short, longer = net(texts("t5", 12)), net(texts("t5", 20))
    torch.testing.assert_close(longer, short, atol=1e-9, rtol=0)
    torch.testing.assert_close(net(texts("t5", 12).flip(0)).flip(0), short, atol=1e-9, rtol=0)


def test_lora_reaches_the_decoder_and_its_cross_attention_starts_at_the_plain_model_and_merges() -> None:
    net, ids = tiny().double(), texts("t5")
    net.reset_classifier(3)
    plain = net(ids).detach()
    assert len(linears(net)) == 3 * 4 + 3 * 8
    method = compose.create(parse("lora(rank=2)"))
    model: Any = method.adapter.build(net, 3).eval()
    torch.testing.assert_close(model(ids), plain)
    assert not head_names(model)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(names) == 3 * 3 * 2 * 2  # encoder, decoder, cross; q and v; two factors
    assert sum("cross" in n for n in names) == 12 and sum(n.startswith("decoder") for n in names) == 24
    F.cross_entropy(model.train()(ids), torch.tensor([0, 1, 2, 0])).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == (name in names), name
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(".up"):
                p.normal_()
        moved = model.eval()(ids)
        torch.testing.assert_close(method.adapter.merge(model)(ids), moved)
    assert not torch.allclose(moved, plain)


def test_lora_of_rank_32_on_t5_base_has_the_published_weights() -> None:
    with torch.device("meta"):
        model = compose.create(parse("lora(rank=32)")).adapter.build(built(tower("t5_base")), 2)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3_538_944  # 1.59 %


def test_full_trains_everything_the_table_of_words_through_both_its_uses() -> None:
    net = tiny()
    model: Any = compose.create(parse("full")).adapter.build(net, 3).train()
    F.cross_entropy(model(texts("t5")), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None for p in model.parameters()) and type(T5Face(model)) is T5Face
    assert (model.patch_embed.word.weight.grad != 0).any(1).all()  # every word is a wrong answer
