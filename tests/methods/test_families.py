"""The battery over families: one tiny random instance of each, times each adapter that says it fits the family."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import ParallelScalingBlock
from tiny_families import INSTANCES, beit, dinov3, eva, swinv2
from tiny_models import CLASSES, adapted, features, images, scramble, step, tiny_vit, trainable
from torch import Tensor, nn

from bench.engine import backbones
from bench.engine.prefix import seam_of
from methods.base import Batch
from methods.catalog import catalog
from methods.families import face_of
from methods.grammar import MethodError
from methods.insertion import blocks, deltas, family, linears, patch_tokens
from methods.vit import head_names

SHARED = {"linear", "full", "lp_ft"}  # need a head alone
PAIRS = [(instance, name) for instance, (word, _) in INSTANCES.items() for name, info in catalog().items()
         if info.kind == "adapter" and word in info.families and (word != "vit" or name not in SHARED)]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("instance, name", PAIRS, ids=[f"{n}-{i}" for i, n in PAIRS])
def test_an_adapter_that_claims_a_family_starts_trains_and_merges_there(instance: str, name: str) -> None:
    word, make = INSTANCES[instance]
    net = make().double()
    assert family(net) == word
    plain, x = features(copy.deepcopy(net), images(dtype=torch.float64)), images(dtype=torch.float64)
    adapter, model = adapted(name, net)
    start = features(model, x)
    if adapter.at_start == "exact":
        close(start, plain)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    step(model, steps=3)
    trains = trainable(model)
    assert head_names(model) < trains.keys() or name == "linear"
    for n, p in model.named_parameters():
        moved = not torch.equal(p.detach(), before[n])
        assert moved == (n in trains) or not p.numel() or (n in trains and p.grad is None and name in SHARED), n
    model.eval()
    with torch.no_grad():
        logits = model(x)
        close(logits[:1], model(x[:1]))
        if "tokens" in adapter.offers:
            assert patch_tokens(model, x).shape[:2] == (4, 64 if word == "swinv2" else 16)
        if adapter.mergeable:
            merged = adapter.merge(copy.deepcopy(model))
            torch.testing.assert_close(merged(x), logits, rtol=1e-7, atol=1e-7)
            assert not list(deltas(merged))
    assert logits.shape == (4, CLASSES)


@pytest.mark.parametrize("instance", INSTANCES)
def test_passing_tokens_block_by_block_is_the_models_own_pass(instance: str) -> None:
    net, x = INSTANCES[instance][1]().double().eval(), images(dtype=torch.float64)
    face = face_of(net)
    if face.stages:
        pytest.skip("its blocks lie in stages")
    with torch.no_grad():
        t, context = face.embed(x)
        for block in face.blocks():
            t = face.through(block, t, context)
        close(face.features(face.final(t), context), net.forward_head(net.forward_features(x), pre_logits=True))
        again = face.context().position
        assert (again is None) == (context.position is None)
        assert again is None or torch.equal(again, context.position)


@pytest.mark.parametrize("instance", [i for i, (word, _) in INSTANCES.items() if word in ("eva", "beit")])
def test_what_is_stored_between_blocks_goes_on_to_the_same_bits(instance: str) -> None:
    adapter, model = adapted("lora_last(k=1)", INSTANCES[instance][1]())
    scramble(model)
    seam, x = seam_of(adapter, model.eval()), images()
    assert seam is not None and seam.kind == "blocks 1"
    with torch.no_grad():
        stored = seam.early(x)
        assert torch.equal(seam.late(stored, Batch(x, torch.zeros(4), torch.arange(4))), model.forward_features(x))


@pytest.mark.parametrize("make", [make for word, make in INSTANCES.values() if word != "vit"])
def test_no_prompts_are_the_frozen_network(make: Callable[..., nn.Module]) -> None:
    net, x = make().double(), images(dtype=torch.float64)
    expected = features(copy.deepcopy(net), x)
    close(features(adapted("vpt_deep(prompts=0)", net)[1], x), expected)


def test_prompts_take_no_rotary_position() -> None:
    """A block of DINOv3 by hand: q and k of class token, registers and prompts stay as they are, patches turn."""
    net = dinov3().double()
    plain = copy.deepcopy(net).eval()
    _, model = adapted("vpt_deep(prompts=3)", net)
    scramble(model)
    face, x = face_of(plain), images(2, dtype=torch.float64)
    with torch.no_grad():
        t, context = face.embed(x)
        block, new = blocks(plain)[0], blocks(model.eval())[0]
        whole = torch.cat([t[:, :3], new.prompts.expand(2, -1, -1), t[:, 3:]], 1)
        n1 = block.norm1(whole)
        q, k, v = block.attn.qkv(n1).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        sin, cos = context.position.chunk(2, dim=-1)  # (16, 8) each

        def turned(u: Tensor) -> Tensor:
            patches = u[:, :, 6:]
            half = torch.cat([-patches[..., 4:], patches[..., :4]], dim=-1)
            return torch.cat([u[:, :, :6], patches * cos + half * sin], dim=2)

        mixed = (turned(q) @ turned(k).mT / 8**0.5).softmax(-1) @ v
        a = block.attn.proj(mixed.transpose(1, 2).flatten(2))
        x1 = whole + block.gamma_1 * a
        out = x1 + block.gamma_2 * block.mlp(block.norm2(x1))
        close(face.through(new, t, context), torch.cat([out[:, :3], out[:, 6:]], 1))


def test_prompts_of_beit_have_no_relative_position() -> None:
    net = beit().double()
    plain = copy.deepcopy(net).eval()
    _, model = adapted("vpt_deep(prompts=2)", net)
    scramble(model)
    with torch.no_grad():
        t, _ = face_of(plain).embed(images(2, dtype=torch.float64))
        block, new = blocks(plain)[1], blocks(model.eval())[1]
        table = block.attn._get_rel_pos_bias()[0]  # (heads, 17, 17)
        wide = torch.zeros(4, 19, 19, dtype=torch.float64)
        kept = [0, *range(3, 19)]
        for i, row in enumerate(kept):
            for j, column in enumerate(kept):
                wide[:, row, column] = table[:, i, j]
        whole = torch.cat([t[:, :1], new.prompts.expand(2, -1, -1), t[:, 1:]], 1)
        bias = torch.cat([block.attn.q_bias, torch.zeros(32).double(), block.attn.v_bias])
        q, k, v = (block.attn.qkv(block.norm1(whole)) + bias).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        a = block.attn.proj(((q @ k.mT / 8**0.5 + wide).softmax(-1) @ v).transpose(1, 2).flatten(2))
        x1 = whole + block.gamma_1 * a
        out = x1 + block.gamma_2 * block.mlp(block.norm2(x1))
        close(new(t), out[:, kept])


def test_lora_reaches_layers_whose_bias_is_kept_beside_them() -> None:
    """timm reads the weight of a fused qkv and passes the layer by; from then on it calls the layer."""
    for instance in ("eva01", "beit", "swinv2"):
        net = INSTANCES[instance][1]().double()
        before = features(copy.deepcopy(net), images(dtype=torch.float64))
        _, model = adapted("lora(targets='q')", net)
        scramble(model)
        assert (features(model, images(dtype=torch.float64)) - before).abs().max() > 1e-5


def test_bitfit_trains_the_biases_that_are_kept_beside_a_layer() -> None:
    for make in (beit, swinv2):
        model = adapted("bitfit", make())[1]
        names = trainable(model).keys() - head_names(model)
        assert {n.rpartition(".")[2] for n in names} == {"bias", "q_bias", "v_bias"}
        assert not any("relative" in n or "k_bias" in n for n in names)


def test_layers_that_stand_apart_have_a_role_each() -> None:
    assert [s.role for s in linears(eva())][:7] == ["q", "k", "v", "proj", "fc1", "fc1", "fc2"]
    names = trainable(adapted("lora(targets='q,v,fc1')", eva())[1])
    assert {n.split(".")[3] for n in names if n.startswith("blocks.0")} == {"q_proj", "v_proj", "fc1_g", "fc1_x"}
    with pytest.raises(MethodError, match="shared_a=True needs q, v in one layer"):
        adapted("lora(shared_a=True)", eva())


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(MethodError, match=r"'repadapter' adapts .* not this eva; adapters that fit it: .*lora"):
        adapted("repadapter", eva())
    with pytest.raises(MethodError, match="class_query=True is written for a plain ViT"):
        adapted("sherl(class_query=True)", dinov3())
    with pytest.raises(MethodError, match="not this Eva, whose norms stand behind attention and MLP; adapters that fit "
                                          "it: full, linear"):
        adapted("lora", eva(use_post_norm=True, scale_mlp=False))
    with pytest.raises(MethodError, match="not this VisionTransformer, whose blocks run attention and MLP side"):
        adapted("lora", tiny_vit(block_fn=ParallelScalingBlock))


COUNTS = [
    # names of timm, method, trained weights without the head; d = 768, 12 blocks but for EVA-02's MLP of 2048
    ("vit_base_patch14_reg4_dinov2", "lora(rank=4)", 12 * 4 * 2 * 2 * 768),
    ("vit_base_patch14_reg4_dinov2", "bitfit", 12 * 11 * 768 + 2 * 768),
    ("vit_base_patch14_reg4_dinov2", "vpt_deep(prompts=10)", 12 * 10 * 768),
    ("vit_base_patch16_siglip_224", "lora(rank=4)", 12 * 4 * 2 * 2 * 768),
    ("vit_base_patch16_siglip_224", "adapter(bottleneck=8)", 12 * (2 * 8 * 768 + 8 + 768)),
    ("vit_base_patch16_dinov3", "lora(rank=4)", 12 * 4 * 2 * 2 * 768),
    ("vit_base_patch16_dinov3", "ln_tune", 2 * 768 * (2 * 12 + 1)),
    ("vit_base_patch16_dinov3", "bitfit", 12 * (768 + 3072 + 768 + 2 * 768) + 2 * 768),  # qkv has no bias
    ("vit_base_patch16_dinov3", "adaptformer(bottleneck=8)", 12 * (2 * 8 * 768 + 8 + 768)),
    ("eva02_base_patch14_224", "lora(rank=4)", 12 * 4 * 2 * 2 * 768),
    ("eva02_base_patch14_224", "lora(rank=4,targets='all')", 12 * 4 * (4 * 2 * 768 + 3 * (768 + 2048))),
    ("eva02_base_patch14_224", "bitfit",  # patches; q, v, proj, halves of the MLP and its norm, fc2, two norms; last
     768 + 12 * (3 * 768 + 3 * 2048 + 768 + 2 * 768) + 768),
    ("eva02_base_patch14_224", "ln_tune", 12 * 2 * (2 * 768 + 2048) + 2 * 768),
    ("eva02_base_patch14_224", "fact_tt(rank=4)", 2 * 768 * 4 + 12 * (4 + 3 * 3) * 16),  # 2048 rows: three squares
    ("eva02_base_patch14_224", "vpt_shallow(prompts=10)", 10 * 768),
]


@pytest.mark.parametrize("name, text, expected", COUNTS, ids=[f"{n}-{t.partition('(')[0]}-{i}"
                                                              for i, (n, t, _) in enumerate(COUNTS)])
def test_counts_on_full_sizes(name: str, text: str, expected: int) -> None:
    with torch.device("meta"):
        model = adapted(text, backbones.create(name))[1]
    head = head_names(model)
    assert sum(p.numel() for n, p in trainable(model).items() if n not in head) == expected
