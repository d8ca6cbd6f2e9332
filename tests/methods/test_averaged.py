"""EMA and DARE: what happens to the weights once training is over, against timm's, torch's and the authors' rules."""

from __future__ import annotations

import pytest
import torch
from robust_kit import Toy, data, same, setup, tiny_resnet, train, weights
from timm.utils import ModelEmaV3
from tiny_models import tiny_vit
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from methods.catalog import catalog
from methods.constraints.dare import DARE
from methods.constraints.ema import EMA, wide
from methods.grammar import MethodError, parse

# EMA


def test_the_mean_is_torchs() -> None:
    method, fit = setup("full+ema(beta=0.8, warmup=False)", Toy())
    peer = AveragedModel(fit.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))  # type: ignore[no-untyped-call]
    peer.update_parameters(fit.model)  # its first update copies: the start
    train(method, fit, 9, each=lambda: peer.update_parameters(fit.model))
    live = weights(fit)
    method.finish(fit, lambda: 0.0)
    for name, p in peer.module.named_parameters():
        assert torch.allclose(fit.trainable[name], p, rtol=1e-12, atol=1e-14), name
        assert not torch.equal(live[name], fit.trainable[name])


def test_the_warm_up_is_timms_and_forgets_the_start() -> None:
    method, fit = setup("full+ema(beta=0.9)", Toy())
    peer = ModelEmaV3(fit.model, decay=0.9, use_warmup=True)
    counted = [0]

    def follow() -> None:
        counted[0] += 1
        peer.update(fit.model, step=counted[0])  # type: ignore[no-untyped-call]
        if counted[0] == 1:
            assert torch.equal(method.constraints[0].shadow["fc.weight"], fit.trainable["fc.weight"])

    train(method, fit, 12, each=follow)
    method.finish(fit, lambda: 0.0)
    for name, value in peer.module.state_dict().items():
        if value.is_floating_point():  # weights and batch norm's statistics
            assert torch.allclose(fit.model.state_dict()[name], value, rtol=1e-12, atol=1e-14), name


def test_beta_0_is_plain_training_and_beta_1_the_start_bit_for_bit() -> None:
    plain, start = setup("full", Toy()), weights(setup("full", Toy())[1])
    torch.manual_seed(2)
    train(*plain, 6)
    for beta, want in ((0.0, weights(plain[1])), (1.0, start)):
        method, fit = setup(f"full+ema(beta={beta}, warmup=False)", Toy())
        torch.manual_seed(2)
        train(method, fit, 6)
        assert same(weights(fit), weights(plain[1])), "training itself sees nothing of the mean"
        method.finish(fit, lambda: 0.0)
        assert all(torch.equal(t, want[n]) for n, t in weights(fit).items() if "num_batches" not in n)


def test_whole_numbers_are_not_averaged_and_buffers_can_stay() -> None:
    for text, moves in (("full+ema(beta=0.5)", True), ("full+ema(beta=0.5, exclude_buffers=True)", False)):
        method, fit = setup(text, Toy())
        train(method, fit, 4)
        last = fit.model.bn.running_mean.clone()
        method.finish(fit, lambda: 0.0)
        assert int(fit.model.bn.num_batches_tracked) == 4
        assert torch.equal(last, fit.model.bn.running_mean) is not moves


