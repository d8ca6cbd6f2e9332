"""The five label-free objectives and the views they look at, each formula checked once more naively."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from robust_kit import data, setup
from tiny_models import tiny_swin, tiny_vit
from torch import Tensor, nn

from methods.base import Fit
from methods.regularizers import objectives
from methods.regularizers.augment import (
    contrast_view,
    crop,
    flip,
    from_unit,
    grey,
    jitter,
    strong_view,
    to_unit,
)
from methods.regularizers.objectives import (
    agreement,
    entropy,
    masked_error,
    mean_entropy,
    nt_xent,
    patchify,
    random_mask,
    standardised,
    turned,
)
from methods.regularizers.ugr import UGR

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])


def attached(text: str, **settings: Any) -> tuple[UGR, Fit]:
    method, fit = setup(text, tiny_vit().double(), size=32, **settings)
    part = method.regularizers[0]
    assert isinstance(part, UGR)
    return part, fit


def unit(count: int = 5, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_ugr_14_entropy_of_uniform_logits_is_log_classes_and_of_one_hot_zero() -> None:
    assert entropy(torch.zeros(3, 7)).tolist() == pytest.approx([math.log(7)] * 3)
    assert entropy(1e4 * F.one_hot(torch.arange(3), 7).float()).tolist() == [0, 0, 0]
    logits = torch.randn(4, 7, dtype=torch.float64)
    p = logits.softmax(1)
    assert entropy(logits).tolist() == pytest.approx([-sum(v * math.log(v) for v in row) for row in p.tolist()])


def test_ugr_14_information_maximisation_subtracts_the_entropy_of_the_mean() -> None:
    logits = torch.randn(4, 7, dtype=torch.float64)
    mean = logits.softmax(1).mean(0).tolist()
    assert mean_entropy(logits).item() == pytest.approx(-sum(v * math.log(v) for v in mean))
    certain = 1e4 * F.one_hot(torch.arange(4), 7).double()
    assert mean_entropy(certain).item() == pytest.approx(math.log(4))
    plain, fit = attached("lora+ugr(temperature=2.0)")
    both, _ = attached("lora+ugr(im=True, gamma=0.5, temperature=2.0)")
    x = data(6, 32).x
    logits = fit.forward(x) / 2
    expected = entropy(logits).mean() - 0.5 * mean_entropy(logits)
    torch.testing.assert_close(both.chosen.look(fit, x, None).loss, expected)
    torch.testing.assert_close(plain.chosen.look(fit, x, None).loss, entropy(logits).mean())


def test_ugr_14_patches_are_rows_of_pixels_in_order() -> None:
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).view(2, 3, 4, 6)
    patches = patchify(x, 2)
    assert patches.shape == (2, 6, 12)
    for j, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        block = x[1, :, 2 * row:2 * row + 2, 2 * column:2 * column + 2]
        assert torch.equal(patches[1, j], block.flatten())


def test_ugr_14_reconstruction_ignores_unmasked_patches_and_is_zero_when_perfect() -> None:
    x = unit(3).double()
    mask = random_mask(3, 16, 0.5)
    assert mask.sum(1).tolist() == [8, 8, 8]
    target = standardised(patchify(x, 4))
    assert target.mean(2).abs().max() < 1e-12 and (target.var(2, correction=0) - 1).abs().max() < 1e-3
    assert masked_error(target, x, mask, 4).item() == 0
    guess = torch.randn(3, 16, 48, dtype=torch.float64)
    loss = masked_error(guess, x, mask, 4)
    naive = [((guess[i, j] - target[i, j]) ** 2).mean().item() for i in range(3) for j in range(16) if mask[i, j]]
    assert loss.item() == pytest.approx(sum(naive) / len(naive))
    changed = torch.where(mask[:, :, None], patchify(x, 4), torch.rand(3, 16, 48, dtype=torch.float64))
    other = F.fold(changed.mT, 16, 4, stride=4)
    torch.testing.assert_close(masked_error(guess, other, mask, 4), loss)
    assert not torch.isclose(masked_error(guess, 1 - x, mask, 4), loss)


def test_ugr_14_reconstruction_hides_the_masked_patches_from_the_model() -> None:
    part, fit = attached("lora+ugr(objective='rec', ratio=0.25)")
    seen: list[Tensor] = []
    fit.model.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = data(5, 32).x
    part.chosen.look(fit, x, part.auxiliary.head)
    hidden = patchify(seen[0], 8).abs().sum(2) == 0
    assert hidden.sum(1).tolist() == [4] * 5 and len({tuple(row.tolist()) for row in hidden}) > 1
    assert torch.equal(patchify(seen[0], 8)[~hidden], patchify(x, 8)[~hidden])


@pytest.mark.parametrize(("net", "side"), [(tiny_vit, 8), (tiny_swin, 4)])
def test_ugr_14_reconstruction_predicts_at_the_stride_of_the_last_map(net: Any, side: int) -> None:
    method, fit = setup("lora+ugr(objective='rec')", net(), size=32)
    part = method.regularizers[0]
    assert isinstance(part, UGR) and isinstance(part.auxiliary.head, nn.Linear)
    assert part.auxiliary.head.out_features == 3 * side**2
    assert method.grads(fit, data(4, 32, dtype=torch.float32))["ugr_loss"].isfinite()


def test_ugr_14_rotation_turns_by_quarters_and_zero_turns_leave_the_image() -> None:
    x = unit(4, 6)
    out = turned(x, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(out[0], x[0])
    for k in range(4):
        assert torch.equal(out[k], torch.rot90(x[k], k, (1, 2)))


def test_ugr_14_rotation_without_a_turn_is_cross_entropy_on_the_untouched_image(
        monkeypatch: pytest.MonkeyPatch) -> None:
    part, fit = attached("lora+ugr(objective='rot')")
    x = data(5, 32).x
    monkeypatch.setattr(objectives.torch, "randint", lambda high, size: torch.zeros(size, dtype=torch.long))
    loss = part.chosen.look(fit, x, part.auxiliary.head).loss
    seen: list[Tensor] = []
    fit.model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    fit.forward(x)
    head = part.auxiliary.head
    assert head is not None
    torch.testing.assert_close(loss, F.cross_entropy(head(seen[0]), torch.zeros(5, dtype=torch.long)))


def test_ugr_14_rotation_all4_shows_every_turn() -> None:
    part, fit = attached("lora+ugr(objective='rot', all4=True)")
    sizes: list[Tensor] = []
    fit.model.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0]))
    x = data(3, 32).x
    part.chosen.look(fit, x, part.auxiliary.head)
    assert torch.equal(sizes[0][6:9], torch.rot90(x, 2, (2, 3))) and len(sizes[0]) == 12


def test_ugr_14_rotation_needs_square_images() -> None:
    part, fit = attached("lora+ugr(objective='rot')")
    with pytest.raises(ValueError, match="square ones, not 32x16"):
        part.chosen.look(fit, data(2, 32).x[..., :16], part.auxiliary.head)


@pytest.mark.parametrize("n", [2, 5])
def test_ugr_14_contrast_of_equal_embeddings_is_log_of_the_others(n: int) -> None:
    assert nt_xent(torch.ones(2 * n, 8), 0.2).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


def test_ugr_14_contrast_is_the_naive_sum() -> None:
    e = torch.randn(6, 8, dtype=torch.float64)
    unit_e = [row / row.norm() for row in e]
    total = 0.0
    for a in range(6):
        scores = {b: math.exp((unit_e[a] @ unit_e[b]).item() / 0.2) for b in range(6) if b != a}
        total -= math.log(scores[(a + 3) % 6] / sum(scores.values())) / 6
    assert nt_xent(e, 0.2).item() == pytest.approx(total)


def test_ugr_14_agreement_of_identical_views_is_zero() -> None:
    logits = torch.randn(4, 7, dtype=torch.float64)
    assert agreement(logits, logits).item() == pytest.approx(0, abs=1e-15)
    assert agreement(logits, logits.roll(1, 0)) > 0.1


def test_ugr_14_agreement_is_the_naive_divergence_without_gradient_into_the_weak_view() -> None:
    weak = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    strong = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    loss = agreement(weak, strong)
    p, q = weak.softmax(1).tolist(), strong.softmax(1).tolist()
    naive = sum(pc * math.log(pc / qc) for a, b in zip(p, q, strict=True) for pc, qc in zip(a, b, strict=True)) / 4
    assert loss.item() == pytest.approx(naive)
    loss.backward()
    assert weak.grad is None and strong.grad is not None and strong.grad.abs().sum() > 0


def test_agreement_counts_only_confident_views() -> None:
    weak = torch.tensor([[9.0, 0.0], [0.1, 0.0]])
    strong = torch.zeros(2, 2)
    assert agreement(weak, strong, 0.9).item() == pytest.approx(agreement(weak[:1], strong[:1]).item() / 2)
    assert agreement(weak, strong, 1.0).item() == 0


@pytest.mark.parametrize("text", ["lora+ugr(objective='con')", "lora+ugr(objective='ent', im=True)"])
def test_single_images_are_refused_where_the_objective_is_empty(text: str) -> None:
    method, fit = setup(text, tiny_vit().double(), size=32)
    with pytest.raises(ValueError, match="single images"):
        method.grads(fit, data(1, 32))


@pytest.mark.parametrize("objective", ["ent", "rec", "rot", "agr"])
def test_single_images_work_elsewhere(objective: str) -> None:
    method, fit = setup(f"lora+ugr(objective='{objective}')", tiny_vit().double(), size=32)
    assert method.grads(fit, data(1, 32))["ugr_loss"].isfinite()


def test_normalisation_goes_and_comes_back() -> None:
    x = unit()
    torch.testing.assert_close(to_unit(from_unit(x, MEAN, STD), MEAN, STD), x)


@pytest.mark.parametrize("view", [contrast_view, strong_view])
def test_views_stay_images_and_follow_torchs_seed_alone(view: Any) -> None:
    x = from_unit(unit(6, 32), MEAN, STD)
    made = []
    for _ in range(2):
        torch.manual_seed(4)
        made.append(view(x, MEAN, STD))
    assert torch.equal(made[0], made[1]) and made[0].shape == x.shape and made[0].dtype == x.dtype
    back = made[0] * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)
    assert back.min() >= -1e-5 and back.max() <= 1 + 1e-5
    assert not torch.allclose(made[0], view(x, MEAN, STD))


def test_single_steps_of_a_view_do_what_they_say() -> None:
    torch.manual_seed(0)
    x = unit(40)
    flipped = flip(x)
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, x, strict=True)]
    untouched = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    assert sum(mirrored) > 5 and sum(untouched) > 5 and sum(mirrored) + sum(untouched) == 40
    torch.testing.assert_close(crop(x, 1.0, 1.0).mean(), x.mean(), rtol=0.05, atol=0)
    still = jitter(x, strength=0.0, hue=0.0, p=1.0)
    torch.testing.assert_close(still, x, rtol=0, atol=2e-3)  # YIQ's matrix has four digits
    assert torch.allclose(grey(jitter(x, 0.0, 0.1, 1.0)), grey(x), atol=0.1)
    assert len([1 for a, b in zip(jitter(x), x, strict=True) if torch.equal(a, b)]) in range(2, 18)


def test_a_smooth_image_survives_cropping_as_a_part_of_itself() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32).repeat(20, 1, 1, 1)
    out = crop(ramp, 0.5, 0.5)
    spans = out[:, 0, 16].amax(1) - out[:, 0, 16].amin(1)
    low, high = math.sqrt(0.5 * 3 / 4), math.sqrt(0.5 * 4 / 3)  # width of half the area at the extreme aspects
    assert spans.min() > low * 0.85 and spans.max() < high * 1.05
    assert (out[:, 0].diff(dim=2) >= -1e-5).all()
