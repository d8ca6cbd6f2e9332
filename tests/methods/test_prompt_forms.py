"""vfpt, e2vpt and cvpt, each once more from its paper, in float64; and what they are without their own idea."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from formula_kit import D, X, built, close, tokens
from tiny_models import adapted, features, images, scramble, tiny_vit, trainable
from torch import Tensor

HEADS, WIDE = 3, 16


def read(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention head by head: q (B, N, D), k and v (B, M, D) -> (B, N, D)."""
    heads = []
    for h in range(HEADS):
        at = slice(h * WIDE, (h + 1) * WIDE)
        heads.append(((q[..., at] @ k[..., at].mT) / math.sqrt(WIDE)).softmax(-1) @ v[..., at])
    return torch.cat(heads, -1)


# ---- VFPT


@pytest.mark.parametrize("axes", ["both", "width", "prompts"])
def test_vfpt_feeds_the_real_part_of_a_discrete_fourier_transform(axes: str) -> None:
    """Re(F_m P F_D) with F the matrix of exp(-2 pi i j k / n), for the first m of the prompts."""
    _, model = built(f"vfpt(prompts=7, alpha=0.6, axes={axes!r})")  # floor(4.2) = 4

    def matrix(n: int) -> Tensor:
        j = torch.arange(n, dtype=torch.float64)
        return torch.exp(-2j * math.pi * j[:, None] * j / n)  # type: ignore[no-any-return]

    _, vpt = adapted("vpt_deep(prompts=7)", tiny_vit().double())
    with torch.no_grad():
        for block, own in zip(vpt.blocks, model.blocks, strict=True):  # type: ignore[arg-type]
            head = own.prompts[:4].to(torch.complex128)
            head = matrix(4) @ head if axes != "width" else head
            head = head @ matrix(D) if axes != "prompts" else head
            block.prompts.copy_(torch.cat([head.real, own.prompts[4:]]))
    close(features(model, X), features(vpt, X))


def test_trained_vfpt_folds_to_vpt_deep_bit_for_bit() -> None:
    _, model = adapted("vfpt(prompts=6)", tiny_vit())
    scramble(model)
    _, vpt = adapted("vpt_deep(prompts=6)", tiny_vit())
    with torch.no_grad():
        for block, own in zip(vpt.blocks, model.blocks, strict=True):  # type: ignore[arg-type]
            spectrum = torch.fft.fft(torch.fft.fft(own.prompts[:3], dim=-1), dim=-2).real
            block.prompts.copy_(torch.cat([spectrum, own.prompts[3:]]))
    assert torch.equal(features(model, images()), features(vpt, images()))


@pytest.mark.parametrize("text", ["vfpt(prompts=6, alpha=0.0, dropout=0.3)", "vfpt(prompts=6, alpha=0.16, dropout=0.3)",
                                  "e2vpt(prompts=6, kv=0, dropout=0.3)"])
def test_without_their_own_idea_they_are_vpt_deep_bit_for_bit(text: str) -> None:
    _, model = adapted(text, tiny_vit())  # 0.16 of six prompts is none
    _, vpt = adapted("vpt_deep(prompts=6, dropout=0.3)", tiny_vit())
    for one in (model, vpt):
        one.train()
    torch.manual_seed(0)
    given = model(images())
    torch.manual_seed(0)
    assert torch.equal(given, vpt(images()))


def test_the_transform_is_not_scaled_so_it_is_some_sixty_times_as_large() -> None:
    from methods.adapters.vfpt import AXES, spectrum

    bound = math.sqrt(6 / (3 * 16 * 16 + 768))
    prompts = torch.empty(10, 768).uniform_(-bound, bound, generator=torch.Generator().manual_seed(0))
    assert prompts.std() == pytest.approx(0.036, abs=0.001)
    assert spectrum(prompts, 10, AXES["both"]).std() == pytest.approx(2.2, abs=0.1)


# ---- E2VPT


