"""The battery on text: every adapter that claims to run there, on every kind of tower; padding changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import adapted, features, scramble, trainable
from tiny_text import TOWERS, texts, tiny_text
from torch import Tensor

from methods.adapters.lst import Ladder
from methods.catalog import catalog
from methods.grammar import MethodError, parse
from methods.insertion import deltas
from methods.on_text import RUNS, refusals
from methods.text import PostNormBlock, UnscaledAttention
from methods.vit import head_names

WORDS = {"lst": "lst(reduction=2, init='magnitude')", "unipt": "unipt(reduction=4)", "sherl": "sherl(reduction=4)"}
NO_BIAS = {("bitfit", "t5"), ("ln_tune", "t5")}
PAIRS = [(kind, name) for kind in TOWERS for name in RUNS]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind, name", PAIRS, ids=[f"{k}-{n}" for k, n in PAIRS])
def test_an_adapter_starts_trains_merges_and_never_sees_padding(kind: str, name: str) -> None:
    net, ids = tiny_text(kind).double(), texts(kind)
    if (name, kind) in NO_BIAS:
        with pytest.raises(MethodError, match="would train the head alone"):
            adapted(name, net)
        return
    plain = features(copy.deepcopy(net), ids)
    adapter, model = adapted(WORDS.get(name, name), net)
    if adapter.at_start == "exact":
        close(features(model, ids), plain)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    loss = model(ids).square().sum()
    assert torch.isfinite(loss)
    loss.backward()
    trains = trainable(model)
    assert head_names(model) <= trains.keys()
    for n, p in model.named_parameters():
        assert (p.grad is not None) == (n in trains) or (name in ("full", "lp_ft") and n in trains), n
        assert torch.equal(p.detach(), before[n])
    scramble(model)
    model.eval()
    with torch.no_grad():
        logits = model(ids)
        close(model(texts(kind, 20)), logits)  # more padding
        close(model(ids[[2, 0]]), logits[[2, 0]])  # other mates in the batch
        if adapter.mergeable:
            merged = adapter.merge(copy.deepcopy(model))
            close(merged(ids), logits)
            assert not list(deltas(merged))


@pytest.mark.parametrize("name", [i.name for i in catalog().values() if i.kind == "adapter" and "vit" in i.families
                                  and i.name not in RUNS])
def test_every_other_adapter_of_vits_is_refused_with_a_sentence(name: str) -> None:
    (told,) = refusals(parse(name))
    assert told.startswith(f"{name!r} does not run on text: ") and "adapters that do: linear" in told


def test_parts_that_read_pictures_are_refused_and_those_of_weights_are_not() -> None:
    fit = ("lora+pace", "full+l2_sp", "full+tpgm", "full+ftp", "full+wise", "lora+sam", "lora+ugr(objective='ent')")
    assert [t for t in fit if refusals(parse(t))] == []
    assert "objective='ent'" in refusals(parse("lora+ugr(objective='rot')"))[0]
    assert "padding" in refusals(parse("lora+ldifs"))[0]
    for text in ("lp_ft", "full+tpgm"):
        assert "this set has none" in refusals(parse(text), task="regress")[0]


@pytest.mark.parametrize("kind", TOWERS)
def test_a_ladders_rungs_are_of_the_towers_form_and_are_cut_from_it(kind: str) -> None:
    net = tiny_text(kind)
    source = {n: p.detach().clone() for n, p in net.named_parameters()}
    _, model = adapted(WORDS["lst"], net)
    assert isinstance(model, Ladder)
    rung = model.rungs[0]
    assert isinstance(rung, PostNormBlock) == (TOWERS[kind].kind == "bert")
    assert isinstance(rung.attn, UnscaledAttention) == (kind == "t5")
    assert (rung.attn.proj.bias is None) == (kind == "t5")  # type: ignore[union-attr]
    columns = source["patch_embed.word.weight"].abs().sum(0).topk(24).indices.sort().values
    every = source["blocks.0.attn.qkv.weight"][:, columns]
    q, k, v = every.abs().double().chunk(3)
    rows = (q * k * v).sum(1).topk(24).indices.sort().values
    expected = torch.cat([every[rows + i * 48] for i in range(3)])
    assert torch.equal(rung.attn.qkv.weight, expected)  # type: ignore[union-attr]
    name = "norm1" if TOWERS[kind].kind == "bert" else "norm2"
    proj = source["blocks.0.attn.proj.weight"].abs()[:, rows].sum(1).topk(24).indices.sort().values
    assert torch.equal(getattr(rung, name).weight, source[f"blocks.0.{name}.weight"][proj])


@pytest.mark.parametrize("name", ["lst", "unipt", "sherl"])
@pytest.mark.parametrize("kind", TOWERS)
def test_no_gradient_enters_what_is_only_read_and_states_are_a_complete_input(kind: str, name: str) -> None:
    _, model = adapted(WORDS[name], tiny_text(kind))
    ids = texts(kind)
    states = model.early(ids)  # type: ignore[operator]
    assert all(t.grad_fn is None for t in states.values()) and -3 in states and -2 in states
    assert all(len(t) == len(ids) for t in states.values())
    model.eval()
    assert torch.equal(model(states), model(ids))
