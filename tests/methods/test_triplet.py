"""VSE-infinity's loss: against loops written from its formula, with two captions of a picture, along its epochs."""

from __future__ import annotations

import pytest
import torch
from test_pair import embeddings
from torch import Tensor

from methods.pair import Match
from methods.tasks import TASKS
from methods.triplet import Triplet, asked


def naive(image: Tensor, text: Tensor, y: list[int], hardest: bool) -> float:
    """[.2 + s_ij - s_ii]+ of each picture's wrong captions, [.2 + s_ij - s_jj]+ of each caption's wrong pictures."""
    total, count = 0.0, len(y)
    for asks in range(count):
        of_picture, of_caption = [0.0], [0.0]
        for other in range(count):
            if y[other] != y[asks]:
                right = float(image[asks] @ text[asks])
                of_picture.append(max(0.0, 0.2 + float(image[asks] @ text[other]) - right))
                of_caption.append(max(0.0, 0.2 + float(image[other] @ text[asks]) - right))
        total += max(of_picture) + max(of_caption) if hardest else sum(of_picture) + sum(of_caption)
    return total


@pytest.mark.parametrize("y", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 1, 1], [3] * 6])
def test_the_loss_is_the_hinge_of_all_then_of_the_hardest_growing_through_the_second_epoch(y: list[int]) -> None:
    image, text = embeddings(6)
    task, out = Triplet(), torch.cat([image, text], 1)
    every, hardest = naive(image, text, y, False), naive(image, text, y, True)
    assert float(task.loss(out, torch.tensor(y))) == pytest.approx(every, abs=1e-5)
    assert every > hardest > 0 or every == hardest == 0 == len(set(y)) - 1
    for step, expected in ((0, every), (3, every), (4, 0.0), (5, hardest / 4), (7, hardest * 3 / 4), (8, hardest),
                           (40, hardest), (1, every)):
        task.stand(step, 4)
        assert float(task.loss(out, torch.tensor(y))) == pytest.approx(expected, abs=1e-5), step


@pytest.mark.parametrize("step", [0, 5, 9])
def test_its_gradient_is_finite_and_is_that_of_the_formula(step: int) -> None:
    image, text = (t.double().requires_grad_() for t in embeddings(5))
    task, y = Triplet(), torch.tensor([0, 1, 1, 2, 3])
    task.stand(step, 4)
    assert torch.autograd.gradcheck(lambda i, t: task.loss(torch.cat([i, t], 1), y), (image, text))
    equal = torch.ones(4, 6, requires_grad=True)  # every wrong answer as near as the right one
    task.loss(equal, torch.arange(4)).backward()
    assert equal.grad is not None and bool(equal.grad.isfinite().all())


def test_a_spec_without_it_has_the_tasks_own_and_each_run_its_own_triplet() -> None:
    assert asked("match", "") is TASKS["match"] and asked("classify", "") is TASKS["classify"]
    one, other = asked("match", "triplet"), asked("match", "triplet")
    assert isinstance(one, Match) and one is not other
