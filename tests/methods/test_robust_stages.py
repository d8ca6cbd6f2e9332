"""Linear probe, LP-FT and WiSE-FT against their specification: B6 to B10; refusals and compositions."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from robust_kit import CLASSES, Endless, Toy, data, optimizer_of, same, setup, tiny_resnet, train, weights
from tiny_models import images, tiny_vit
from torch import Tensor, nn

from methods.adapters.lp_ft import Probe, once
from methods.grammar import MethodError, parse


def test_B6_a_linear_probe_changes_no_feature_and_gives_the_backbone_no_gradient():
    method, fit = setup("linear", tiny_resnet(), 32)
    before = fit.model.eval().forward_features(images()).detach()
    state = weights(fit)
    fit.model.eval()
    optimizer = optimizer_of(fit)
    for _ in range(3):
        optimizer.zero_grad()
        method.grads(fit, data(10, 32, dtype=torch.float32))
        optimizer.step()
    assert all(p.grad is None for n, p in fit.model.named_parameters() if n not in fit.head)
    assert torch.equal(fit.model.forward_features(images()), before)
    assert {n for n, v in weights(fit).items() if not torch.equal(v, state[n])} == set(fit.head)


def test_B6_the_folded_head_equals_standardise_then_classify():
    torch.manual_seed(0)
    x, y = 3 + 5 * torch.randn(40, 6, dtype=torch.float64), torch.arange(40) % 4
    probe = Probe(x, y, 4)
    head = probe.fit(0.3)
    weight, bias = probe.folded(head)
    standardised = (x - x.mean()) / x.std()
    want = standardised @ head[:, :-1].T + head[:, -1]
    assert torch.allclose(x @ weight.T + bias, want, atol=1e-4)


def test_B6_the_probe_is_logistic_regression():
    """scikit-learn's objective at the same inverse penalty: |w|^2 / 2 + C sum of losses."""
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    x, y = torch.randn(60, 5, dtype=torch.float64), torch.randint(0, 3, (60,))
    probe = Probe(x, y, 3)
    head = probe.fit(0.5)
    rival = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(probe.x.numpy(), y.numpy())
    got = (probe.x @ head[:, :-1].T + head[:, -1]).softmax(1)
    assert torch.allclose(got, torch.tensor(rival.predict_proba(probe.x.numpy())), atol=1e-4)


def test_B7_stage_two_starts_at_the_probe_and_keeps_running_statistics():
    method, fit = setup("lp_ft", tiny_resnet(), 32)
    chosen = method.adapter.report()["C"]
    fit.model.train()
    assert not any(m.training for m in fit.model.modules())
    x = images(8)
    pooled = fit.model.forward_head(fit.model.forward_features(x), pre_logits=True)
    inputs, labels = probe_inputs(fit)
    probe = Probe(inputs, labels, CLASSES)
    for i in range(20):  # the same warm-started path
        c = 10 ** (-7 + 9 * i / 19)
        head = probe.fit(c)
        if c == pytest.approx(chosen):
            break
    weight, bias = probe.folded(head)
    assert torch.allclose(fit.forward(x), (pooled.double() @ weight.T + bias).float(), atol=1e-4)
    before = weights(fit)
    train(method, fit, 3, size=32)
    after = weights(fit)
    running = [n for n in before if "running" in n or "num_batches" in n]
    assert running and all(torch.equal(before[n], after[n]) for n in running)
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])


def probe_inputs(fit) -> tuple[Tensor, Tensor]:
    batch = data(20, 32, seed=7, dtype=torch.float32)
    with torch.no_grad():
        return fit.model.forward_head(fit.model.forward_features(batch.x), pre_logits=True).double(), batch.y


def test_B7_without_a_learning_rate_stage_two_is_the_probe():
    method, fit = setup("lp_ft", Toy(), lr=0.0)
    x = data(20, seed=7).x
    before = fit.forward(x).detach()
    train(method, fit, 3)
    assert torch.equal(fit.forward(x), before)
    random = setup("full", Toy())[1]
    hits = [float((f.forward(x).argmax(1) == data(20).y).double().mean()) for f in (fit, random)]
    assert hits[0] > hits[1] + 0.2


def test_lp_ft_chooses_its_penalty_on_held_out_images_or_takes_one():
    fits = [setup(text, Toy())[0].adapter.report()["C"] for text in ("lp_ft(path=4)", "lp_ft(C=0.25)")]
    assert any(fits[0] == pytest.approx(10.0**e) for e in (-7, -4, -1, 2)) and fits[1] == 0.25


def test_the_probes_head_is_an_anchor_that_a_constraint_may_use():
    method, fit = setup("lp_ft+tpgm(gamma=0)", Toy())
    start = weights(fit)
    train(method, fit, 3)
    assert fit.head <= fit.anchor.keys() and same(start, weights(fit))


def test_one_pass_over_the_held_out_images_ends_where_it_began():
    batches = list(once(Endless(data(14), 5)))
    assert torch.equal(torch.cat([b.index for b in batches]).sort().values, torch.arange(14))


# WiSE-FT


def test_B8_alpha_zero_and_one_are_the_two_ends_bit_for_bit():
    for alpha, buffers in itertools.product((0, 1), ("interp", "ft")):
        method, fit = setup(f"full+wise(alpha={alpha}, buffers={buffers!r})", Toy())
        start = weights(fit)
        train(method, fit, 4)
        tuned = weights(fit)
        method.finish(fit, lambda: 0.0)
        for name, value in weights(fit).items():
            new = name in fit.head or not value.is_floating_point() or ("running" in name and buffers == "ft")
            assert torch.equal(value, tuned[name] if new or alpha == 1 else start[name]), (alpha, name)


