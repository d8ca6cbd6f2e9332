"""What a data set asks of a model, a class or a number: a task owns loss and outputs, and knows what is right.

`Classify` is what every image run does. `Regress` is STS-B's: one output, learned by its squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Task:
    """Of a run; parts reach it as `fit.task`."""

    name: ClassVar[str]
    labels: ClassVar[torch.dtype]  # of a batch's y

    def outputs(self, classes: int) -> int:
        """How many numbers the head gives for a card that promises so many classes."""
        raise NotImplementedError

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """(B, C) and (B,) -> (): what is minimised."""
        raise NotImplementedError

    def right(self, out: Tensor, y: Tensor) -> Tensor | None:
        """() how many of the first len(out) answers are right, unread; None where nothing is right or wrong."""
        raise NotImplementedError


@dataclass(frozen=True)
class Classify(Task):
    """Cross-entropy over classes."""

    name = "classify"
    labels = torch.int64

    def outputs(self, classes: int) -> int:
        return classes

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(out, y, label_smoothing=smoothing)

    def right(self, out: Tensor, y: Tensor) -> Tensor | None:
        return (out.argmax(1) == y[:len(out)]).sum()


@dataclass(frozen=True)
class Regress(Task):
    """One number: its squared error in units of `scale` around `centre`, which bring STS-B's 0 to 5 to -1 to 1."""

    name = "regress"
    labels = torch.float32

    centre: float = 2.5
    scale: float = 2.5

    def outputs(self, classes: int) -> int:
        return 1

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return F.mse_loss(out[:, 0], (y.to(out.dtype) - self.centre) / self.scale)

    def right(self, out: Tensor, y: Tensor) -> Tensor | None:
        return None

    def answers(self, out: Tensor) -> Tensor:
        """(B, 1) -> (B,) in the labels' own unit."""
        return out[:, 0] * self.scale + self.centre


TASKS: dict[str, Task] = {"classify": Classify(), "regress": Regress()}
