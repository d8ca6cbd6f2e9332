"""Adapters of convolutional networks against blocks typed out here from their papers, in double precision.

The networks' own forward pass is not used in the typed blocks: every convolution is a sum over its window, every batch
norm is written out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from tiny_convs import tiny
from tiny_models import adapted, images, scramble, step, trainable
from torch import Tensor, nn

from methods.vit import head_names
from methods.weights import merged_copy

BLOCKS = ("layer1.0", "layer2.0", "layer4.1")  # of stride 1 on 64 channels, of stride 2, without a downsampling


def conv(x: Tensor, w: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """(B, I, H, W), (O, I / groups, k, k) -> (B, O, ...): a weighted sum over each window, zeros around the image."""
    k, per, wide = w.shape[-1], w.shape[1], w.shape[0] // groups
    padded = nn.functional.pad(x, [(k - 1) // 2] * 4)
    rows = range(0, padded.shape[2] - k + 1, stride)
    columns = range(0, padded.shape[3] - k + 1, stride)
    out = []
    for g in range(groups):
        own, weight = padded[:, g * per:(g + 1) * per], w[g * wide:(g + 1) * wide]
        out.append(torch.stack([torch.stack([torch.einsum("bikl,oikl->bo", own[:, :, r:r + k, c:c + k], weight)
                                             for c in columns], -1) for r in rows], -2))
    return torch.cat(out, 1)


def channels(v: Tensor) -> Tensor:
    return v[None, :, None, None]


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A batch norm by its stored statistics."""
    centred = x - channels(norm.running_mean)  # type: ignore[arg-type]
    return centred / channels(norm.running_var + norm.eps).sqrt() * channels(norm.weight) + channels(norm.bias)  # type: ignore


def shortcut(block: nn.Module, x: Tensor) -> Tensor:
    down: list[nn.Module] = [*block.downsample] if block.downsample is not None else []  # type: ignore[misc]
    return normed(down[1], conv(x, down[0].weight, down[0].stride[0])) if down else x  # type: ignore


def bottleneck(block: nn.Module, x: Tensor, middle: Callable[[Tensor], Tensor]) -> Tensor:
    """He et al.'s bottleneck; `middle` is what stands between the two 1 x 1 convolutions."""
    u = normed(block.bn1, conv(x, block.conv1.weight)).relu()  # type: ignore
    out = normed(block.bn3, conv(middle(u), block.conv3.weight))  # type: ignore
    return (out + shortcut(block, x)).relu()


def beside(adapter: nn.Module, stride: int) -> Callable[[Tensor], Tensor]:
    """Conv-Adapter's F: a grouped convolution to fewer channels, ReLU, 1 x 1, a scale for each channel."""
    p = dict(adapter.named_parameters())
    few = p["down.weight"].shape[0]

    def f(u: Tensor) -> Tensor:
        inner = (conv(u, p["down.weight"], stride, few) + channels(p["down.bias"])).relu()
        return channels(p["channel_scale"]) * (conv(inner, p["up.weight"]) + channels(p["up.bias"]))

    return f


def compared(block: nn.Module, typed: Callable[[Tensor], Tensor], wide: int, wanted: dict[str, nn.Parameter]) -> None:
    """Output and gradients of the block and of what was typed, in eval mode."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, wide, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    got = block(x)
    above = torch.randn(got.shape, generator=generator, dtype=torch.float64)
    leaves = [x, *wanted.values()]
    ours = torch.autograd.grad((got * above).sum(), leaves)
    expected = typed(x)
    theirs = torch.autograd.grad((expected * above).sum(), leaves)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for name, a, b in zip(["x", *wanted], ours, theirs, strict=True):
        assert b.abs().max() > 1e-4, f"{name}: agreement on zeros would prove nothing"
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def model_of(text: str, kind: str = "resnet", spread: float = 0.3) -> nn.Module:
    _, model = adapted(text, tiny(kind).double())
    scramble(model, spread=spread)
    return model.eval()


@pytest.mark.parametrize("path", BLOCKS)
def test_conv_adapter_stands_beside_the_convolution_its_norm_and_its_activation(path: str) -> None:
    block = model_of("conv_adapter").get_submodule(path)
    stride = block.conv2.stride[0]  # type: ignore
    added: nn.Module = block.conv_adapter  # type: ignore[assignment]
    f = beside(added, stride)

    def middle(u: Tensor) -> Tensor:
        return normed(block.bn2, conv(u, block.conv2.weight, stride)).relu() + f(u)  # type: ignore

    compared(block, lambda x: bottleneck(block, x, middle), block.conv1.weight.shape[1],  # type: ignore
             dict(added.named_parameters()))


def test_in_a_basic_block_it_stands_beside_the_first_convolution_in_front_of_its_norm() -> None:
    """Where the authors' code puts it, which reads a value there before it is assigned."""
    block = model_of("conv_adapter", "basic").get_submodule("layer2.0")
    added: nn.Module = block.conv_adapter  # type: ignore[assignment]
    p = dict(added.named_parameters())

    def typed(x: Tensor) -> Tensor:
        inner = (conv(x, p["down.weight"], 2, 2) + channels(p["down.bias"])).relu()
        f = channels(p["channel_scale"]) * (conv(inner, p["up.weight"]) + channels(p["up.bias"]))
        u = normed(block.bn1, conv(x, block.conv1.weight, 2) + f).relu()  # type: ignore
        return (normed(block.bn2, conv(u, block.conv2.weight)) + shortcut(block, x)).relu()  # type: ignore

    compared(block, typed, 8, p)  # type: ignore[arg-type]


