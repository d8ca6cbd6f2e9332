"""GPS and the sparse layer: masks from the rule, training against a dense weight whose gradient is masked."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from robust_kit import data, setup
from tiny_models import adapted, images, scramble, step, tiny_vit
from torch import Tensor, nn

from methods.adapters.gps import sparse_layers
from methods.adapters.sensitivity import supcon
from methods.grammar import MethodError
from methods.weights import Header, load, save

HEADER = Header(backbone="tiny_vit.test", backbone_hash="a" * 64, method="gps", card="digits", classes=5)


def mask_of(layer: nn.Module) -> Tensor:
    """True where an entry trains, like the weight."""
    mask = torch.zeros(layer.weight.numel(), dtype=torch.bool)  # type: ignore[operator, union-attr]
    mask[layer.index.long()] = True  # type: ignore[index, union-attr, operator]
    return mask.view_as(layer.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [1, 3])
def test_every_row_trains_the_entries_of_largest_gradient_over_the_whole_training_set(k: int) -> None:
    net = tiny_vit()
    plain = copy.deepcopy(net)
    _, fit = setup(f"gps(k={k}, score='ce')", net, size=32)
    plain.reset_classifier(5)
    plain.head.load_state_dict({n.partition(".")[2]: fit.trainable[n].detach() for n in fit.head})
    plain.requires_grad_(True)
    batch = data(20, 32, seed=7, dtype=torch.float32)  # what `setup` shows to `prepare`
    (F.cross_entropy(plain.train()(batch.x), batch.y) * 20).backward()
    found = dict(sparse_layers(fit.model))
    assert len(found) == 3 * 4 + 1
    for path, layer in found.items():
        wanted, rows = plain.get_submodule(path).weight.grad.abs().flatten(1), mask_of(layer).flatten(1)  # type: ignore
        for row, chosen in zip(wanted, rows, strict=True):
            assert int(chosen.sum()) == k
            assert float(row[chosen].min()) >= 0.999 * float(row[~chosen].max())
        assert not layer.weight.requires_grad and layer.weight.grad is None
    assert all(p.grad is None for p in fit.trainable.values())


def test_batches_count_by_their_images() -> None:
    method, fit = setup("gps(score='ce')", tiny_vit(), size=32)
    whole = {p: layer.index.clone() for p, layer in sparse_layers(fit.model)}
    one = data(20, 32, seed=7, dtype=torch.float32)
    cuts = [type(one)(one.x[s], one.y[s], one.index[s]) for s in (slice(0, 3), slice(3, 20))]
    method.prepare(fit, cuts)
    assert sum(torch.equal(whole[p].sort().values, layer.index.sort().values)
               for p, layer in sparse_layers(fit.model)) >= 12  # of 13: a near tie may turn by rounding


def test_training_is_full_fine_tuning_under_a_mask() -> None:
    """Three Adam steps without decay, against the same backbone whose gradients are masked after backward."""
    net = tiny_vit().double()
    plain = copy.deepcopy(net)
    _, model = adapted("gps(k=2)", net)
    plain.reset_classifier(5)
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if n in plain.state_dict()})
    layers = dict(sparse_layers(model))
    masks = {f"{p}.weight": mask_of(m) for p, m in layers.items()}
    masks |= {n: torch.ones_like(t, dtype=torch.bool) for n, t in plain.named_parameters()
              if n.startswith("head") or (n.endswith("bias") and "norm" not in n)}
    one = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    other = torch.optim.Adam([p for n, p in plain.named_parameters() if n in masks], lr=1e-2)
    x, y = images(8, dtype=torch.float64), torch.arange(8) % 5
    for _ in range(3):
        one.zero_grad(), other.zero_grad()
        F.cross_entropy(model(x), y).backward()
        F.cross_entropy(plain(x), y).backward()
        for n, p in plain.named_parameters():
            if n in masks:
                p.grad *= masks[n]  # type: ignore[operator]
        one.step(), other.step()
    torch.testing.assert_close(model(x), plain(x), rtol=1e-9, atol=1e-9)
    for path, layer in layers.items():
        torch.testing.assert_close(layer.dense(), plain.get_submodule(path).weight, rtol=1e-9, atol=1e-9)


def test_the_contrastive_loss_is_the_papers() -> None:
    """Eq. 2 of Khosla et al., summand by summand."""
    generator = torch.Generator().manual_seed(1)
    z = F.normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    total = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        others = [a for a in range(6) if a != i]
        below = sum(torch.exp(z[i] @ z[a] / 0.07) for a in others)
        alike = [p for p in others if y[p] == y[i]]
        total -= sum(torch.log(torch.exp(z[i] @ z[p] / 0.07) / below) for p in alike) / len(alike)
    torch.testing.assert_close(supcon(3 * z, y), total / 6)


def test_the_choice_does_not_hang_on_the_untrained_head_and_follows_the_seed() -> None:
    def chosen(head: float, seed: int) -> list[Tensor]:
        method, fit = setup("gps", tiny_vit(), size=32)
        with torch.no_grad():
            for n in fit.head:
                fit.trainable[n].add_(head)
        torch.manual_seed(seed)
        method.prepare(fit, [data(10, 32, dtype=torch.float32)])
        return [layer.index for _, layer in sparse_layers(fit.model)]

    first = chosen(0.0, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, chosen(5.0, 3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, chosen(0.0, 4), strict=True))


def test_preparing_leaves_modes_and_weights_alone() -> None:
    net = tiny_vit(drop_path_rate=0.2)
    method, fit = setup("gps", net, size=32)
    fit.model.eval()
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    method.prepare(fit, [data(10, 32, dtype=torch.float32)])
    assert not any(m.training for m in fit.model.modules())
    assert all(torch.equal(p, before[n]) for n, p in fit.model.named_parameters())
    assert {n for n, p in fit.model.named_parameters() if p.requires_grad} == fit.trainable.keys()


def test_chosen_places_are_stored_and_come_back(tmp_path: Path) -> None:
    _, fit = setup("gps", tiny_vit(), size=32)
    step(fit.model)
    save(tmp_path / "a.safetensors", fit.model, HEADER)
    _, fresh = adapted("gps", tiny_vit())  # as nobody has prepared it
    assert not all(torch.equal(a.index, b.index) for (_, a), (_, b) in
                   zip(sparse_layers(fit.model), sparse_layers(fresh), strict=True))
    load(tmp_path / "a.safetensors", fresh, backbone="tiny_vit.test", backbone_hash="a" * 64, method="gps")
    assert torch.equal(fresh.eval()(images()), fit.model.eval()(images()))


def test_norms_positions_and_class_token_stay_and_a_mask_can_be_drawn() -> None:
    _, fit = setup("gps(score='random', patch_embed=False)", tiny_vit(), size=32)
    names = {n.rpartition(".")[2] for n in fit.peft}
    assert names == {"values", "bias"} and not [n for n in fit.peft if "norm" in n]
    scramble(fit.model)
    with pytest.raises(MethodError, match="has 48 entries"):
        adapted("gps(k=49)", tiny_vit())