@pytest.mark.parametrize("fused", [True, False])
def test_e2vpt_lets_one_tensor_join_keys_and_values_behind_the_projections(fused: bool) -> None:
    plain, model = built("e2vpt(prompts=4, kv=3)", reg_tokens=1)
    old, new = plain.blocks[1], model.blocks[1]  # type: ignore[index]
    new.attn.fused_attn = fused
    x = tokens(18)
    long = torch.cat([x[:, :2], new.prompts.expand(3, -1, -1), x[:, 2:]], 1)
    q, k, v = old.attn.qkv(old.norm1(long)).chunk(3, -1)
    extra = new.attn.prompts.transpose(0, 1).reshape(1, 3, D).expand(3, -1, -1)  # heads side by side
    x1 = long + old.attn.proj(read(q, torch.cat([extra, k], 1), torch.cat([extra, v], 1)))
    out = x1 + old.mlp(old.norm2(x1))
    close(new(x), torch.cat([out[:, :2], out[:, 6:]], 1))


def test_keys_and_values_of_zero_are_still_another_function() -> None:
    """A key of zero takes its share of the softmax: this start can never be exact."""
    net = tiny_vit()
    plain = features(copy.deepcopy(net), images())
    _, model = adapted("e2vpt(prompts=0, kv=1)", net)
    with torch.no_grad():
        for block in model.blocks:  # type: ignore[union-attr]
            block.attn.prompts.zero_()
    assert not torch.allclose(features(model, images()), plain, atol=1e-3)


def test_keys_and_values_start_kaiming_uniform_over_a_head() -> None:
    _, model = adapted("e2vpt(kv=50)", tiny_vit())
    for name, p in trainable(model).items():
        if "attn.prompts" in name:
            assert p.shape == (HEADS, 50, WIDE)
            assert 0.97 < p.abs().max() / math.sqrt(6 / (50 * WIDE)) <= 1


def test_a_masked_attention_is_refused() -> None:
    _, model = adapted("e2vpt", tiny_vit())
    with pytest.raises(ValueError, match="no place in a masked attention"):
        model.blocks[0](torch.randn(2, 17, D), is_causal=True)  # type: ignore[index, operator]


# ---- CVPT


@pytest.mark.parametrize("proj", ["copied", "random"])
@pytest.mark.parametrize("settings", [{}, {"qkv_bias": False}], ids=["biases", "no qkv bias"])
def test_cvpt_reads_its_prompts_between_attention_and_mlp(proj: str, settings: dict[str, object]) -> None:
    plain, model = built(f"cvpt(prompts=5, proj={proj!r})", **settings)
    old, new = plain.blocks[1], model.blocks[1]  # type: ignore[index]
    x = tokens()
    x1 = x + old.attn(old.norm1(x))
    q = old.attn.qkv(x1)[..., :D]  # of the stream itself: no norm
    k, v = old.attn.qkv(new.cross.prompts)[..., D:].chunk(2, -1)
    mixed = read(q, k, v)
    x2 = x1 + (old.attn.proj(mixed) if proj == "copied" else mixed @ new.cross.projection.T)
    close(new(x), x2 + old.mlp(old.norm2(x2)))


def test_a_single_prompt_adds_the_same_to_every_token() -> None:
    """A softmax over one key is one, whatever the query: the prompt's value, projected."""
    plain, model = built("cvpt(prompts=1)")
    attn, cross = plain.blocks[2].attn, model.blocks[2].cross  # type: ignore[index, union-attr]
    value = attn.proj(F.linear(cross.prompts, attn.qkv.weight[2 * D:], attn.qkv.bias[2 * D:]))
    close(cross(tokens()), value.expand(3, 17, D))


def test_cvpt_prompts_start_by_xavier_over_all_blocks_at_once() -> None:
    _, model = adapted("cvpt(prompts=40)", tiny_vit())
    bound = math.sqrt(6 / ((40 + 3) * D))
    for block in model.blocks:  # type: ignore[union-attr]
        assert 0.97 * bound < block.cross.prompts.abs().max() <= bound


def test_the_random_projection_of_cvpt_is_stored_and_never_trained() -> None:
    _, model = adapted("cvpt(proj='random')", tiny_vit())
    drawn = [n for n, _ in model.named_buffers() if n.endswith("cross.projection")]
    assert len(drawn) == 3 and set(drawn) <= model.state_dict().keys()
    assert not set(drawn) & trainable(model).keys()
    assert 0.018 < model.blocks[0].cross.projection.std() < 0.022  # type: ignore[index, union-attr]


def test_prompts_of_cvpt_are_dropped_while_training_alone() -> None:
    _, model = adapted("cvpt(dropout=0.5)", tiny_vit())
    x = images()
    assert torch.equal(model.eval()(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