def test_conv_adapter_starts_as_its_constructor_says() -> None:
    _, model = adapted("conv_adapter(reduction=2)", tiny("resnet"))
    added = model.get_submodule("layer4.1.conv_adapter")
    p = dict(added.named_parameters())
    assert torch.equal(p["channel_scale"], torch.ones(32))
    assert not p["down.bias"].any() and not p["up.bias"].any()
    # Kaiming's fan-out for ReLU, where the fan of a grouped convolution counts its output over one group
    assert p["up.weight"].std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.15)
    _, exact = adapted("conv_adapter(reduction=2, zero_last=True)", tiny("resnet"))
    assert not exact.get_submodule("layer4.1.conv_adapter.up").weight.any()  # type: ignore


@pytest.mark.parametrize("path", BLOCKS)
def test_parallel_residual_adapters_are_a_1_x_1_filter_of_the_same_stride(path: str) -> None:
    block = model_of("residual_adapter").get_submodule(path)
    stride, tap = block.conv2.stride[0], block.conv2.adapter.tap  # type: ignore

    def middle(u: Tensor) -> Tensor:
        filtered = conv(u, block.conv2.weight, stride) + conv(u, tap[:, :, None, None], stride)  # type: ignore
        return normed(block.bn2, filtered).relu()  # type: ignore[arg-type]

    compared(block, lambda x: bottleneck(block, x, middle), block.conv1.weight.shape[1],  # type: ignore
             {n: p for n, p in block.named_parameters() if p.requires_grad})


def test_a_merged_parallel_adapter_is_the_centre_tap_and_nothing_else() -> None:
    net = tiny("resnet").double()
    before = copy.deepcopy(net)
    adapter, model = adapted("residual_adapter(norms=False)", net)
    scramble(model, spread=0.3)
    merged = merged_copy(adapter, model)
    strides = set()
    for path in BLOCKS:
        at = f"{path}.conv2"
        expected = before.get_submodule(at).weight.detach().clone()  # type: ignore
        expected[:, :, 1, 1] += model.get_submodule(f"{at}.adapter").tap.detach()  # type: ignore
        torch.testing.assert_close(merged.get_submodule(at).weight, expected, rtol=0, atol=1e-14)
        strides.add(merged.get_submodule(at).stride)
    assert strides == {(1, 1), (2, 2)}
    others = {n: p for n, p in before.named_parameters() if not n.endswith("conv2.weight")}
    assert others and all(torch.equal(p, dict(merged.named_parameters())[n]) for n, p in others.items())


@pytest.mark.parametrize("kind", ["resnet", "efficientnet", "mobilenet"])
def test_ssf_behind_a_batch_norm_is_another_affine_of_that_norm(kind: str) -> None:
    """y = a (g z + b) + c has the scale a g and the shift a b + c: typed into a plain network it is the same one."""
    model = model_of("ssf", kind)
    plain = tiny(kind).double()
    plain.reset_classifier(5)
    plain.get_classifier().load_state_dict(model.get_classifier().state_dict())  # type: ignore
    p, changed = dict(model.named_parameters()), 0
    with torch.no_grad():
        for name, norm in plain.named_modules():
            if f"{name}.delta.scale" in p:
                scale, shift = p[f"{name}.delta.scale"], p[f"{name}.delta.shift"]
                norm.bias.copy_(scale * norm.bias + shift)
                norm.weight.mul_(scale)
                changed += 1
        x = images(dtype=torch.float64)
        assert changed == sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
        torch.testing.assert_close(model(x), plain.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["resnet", "basic", "efficientnet", "mobilenet"])
def test_bn_tune_trains_scale_and_shift_of_every_batch_norm_and_nothing_else(kind: str) -> None:
    widths = [m.num_features for m in tiny(kind).modules() if isinstance(m, nn.BatchNorm2d)]
    _, model = adapted("bn_tune", tiny(kind))
    trained = {n: p for n, p in trainable(model).items() if n not in head_names(model)}
    assert sum(p.numel() for p in trained.values()) == 2 * sum(widths) > 0
    assert {n.rpartition(".")[2] for n in trained} == {"weight", "bias"} and len(trained) == 2 * len(widths)


def test_statistics_of_a_frozen_network_stay_and_those_of_a_trained_one_follow_torchs_rule() -> None:
    def statistics(model: nn.Module) -> dict[str, Tensor]:
        return {n: b.clone() for n, b in model.named_buffers() if "running" in n or "tracked" in n}

    for name in ("conv_adapter", "ssf"):  # others: test_convs
        _, model = adapted(name, tiny("resnet"))
        before = statistics(model)
        for _ in range(2):
            step(model.train(), steps=1)
            model.eval()
        assert all(torch.equal(b, before[n]) for n, b in statistics(model).items()), name
    _, full = adapted("full", tiny("resnet"))
    norm, seen = full.get_submodule("bn1"), []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    start = norm.running_mean.clone()  # type: ignore
    step(full.train(), steps=2)  # and a last pass, for the loss behind the last step
    expected = start
    for x in seen:
        expected = 0.9 * expected + 0.1 * x.mean((0, 2, 3))
    assert len(seen) == 3 and not torch.allclose(expected, start)
    torch.testing.assert_close(norm.running_mean, expected)
