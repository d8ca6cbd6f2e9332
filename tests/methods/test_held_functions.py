"""LDIFS and function-space L2: what a network computes stays near what it computed, against the written formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from robust_kit import data, same, setup, tiny_resnet, train, weights
from tiny_models import tiny_swin, tiny_vit
from torch import Tensor, nn

from methods.base import Fit
from methods.grammar import MethodError, parse
from methods.regularizers.ldifs import distance, doors, tapped


def stack(seed: int, count: int = 5) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 7, 6, dtype=torch.float64, generator=g) * (i + 1) for i in range(count)]


def by_hand(now: list[Tensor], before: list[Tensor], axis: int | None) -> float:
    """The mean of every squared difference of every tap, one number at a time; axis 1 runs over tokens."""
    total = []
    for a, b in zip(now, before, strict=True):
        images, tokens, channels = a.shape
        found = 0.0
        for i in range(images):
            for n in range(tokens):
                for d in range(channels):
                    def unit(t: Tensor, i: int = i, n: int = n, d: int = d) -> float:
                        line = {None: None, 1: t[i, :, d], 2: t[i, n, :]}[axis]
                        size = 1.0 if line is None else float((line * line).sum()) ** 0.5 + 1e-10
                        return float(t[i, n, d]) / size
                    found += (unit(a) - unit(b)) ** 2
        total.append(found / (images * tokens * channels))
    return sum(total) / len(total)


@pytest.mark.parametrize(("normalise", "axis"), [("official", 1), ("channel", 2), ("none", None)])
def test_the_distance_of_two_stacks_is_the_formulas(normalise: Any, axis: int | None) -> None:
    now, before = stack(1), stack(2)
    assert float(distance(now, before, normalise)) == pytest.approx(by_hand(now, before, axis), rel=1e-12)
    assert float(distance(now, now, normalise)) == 0


def test_what_a_normalisation_does_not_see() -> None:
    now = stack(1)
    tokens, channels = ([t * (1 + torch.arange(t.shape[axis])).reshape(shape) for t in now]
                        for axis, shape in ((2, (1, 1, -1)), (1, (1, -1, 1))))
    assert float(distance(now, tokens, "official")) < 1e-18 < float(distance(now, tokens, "channel"))
    assert float(distance(now, channels, "channel")) < 1e-18 < float(distance(now, channels, "official"))


@pytest.mark.parametrize(("make", "shapes"), [
    (lambda: tiny_vit(depth=12), [(2, 17, 48)] * 5),
    (tiny_vit, [(2, 17, 48)] * 4),  # of three blocks two quarters end in the same place
    (tiny_swin, [(2, 256, 16), (2, 256, 16), (2, 64, 32)]),
    (tiny_resnet, [(2, 64, 64), (2, 64, 32), (2, 16, 64), (2, 4, 96), (2, 1, 128)])],
    ids=["vit of 12", "vit of 3", "swin", "resnet"])
def test_the_taps_are_tokens_before_the_final_norm(make: Any, shapes: list[tuple[int, ...]]) -> None:
    model = make().eval()
    with tapped(model) as seen, torch.no_grad():
        model(data(2, 32, dtype=torch.float32).x)
    assert [tuple(t.shape) for t in seen] == shapes


def test_a_vit_of_12_is_tapped_behind_blocks_3_6_9_and_12() -> None:
    model = tiny_vit(depth=12)
    first, later = doors(model)
    assert first is model.blocks[0] and later == [model.blocks[i] for i in (2, 5, 8, 11)]


def test_prompts_are_left_out() -> None:
    _, fit = setup("vpt_shallow(prompts=3)", tiny_vit(), 32)
    fit.model.eval()
    with tapped(fit.model) as seen, torch.no_grad():
        fit.forward(data(2, 32, dtype=torch.float32).x)
    assert {tuple(t.shape) for t in seen} == {(2, 17, 48)}


def test_a_network_without_such_places_is_refused_with_a_sentence() -> None:
    with pytest.raises(MethodError, match="reads the blocks of a ViT or the stages"):
        doors(nn.Linear(2, 2))


@pytest.mark.parametrize("text", ["full+ldifs", "lora+ldifs(normalise='none')", "lp_ft+fsl2"])
def test_at_the_start_nothing_is_penalised_and_later_something_is(text: str) -> None:
    """With DropPath at work: both passes drop the same paths."""
    method, fit = setup(text, tiny_vit(drop_path_rate=0.3), 32)
    batch, name = data(4, 32, dtype=torch.float32), method.regularizers[0].name  # type: ignore[attr-defined]
    fit.model.train()
    assert float(method.grads(fit, batch)[name]) == 0
    train(method, fit, 2, size=32)
    assert float(method.grads(fit, batch)[name]) > 0


@pytest.mark.parametrize(("part", "weight"), [("ldifs", 1e6), ("fsl2", 1e3)])
def test_a_large_weight_holds_the_function_and_weight_0_is_plain_training(part: str, weight: float) -> None:
    def run(text: str) -> Fit:
        method, fit = setup(text, tiny_vit(), 32, lr=1e-3)
        torch.manual_seed(2)
        train(method, fit, 8, size=32)
        return fit

    plain, held, none = run("lp_ft"), run(f"lp_ft+{part}(weight={weight})"), run(f"lp_ft+{part}(weight=0.0)")
    assert same(weights(plain), weights(none))
    x = data(4, 32, dtype=torch.float32).x
    _, start = setup("lp_ft", tiny_vit(), 32)

    def states(fit: Fit) -> Tensor:
        fit.model.eval()
        with torch.no_grad():
            out: Tensor = fit.model(x) if part == "fsl2" else fit.model.forward_features(x)  # type: ignore[operator]
        return out

    far = [float((states(fit) - states(start)).norm()) for fit in (held, plain)]
    assert far[0] < 0.5 * far[1]


def test_fsl2_is_the_mean_squared_distance_of_the_logits() -> None:
    method, fit = setup("lp_ft+fsl2(weight=0.25)", tiny_vit().double(), 32)
    batch = data(4, 32)
    fit.model.eval()
    start = fit.forward(batch.x).detach()
    with torch.no_grad():
        for i, p in enumerate(fit.trainable.values()):
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype))
    terms = method.grads(fit, batch)
    here = fit.forward(batch.x).detach()
    far = sum(float(((here[i] - start[i]) ** 2).sum()) for i in range(4)) / 4
    assert float(terms["fsl2"]) == pytest.approx(far, rel=1e-9)
    task = nn.functional.cross_entropy(here, batch.y)
    assert float(terms["loss"].detach()) == pytest.approx(float(task) + 0.25 * far, rel=1e-9)


def test_statistics_of_batch_norm_see_one_pass_a_step() -> None:
    method, fit = setup("full+ldifs", tiny_resnet(), 32)
    train(method, fit, 3, size=32)
    assert int(fit.model.bn1.num_batches_tracked) == 3  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(("text", "words"), [
    ("lora+fsl2", "'fsl2' needs 'head'.* Adapters that do: lp_ft"), ("lp_ft+pace+fsl2", "needs 'delta'"),
    ("lora+pace+ldifs", "cannot be combined: ldifs compares"), ("linear+ldifs", "cannot be combined: ldifs"),
    ("lst+ldifs", "beside a side network never move"), ("sherl+ldifs", "cannot be combined")])
def test_combinations_without_meaning_are_refused(text: str, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["lora+ldifs+fpa", "full+ldifs(normalise='channel')+spd+ema", "lp_ft+fsl2+ldifs+wise",
                                  "vpt_deep+ldifs", "lora+sam+ldifs", "lp_ft+ugr+fsl2+digrap+ftp"])
def test_what_goes_together_takes_three_steps(text: str) -> None:
    method, fit = setup(text, tiny_vit(drop_path_rate=0.1), 32)
    train(method, fit, 3, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(t.isfinite().all()) for t in weights(fit).values())


@pytest.mark.parametrize("make", [tiny_swin, tiny_resnet])
def test_ldifs_on_swin_and_resnet(make: Any) -> None:
    method, fit = setup("full+ldifs", make(), 32)
    train(method, fit, 3, size=32)
    assert all(bool(t.isfinite().all()) for t in weights(fit).values())
