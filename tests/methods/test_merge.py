"""Merged models: the same function, the plain backbone's names; and where merging must not invent anything."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import ADAPTERS, CLASSES, ON_SWIN, adapted, images, scramble, tiny_swin, tiny_vit
from torch import Tensor, nn

from methods.catalog import catalog
from methods.weights import account, merged_copy, pretrained_sizes

MERGEABLE = [n for n in ADAPTERS if catalog()[n].facts.get("mergeable")]
TEXTS = [*MERGEABLE, "lora(rank=3, alpha=7, targets='all')", "lora(targets='q,k,v,o', shared_a=True)",
         "lora(init='pissa', targets='q,k,fc1', shared_a=True)", "lora(scale='rslora')", "lora(experts=True)",
         "paca(rank=3)", "vera(targets='all', shared=True)", "dora(targets='k,o,fc1,fc2')",
         "ssf(init='identity')", "fact_tk(rank=5, tk_layout='official')",
         "fact_tt(rank=3, scale=10.0)", "repadapter(groups=1)", "repadapter(where='attn', groups=4)",
         "lora_mul_vpt_add(prompt_rank='plain')", "vpt_add(prompt_rank='plain')", "bitfit(norms=False)",
         "partial_k(k=2)", "oft(block=4, where='attn')", "goft(stretch=True)",
         "glora(a='vector', b='constant', c='vector', e='constant')"]
ON_BOTH = [(t, tiny_vit) for t in TEXTS] + [(n, tiny_swin) for n in MERGEABLE if n in ON_SWIN]
both = pytest.mark.parametrize("text, make", ON_BOTH, ids=[f"{t}-{m.__name__[5:]}" for t, m in ON_BOTH])


def logits(model: nn.Module, dtype: torch.dtype) -> Tensor:
    model.eval()
    with torch.no_grad():
        out: Tensor = model(images(dtype=dtype))
    return out


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["fp32", "fp64"])
@both
def test_merged_model_computes_the_same(text: str, make, dtype: torch.dtype, bound: float) -> None:  # type: ignore
    adapter, model = adapted(text, make().to(dtype))
    scramble(model)
    expected = logits(model, dtype)
    off = (logits(merged_copy(adapter, model), dtype) - expected).abs().max()
    assert off <= bound * max(1.0, float(expected.abs().max()))
    assert torch.equal(logits(model, dtype), expected)  # the given model stays as it is


@both
def test_merged_model_has_the_plain_names_and_shapes_and_nothing_of_ours(text: str, make) -> None:  # type: ignore
    net = make()
    plain = copy.deepcopy(net)
    plain.reset_classifier(CLASSES)
    adapter, model = adapted(text, net)
    merged = merged_copy(adapter, model)
    wanted = {n: p.shape for n, p in plain.named_parameters()}
    got = {n: p.shape for n, p in merged.named_parameters()}
    prompted = "vpt_add" in text or "lora_add" in text  # a bias where Swin's patch merging has none
    extra = {n for n in got.keys() - wanted.keys() if not (prompted and n.endswith("downsample.reduction.bias"))}
    assert wanted.items() <= got.items() and not extra
    assert next(iter(merged.state_dict())) == next(iter(plain.state_dict()))
    ours = {type(m).__module__ for m in merged.modules() if type(m).__module__.startswith("methods.")}
    assert not ours, ours


@pytest.mark.parametrize("text", TEXTS)
def test_merging_changes_the_weights_it_should(text: str) -> None:
    """A merge that forgets the adapter would pass at the start; after training it must differ from the frozen net."""
    net = tiny_vit()
    frozen = {n: p.detach().clone() for n, p in net.named_parameters()}
    adapter, model = adapted(text, net)
    scramble(model)
    merged = dict(merged_copy(adapter, model).named_parameters())
    moved = [n for n, p in frozen.items() if not torch.equal(merged[n].detach(), p)]
    assert bool(moved) == (text != "linear")


def test_lora_on_q_and_v_leaves_the_rows_of_k_untouched() -> None:
    net = tiny_vit()
    before = net.blocks[1].attn.qkv.weight.detach().clone()  # type: ignore[union-attr]
    adapter, model = adapted("lora", net)
    scramble(model)
    after = merged_copy(adapter, model).blocks[1].attn.qkv.weight  # type: ignore[union-attr, index]
    assert torch.equal(after[48:96], before[48:96])
    assert not torch.equal(after[:48], before[:48]) and not torch.equal(after[96:], before[96:])


@pytest.mark.parametrize("name", [n for n in ADAPTERS if n not in MERGEABLE])
def test_adapters_that_cannot_merge_say_so_in_the_accounting(name: str) -> None:
    net = tiny_vit()
    sizes = pretrained_sizes(net)
    adapter, model = adapted(name, net)
    facts = account(adapter, model, sizes)
    assert facts.extra_merged is None and facts.extra > 0


@pytest.mark.parametrize("name", MERGEABLE)
def test_merged_adapters_cost_nothing_at_inference(name: str) -> None:
    net = tiny_vit()
    sizes = pretrained_sizes(net)
    adapter, model = adapted(name, net)
    facts = account(adapter, model, sizes)
    assert facts.extra_merged == 0
    assert facts.extra == facts.trained_adapter  # what is woven in is what trains, nothing else
    assert facts.trained_head == 49 * CLASSES
    assert facts.total == sum(sizes.values()) + facts.trained_head + facts.extra
    mixed = name in ("gps", "snell", "spt")  # biases or the class token beside what they add
    owns_backbone = name in ("full", "lp_ft", "bitfit", "ln_tune", "partial_k")
    assert (facts.trained_backbone > 0) == (owns_backbone or mixed) and (facts.trained_adapter > 0) == (
        not owns_backbone and name != "linear")


def test_merging_needs_no_bias_where_the_backbone_has_none() -> None:
    for text in ("lora", "dora", "fact_tt(rank=2)", "lora_mul"):
        adapter, model = adapted(text, tiny_vit(qkv_bias=False).double())
        scramble(model)
        merged = merged_copy(adapter, model)
        assert merged.blocks[0].attn.qkv.bias is None  # type: ignore[union-attr, index]
        torch.testing.assert_close(logits(merged, torch.float64), logits(model, torch.float64), rtol=1e-10, atol=1e-10)
