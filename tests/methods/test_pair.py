"""Two towers and their loss: against a naive one, with several captions of a picture, and one adapter on each side."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.pair import TEMPERATURE, WIDTH, Both, Inputs, Match, Towers
from methods.tasks import TASKS


def naive(image: Tensor, text: Tensor, y: list[int]) -> float:
    """Every picture asks for its caption and every caption for its picture; what is of the same picture is left out."""
    total = 0.0
    for asked, answers in ((image, text), (text, image)):
        for i, query in enumerate(asked):
            scores = [float(query @ answer) / TEMPERATURE for j, answer in enumerate(answers) if j == i or y[j] != y[i]]
            right = float(query @ answers[i]) / TEMPERATURE
            total += math.log(sum(math.exp(s - right) for s in scores)) / len(y) / 2
    return total


def embeddings(count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return F.normalize(torch.randn(count, 5), dim=1), F.normalize(torch.randn(count, 5), dim=1)


def test_the_loss_is_symmetric_cross_entropy_without_pairs_of_the_same_picture() -> None:
    image, text = embeddings(6)
    for y in ([0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 1, 1], [3] * 6):
        found = Match().loss(torch.cat([image, text], 1), torch.tensor(y))
        assert abs(float(found) - naive(image, text, y)) < 1e-5
    assert float(Match().loss(torch.cat([image, text], 1), torch.tensor([3] * 6))) == 0.0


def test_a_gradient_passes_where_a_pair_is_left_out() -> None:
    image, text = (t.requires_grad_() for t in embeddings(4))
    Match().loss(torch.cat([image, text], 1), torch.tensor([0, 0, 1, 1])).backward()
    assert all(t.grad is not None and bool(t.grad.isfinite().all()) and float(t.grad.norm()) > 0 for t in (image, text))


class Tower(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(width, 3), nn.Linear(3, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out

    def get_classifier(self) -> nn.Module:
        return self.head


def test_towers_give_embeddings_of_length_one_side_by_side_and_both_heads() -> None:
    towers = Towers(Tower(4), Tower(2))
    out = towers(Inputs(torch.randn(5, 4), torch.randn(5, 2)))
    assert out.shape == (5, 14)
    torch.testing.assert_close(out.view(5, 2, 7).norm(dim=2), torch.ones(5, 2))
    assert {n for n, p in towers.named_parameters() if any(p is q for q in towers.get_classifier().parameters())} == {
        f"{half}.head.{kind}" for half in ("image", "text") for kind in ("weight", "bias")}


def test_the_task_is_known_and_right_and_wrong_are_not() -> None:
    task = TASKS["match"]
    assert task.outputs(1) == WIDTH and task.right(torch.zeros(2, 4), torch.arange(2)) is None


def test_one_adapter_becomes_two_with_equal_options() -> None:
    from methods.compose import create
    from methods.grammar import parse

    both = Both(create(parse("lora(rank=3)")).adapter)
    assert both.image is not both.text and vars(both.image) == vars(both.text)
    assert both.mergeable and both.image.rank == 3 and both.frozen_blocks(nn.Identity()) == 0  # type: ignore[attr-defined]