def test_B8_the_result_is_linear_in_alpha_and_merging_twice_multiplies():
    ends: list[dict[str, Tensor]] = []
    for text in ("full+wise(alpha=1, points=0)", "full+wise(alpha=0.6, points=0)"):
        method, fit = setup(text, Toy())
        torch.manual_seed(0)
        train(method, fit, 4)
        method.finish(fit, lambda: 0.0)
        ends.append(weights(fit))
    for name, theta0 in fit.anchor.items():
        assert torch.allclose(ends[1][name], 0.4 * theta0 + 0.6 * ends[0][name], atol=1e-12), name
    assert torch.allclose(ends[1]["bn.running_mean"], 0.6 * ends[0]["bn.running_mean"], atol=1e-12)
    method.constraints[0].alpha = 0.5
    method.finish(fit, lambda: 0.0)
    for name, theta0 in fit.anchor.items():
        assert torch.allclose(weights(fit)[name], 0.7 * theta0 + 0.3 * ends[0][name], atol=1e-12), name


def test_B8_on_lora_it_scales_the_update():
    method, fit = setup("lora+wise(alpha=0.25)", tiny_vit().double(), 32)
    train(method, fit, 3, size=32)
    before = [v.effective().detach().clone() for v in fit.views]
    down = [v.factor.detach().clone() for v in fit.views]
    method.finish(fit, lambda: 0.0)
    assert all(torch.allclose(v.effective(), 0.25 * b, atol=1e-14) for v, b in zip(fit.views, before, strict=True))
    assert all(torch.equal(v.factor, d) for v, d in zip(fit.views, down, strict=True))


def test_B9_on_a_linear_model_logits_interpolate():
    class Flat(nn.Module):
        num_features = 192

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Identity()
            self.fc = nn.Linear(192, CLASSES).double()

        def reset_classifier(self, classes: int) -> None:
            self.head = nn.Linear(1, 1, bias=False).double()

        def get_classifier(self) -> nn.Module:
            return self.head

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1))

    torch.manual_seed(0)
    method, fit = setup("full+wise(alpha=0.3)", Flat())
    x = data(6).x
    first = fit.forward(x).detach()
    source = Endless(data(40), 10)
    optimizer = torch.optim.SGD(fit.trainable.values(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(fit.forward(next(source).x), data(10).y).backward()
        optimizer.step()
    last = fit.forward(x).detach()
    method.finish(fit, lambda: 0.0)
    assert torch.allclose(fit.forward(x), 0.7 * first + 0.3 * last, atol=1e-12)


@pytest.mark.parametrize("buffers", ["interp", "ft", "recalibrate"])
def test_B10_integer_buffers_are_never_averaged(buffers):
    method, fit = setup(f"full+wise(alpha=0.5, buffers={buffers!r})", Toy())
    train(method, fit, 7)
    method.finish(fit, lambda: 0.0)
    count = fit.model.bn.num_batches_tracked
    assert count.dtype == torch.int64 and int(count) == 7


def test_recalibrated_statistics_are_the_mean_over_held_out_batches():
    method, fit = setup("full+wise(alpha=0.5, points=0, buffers='recalibrate')", Toy())
    train(method, fit, 3)
    flags = [m.training for m in fit.model.modules()]
    method.finish(fit, lambda: 0.0)
    held = Endless(data(15, seed=6), 5)
    means = torch.stack([next(held).x.mean((0, 2, 3)) for _ in range(16)])
    assert torch.allclose(fit.model.bn.running_mean, means.mean(0), atol=1e-12)
    assert flags == [m.training for m in fit.model.modules()] and fit.model.bn.momentum == 0.1


def test_the_curve_is_scored_at_every_alpha_and_does_not_change_the_result():
    results = []
    for points in (0, 4):
        method, fit = setup(f"full+wise(points={points})", Toy())
        torch.manual_seed(0)
        train(method, fit, 3)
        x, y, _ = data(15, seed=6)

        def score(fit=fit, x=x, y=y) -> float:
            fit.model.eval()
            return float((fit.forward(x).argmax(1) == y).double().mean())

        method.finish(fit, score)
        results.append(weights(fit))
    curve = method.constraints[0].report()
    assert same(*results) and list(curve) == ["alpha_0.00", "alpha_0.25", "alpha_0.50", "alpha_0.75", "alpha_1.00"]
    assert curve["alpha_0.50"] == score()


@pytest.mark.parametrize("text", ["unipt+wise", "lst+wise", "sherl+wise", "side_tuning+l2_sp", "vpt_deep+wise",
                                  "full+tpgm+mars_pgm", "full+mars_pgm+l2_pgm", "linear+l2_sp"])
def test_combinations_without_meaning_are_refused(text):
    with pytest.raises(MethodError):
        parse(text)


@pytest.mark.parametrize("text", ["full+l2_sp+wise", "lora+mars_pgm", "lora+mars_sp", "lora+l2_pgm", "ssf+wise",
                                  "partial_k+mars_sp", "lp_ft+wise", "full+ftp+wise", "bitfit+ftp"])
def test_combinations_with_a_meaning_run(text):
    method, fit = setup(text, tiny_vit(), 32)
    train(method, fit, 2, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(torch.isfinite(p).all()) for p in fit.trainable.values())


@pytest.mark.parametrize("text", ["full+tpgm+wise", "full+l2_sp", "full+mars_pgm", "lp_ft+tpgm", "full+ftp"])
def test_a_resnet_runs_the_robust_family(text):
    method, fit = setup(text, tiny_resnet(), 32)
    train(method, fit, 2, size=32)
    method.finish(fit, lambda: 0.5)
    assert all(bool(torch.isfinite(t).all()) for t in weights(fit).values())