def test_the_mean_of_bfloat16_weights_is_kept_in_float32() -> None:
    assert wide(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert wide(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_the_mean_is_of_projected_weights_and_wise_interpolates_the_mean() -> None:
    """Wherever `ema` is written, it stands last after a step and first at the end; one meaning has one spelling."""
    assert parse("full+wise+ema").text() == parse("full+ema+wise").text() == "full+ema+wise"
    method, fit = setup("full+mars_pgm(gamma=0.01)+ema(beta=0.9)", Toy())
    train(method, fit, 6)
    for name in ("fc.weight", "conv.weight"):
        d = (method.constraints[0].shadow[name] - fit.anchor[name]).flatten(1)
        assert float(d.abs().sum(1).max()) <= 0.01 * (1 + 1e-9)  # a mean of points of a ball
    found = []
    for text in ("full+ema(beta=0.9)", "full+ema(beta=0.9)+wise(alpha=0.25, points=0)"):
        method, fit = setup(text, Toy())
        torch.manual_seed(2)
        train(method, fit, 6)
        method.finish(fit, lambda: 0.0)
        found.append(fit)
    mean, mixed = (f.trainable["fc.weight"].detach() for f in found)
    anchor = found[0].anchor["fc.weight"]
    assert torch.allclose(mixed, anchor + 0.25 * (mean - anchor), rtol=1e-12)


# DARE


def released(delta: Tensor, p: float, seed: int) -> Tensor:
    """The released code's random mask: what is drawn is what is dropped."""
    drop = torch.bernoulli(torch.full_like(delta, p), generator=torch.Generator().manual_seed(seed))
    left = delta * (1 - drop)
    return left if p == 1 else left / (1 - p)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_random_masks_are_the_released_codes(p: float) -> None:
    delta = torch.randn(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(DARE().thinned(delta, p, 7), released(delta, p, 7))


def test_what_is_dropped_is_the_share_and_the_mean_update_stays() -> None:
    delta = torch.ones(300, 300, dtype=torch.float64)
    thin = DARE().thinned(delta, 0.8, 3)
    assert float((thin == 0).double().mean()) == pytest.approx(0.8, abs=0.01)
    assert float(thin.mean()) == pytest.approx(1.0, abs=0.05)


def test_by_magnitude_the_smallest_go_and_nothing_is_rescaled_unless_asked() -> None:
    delta = torch.tensor([[0.5, -3.0, 0.1], [2.0, -0.2, 1.0]], dtype=torch.float64)
    left = torch.tensor([[0.0, -3.0, 0.0], [2.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.equal(DARE(strategy="magnitude").thinned(delta, 0.5, 0), left)
    assert torch.equal(DARE(strategy="magnitude", rescale="yes").thinned(delta, 0.5, 0), 2 * left)
    assert torch.equal(DARE(strategy="magnitude").thinned(delta, 0.0, 0), delta)


def test_p_0_changes_no_bit_and_p_1_gives_the_pretrained_weights() -> None:
    for p in (0.0, 1.0):
        method, fit = setup(f"full+dare(p={p})", Toy())
        train(method, fit, 4)
        before = weights(fit)
        method.finish(fit, lambda: 0.0)
        after = weights(fit)
        assert all(torch.equal(after[n], fit.anchor[n] if p else before[n]) for n in fit.anchor)
        assert torch.equal(after["head.weight"], before["head.weight"])


def test_the_runs_seed_draws_the_masks_and_no_random_stream_moves() -> None:
    found = []
    for seed in (1, 1, 2):
        method, fit = setup("full+dare", Toy())
        train(method, fit, 3)
        fit.seed = seed
        before = torch.get_rng_state()
        method.finish(fit, lambda: 0.0)
        assert torch.equal(before, torch.get_rng_state())
        found.append((fit.trainable["fc.weight"] == fit.anchor["fc.weight"]).detach())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_on_lora_entries_of_b_go_so_that_the_product_keeps_its_rank() -> None:
    method, fit = setup("lora+dare(p=0.5)", tiny_vit().double(), 32)
    train(method, fit, 3, size=32)
    b, a = ([t.detach().clone() for t in ts] for ts in ([v.param for v in fit.views], [v.factor for v in fit.views]))
    method.finish(fit, lambda: 0.0)
    for view, before, factor in zip(fit.views, b, a, strict=True):
        assert torch.equal(view.factor, factor)
        kept = view.param != 0
        assert bool((view.param[kept] == 2 * before[kept]).all()) and 0 < float(kept.double().mean()) < 1


def test_a_curve_is_scored_on_held_out_images_and_changes_no_result() -> None:
    results = []
    for points in (0, 4):
        method, fit = setup(f"full+dare(points={points})", Toy())
        assert method.wants_holdout is (points > 0)
        torch.manual_seed(0)
        train(method, fit, 3)
        fit.model.eval()
        x, y, _ = data(15, seed=6)
        method.finish(fit, lambda: float((fit.forward(x).argmax(1) == y).double().mean()))  # noqa: B023
        results.append(weights(fit))
    assert same(*results)
    assert list(method.constraints[0].report()) == ["p_0.00", "p_0.25", "p_0.50", "p_0.75", "p_1.00"]
    assert catalog()["dare"].facts["wants_holdout"] and EMA().wants_holdout is False


@pytest.mark.parametrize("text", ["linear+dare", "vpt_deep+dare", "unipt+dare"])
def test_without_a_pretrained_value_nothing_can_be_dropped(text: str) -> None:
    with pytest.raises(MethodError, match="'dare' needs 'anchor'"):
        parse(text)


@pytest.mark.parametrize("text", ["full+spd+ema+dare", "full+l2_sp+ema+wise", "lp_ft+ftp+ema", "lora+sam+spd+dare",
                                  "ssf+spd+ema", "bitfit+tpgm+dare", "linear+ema", "vpt_deep+ema", "lst+ema",
                                  "lora+pace+spd", "dora+spd", "adapter+ugr+dare"])
def test_what_goes_together_takes_three_steps(text: str) -> None:
    method, fit = setup(text, tiny_vit(), 32)
    train(method, fit, 3, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(t.isfinite().all()) for t in weights(fit).values())


@pytest.mark.parametrize("text", ["full+spd+ema", "full+dare", "lp_ft+spd+dare", "linear+ema"])
def test_a_resnet_takes_them_too(text: str) -> None:
    method, fit = setup(text, tiny_resnet(), 32)
    train(method, fit, 3, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(t.isfinite().all()) for t in weights(fit).values())
