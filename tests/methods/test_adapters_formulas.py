"""Each adapter once more, naively, from its paper's formula, in float64; and its gradients at the first step."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from formula_kit import D, X, built, close, tokens
from tiny_models import adapted, features, images, tiny_vit, trainable
from torch import Tensor, nn

from methods.adapters.convpass import ConvBypass
from methods.grammar import MethodError


def naive_block(block: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """n1, a, x1, n2, m of a plain block."""
    n1 = block.norm1(x)  # type: ignore[operator]
    a = block.attn(n1)  # type: ignore[operator]
    x1 = x + a
    n2 = block.norm2(x1)  # type: ignore[operator]
    return n1, a, x1, n2, block.mlp(n2)  # type: ignore[operator]


def bottleneck(b: nn.Module, u: Tensor, act=F.gelu) -> Tensor:  # type: ignore[no-untyped-def]
    return act(u @ b.down.weight.T + b.down.bias) @ b.up.weight.T + b.up.bias  # type: ignore


# ---- bottlenecks


def test_pfeiffer_reads_and_adds_to_the_mlp_branch() -> None:
    plain, model = built("adapter_pfeiffer(bottleneck=4, scale=0.5)")
    x, block = tokens(), model.blocks[1]  # type: ignore[index]
    _, _, x1, _, m = naive_block(plain.blocks[1], x)  # type: ignore[index]
    close(block(x), x1 + m + 0.5 * bottleneck(block.points["post_mlp"], m))


def test_pfeiffer_still_serves_a_dropped_image_unless_it_lies_before_droppath() -> None:
    for text, served in (("adapter_pfeiffer(dropout=0.0)", True),
                         ("adapter_pfeiffer(dropout=0.0, after_droppath=False)", False)):
        _, model = built(text, drop_path_rate=0.99)
        block = model.blocks[2].train()  # type: ignore[index]
        block.drop_path1.drop_prob = block.drop_path2.drop_prob = 1.0  # every image is dropped
        x = tokens()
        added = bottleneck(next(iter(block.points.values())), torch.zeros(D, dtype=torch.float64))
        close(block(x), x + added if served else x)


def test_houlsby_acts_behind_both_branches() -> None:
    plain, model = built("adapter_houlsby(bottleneck=4, act='relu')")
    x, block, old = tokens(), model.blocks[0], plain.blocks[0]  # type: ignore[index]
    a = old.attn(old.norm1(x))
    x1 = x + a + bottleneck(block.points["post_attn"], a, F.relu)
    m = old.mlp(old.norm2(x1))
    close(block(x), x1 + m + bottleneck(block.points["post_mlp"], m, F.relu))


def test_adaptformer_reads_the_stream_before_norm2() -> None:
    plain, model = built("adaptformer(bottleneck=4, scale=0.3)")
    x, block = tokens(), model.blocks[1]  # type: ignore[index]
    _, _, x1, n2, m = naive_block(plain.blocks[1], x)  # type: ignore[index]
    at = block.points["par_mlp"]
    close(block(x), x1 + m + 0.3 * bottleneck(at, x1, F.relu))
    assert not torch.allclose(block(x), x1 + m + 0.3 * bottleneck(at, n2, F.relu))  # the wrong point shows


def test_adapter_plus_acts_behind_the_block_with_a_scale_per_channel() -> None:
    plain, model = built("adapter_plus(bottleneck=4)")
    x, block = tokens(), model.blocks[1]  # type: ignore[index]
    x2 = plain.blocks[1](x)  # type: ignore[index]
    at = block.points["post_block"]
    close(block(x), x2 + at.channel_scale * bottleneck(at, x2))


# ---- low rank


@pytest.mark.parametrize("text, matrix, constant", [
    ("lora_add(rank=3)", lambda w, c: c.up @ c.down, lambda w, b, c: c.shift),
    ("lora_mul(rank=3)", lambda w, c: w * (c.up @ c.down), lambda w, b, c: b * c.shift),
    ("vpt_add(rank=3)", lambda w, c: 0 * w, lambda w, b, c: w @ (c.prompt_up @ c.prompt_down)[:, 0]),
    ("vpt_add(prompt_rank='plain')", lambda w, c: 0 * w, lambda w, b, c: w @ c.prompt),
    ("lora_mul_vpt_add(rank=3)", lambda w, c: w * (c.up @ c.down),
     lambda w, b, c: b * c.shift + w @ (c.prompt_up @ c.prompt_down)[:, 0])])
def test_forms_of_pace_change_every_linear_layer(text, matrix, constant) -> None:  # type: ignore[no-untyped-def]
    plain, model = built(text)
    for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        old, new = (m.blocks[2].get_submodule(path) for m in (plain, model))  # type: ignore[index]
        x = torch.randn(2, 5, old.in_features, dtype=torch.float64)
        w, b, c = old.weight, old.bias, new.change
        close(new(x), x @ (w + matrix(w, c)).T + b + constant(w, b, c))
    assert not hasattr(model.patch_embed.proj, "change") and not hasattr(model.head, "change")  # type: ignore


# ---- scale and shift, FacT, RepAdapter, Convpass


def test_ssf_scales_and_shifts_behind_every_operation() -> None:
    plain, model = built("ssf")

    def after(site: nn.Module, y: Tensor) -> Tensor:
        return site.delta.scale * y + site.delta.shift  # type: ignore[union-attr, operator]

    at, embed = model.patch_embed.proj, plain.patch_embed.proj  # type: ignore[union-attr]
    x = after(at, embed(X).flatten(2).mT)
    x = torch.cat([plain.cls_token.expand(3, -1, -1), x], 1) + plain.pos_embed  # type: ignore
    for old, new in zip(plain.blocks, model.blocks, strict=True):  # type: ignore[arg-type]
        qkv = after(new.attn.qkv, old.attn.qkv(after(new.norm1, old.norm1(x))))
        q, k, v = qkv.unflatten(-1, (3, 3, 16)).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT) / 4.0).softmax(-1) @ v
        x = x + after(new.attn.proj, old.attn.proj(mixed.transpose(1, 2).flatten(2)))
        hidden = F.gelu(after(new.mlp.fc1, old.mlp.fc1(after(new.norm2, old.norm2(x)))))
        x = x + after(new.mlp.fc2, old.mlp.fc2(hidden))
    close(features(model, X), after(model.norm, plain.norm(x))[:, 0])  # type: ignore[arg-type, operator]


def test_ssf_starts_around_identity_and_identity_is_the_pretrained_function() -> None:
    net = tiny_vit()
    expected = features(copy.deepcopy(net), images())
    _, model = adapted("ssf(init='identity')", net)
    assert torch.equal(features(model, images()), expected)
    _, model = adapted("ssf", tiny_vit())
    scales = torch.cat([p.detach() for n, p in trainable(model).items() if n.endswith("delta.scale")])
    shifts = torch.cat([p.detach() for n, p in trainable(model).items() if n.endswith("delta.shift")])
    for values, mean in ((scales, 1.0), (shifts, 0.0)):
        assert abs(values.mean() - mean) < 0.003 and 0.018 < values.std() < 0.022


def test_repadapter_is_a_block_diagonal_linear_map_before_the_layer() -> None:
    plain, model = built("repadapter(bottleneck=4, groups=2, scale=0.5)")
    x, old, new = tokens(), plain.blocks[1].mlp.fc1, model.blocks[1].mlp.fc1  # type: ignore[index, union-attr]
    rep = new.rep
    dense = torch.zeros(D, 4, dtype=torch.float64)
    dense[:D // 2, :2], dense[D // 2:, 2:] = rep.up[0], rep.up[1]
    u = x + 0.5 * ((x @ rep.down.T + rep.down_bias) @ dense.T + rep.up_bias)
    close(new(x), u @ old.weight.T + old.bias)
    matrix, constant = rep.matrix()
    close(x @ matrix.T + constant, u)
    off = (matrix - torch.eye(D, dtype=torch.float64)) - 0.5 * dense @ rep.down
    assert off.abs().max() < 1e-12


def test_repadapter_refuses_groups_that_do_not_divide() -> None:
    with pytest.raises(MethodError, match="bottleneck must be a multiple of groups"):
        adapted("repadapter(groups=3)", tiny_vit())
    with pytest.raises(MethodError, match="width of 48"):
        adapted("repadapter(bottleneck=10, groups=5)", tiny_vit())


def test_convpass_lies_beside_both_branches() -> None:
    plain, model = built("convpass(bottleneck=4, scale=0.3, conv='xavier')", reg_tokens=2)
    x, block = torch.cat([tokens(), tokens(seed=6)[:, :2]], 1), model.blocks[1]  # 1 class, 2 registers, 16 patches
    old = plain.blocks[1]

    def bypass(b: ConvBypass, u: Tensor) -> Tensor:
        code = (lambda z: z * torch.sigmoid(1.702 * z))(b.down(u))
        mixed = torch.zeros_like(code)
        for i in range(3):  # alone, as 1 x 1 images
            mixed[:, i] = b.conv(code[:, i, :, None, None])[..., 0, 0]
        grid = code[:, 3:].mT.reshape(3, 4, 4, 4)
        mixed[:, 3:] = b.conv(grid).flatten(2).mT
        return 0.3 * b.up(mixed * torch.sigmoid(1.702 * mixed))

    n1, a, _, _, _ = naive_block(old, x)
    x1 = x + a + bypass(block.points["par_attn"], n1)
    n2 = old.norm2(x1)
    close(block(x), x1 + old.mlp(n2) + bypass(block.points["par_norm2"], n2))


def test_convpass_mixes_patches_but_not_the_class_token() -> None:
    _, model = built("convpass")
    bypass, x = model.blocks[0].points["par_attn"], tokens()  # type: ignore[index, union-attr]
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(16)])
    mixed, permuted = bypass(x), bypass(x[:, order])
    close(mixed[:, 0], permuted[:, 0])
    assert not torch.allclose(mixed[:, order][:, 1:], permuted[:, 1:])


# ---- prompts


def test_vpt_deep_replaces_the_prompts_before_each_block() -> None:
    plain, model = built("vpt_deep(prompts=5)", reg_tokens=1)
    x = plain._pos_embed(plain.patch_embed(X))  # type: ignore[operator]
    sequence = torch.cat([x[:, :2], torch.zeros(3, 5, D, dtype=torch.float64), x[:, 2:]], 1)
    for old, new in zip(plain.blocks, model.blocks, strict=True):  # type: ignore[arg-type]
        sequence = torch.cat([sequence[:, :2], new.prompts.expand(3, -1, -1), sequence[:, 7:]], 1)
        sequence = old(sequence)
        sequence[:, 2:7] = 1e3  # what prompts have become must not matter
    close(features(model, X), plain.norm(sequence)[:, 0])  # type: ignore[operator]


def test_vpt_shallow_keeps_its_prompts_to_the_last_block() -> None:
    plain, model = built("vpt_shallow(prompts=5)", global_pool="avg")
    x = plain._pos_embed(plain.patch_embed(X))  # type: ignore[operator]
    sequence = torch.cat([x[:, :1], model.blocks[0].prompts.expand(3, -1, -1), x[:, 1:]], 1)  # type: ignore
    for block in plain.blocks:  # type: ignore[union-attr]
        sequence = block(sequence)
    close(features(model, X), plain.fc_norm(plain.norm(sequence[:, 6:]).mean(1)))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["vpt_deep", "vpt_shallow"])
def test_no_prompts_are_the_frozen_model_and_their_order_is_nothing(name: str) -> None:
    net = tiny_vit()
    expected = features(copy.deepcopy(net), images())
    assert torch.equal(features(adapted(f"{name}(prompts=0)", net)[1], images()), expected)
    _, model = built(f"{name}(prompts=6)")
    before = features(model, X)
    with torch.no_grad():
        for n, p in trainable(model).items():
            if n.endswith("prompts"):
                p.copy_(p.flip(0))
    close(features(model, X), before)


def test_prompts_start_within_the_published_bound_and_each_gets_a_gradient() -> None:
    _, model = adapted("vpt_deep(prompts=50)", tiny_vit())
    bound = math.sqrt(6 / (3 * 8 * 8 + D))
    model(images()).square().sum().backward()
    for n, p in trainable(model).items():
        if n.endswith("prompts"):
            assert 0.97 * bound < p.abs().max() <= bound and p.grad is not None and p.grad.abs().max() > 0


def test_one_block_can_be_first_and_last() -> None:
    _, model = adapted("vpt_shallow", tiny_vit(depth=1))
    assert model.forward_features(images()).shape == (4, 17, D)  # type: ignore[operator]


# ---- which gradients are zero at the first step

ZERO_AT_START = {
    "lora": r"\.down$", "dora": r"\.down$", "adapter_pfeiffer": r"\.down\.", "adaptformer": r"\.down\.",
    "convpass": r"\.(down|conv)\.", "repadapter": r"\.down(_bias)?$", "fact_tt": r"fact\.(u|core)$",
    "fact_tk": r"fact\.(u|core|p)$", "lora_add": r"\.down$", "lora_mul": r"\.down$", "vpt_add": r"\.prompt_down$",
    "vpt_add(prompt_rank='plain')": r"^$", "lora_mul_vpt_add": r"\.(down|prompt_down)$", "bitfit": r"^$",
    "ln_tune": r"^$", "partial_k": r"^$", "full": r"^$", "linear": r"^$", "ssf": r"^$", "vpt_deep": r"^$",
    "vpt_shallow": r"^$", "adapter_houlsby": r"^$", "adapter_plus": r"^$",
    "vfpt": r"^$", "e2vpt": r"^$", "cvpt": r"^$",
    "glora": r"\.right$", "oft": r"^$", "goft": r"^$", "goft(stretch=True)": r"^$", "qgoft": r"^$",
}


@pytest.mark.parametrize("text", ZERO_AT_START)
def test_first_step_gradients_are_zero_exactly_where_the_start_is_a_zero_factor(text: str) -> None:
    _, model = adapted(text, tiny_vit().double())
    model.eval()
    F.cross_entropy(model(X), torch.tensor([0, 1, 2])).backward()
    for name, p in trainable(model).items():
        assert p.grad is not None
        assert bool(re.search(ZERO_AT_START[text], name)) == (p.grad.abs().max() == 0), name
