"""Two towers, one for pictures and one for texts, and what they are trained to do: to bring together what belongs.

Radford et al., ICML 2021, arXiv:2103.00020, for the loss; Faghri et al., BMVC 2018, arXiv:1707.05612, for the task.
Each tower is what an adapter made of it, with a head into one common space; both adapters have the same options, and
no adapter knows that there is another tower.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Adapter
from .tasks import TASKS, Task

WIDTH = 256  # of the common space: ours
TEMPERATURE = 0.05  # fixed: ours


class Inputs(NamedTuple):
    """What a model of pairs reads."""

    image: Tensor  # (B, 3, H, W)
    text: Tensor  # (B, L) token numbers

    @property
    def shape(self) -> torch.Size:
        """Of the pictures: how many pairs there are."""
        return self.image.shape


class Towers(nn.Module):
    """A tower for pictures and one for texts."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text

    def forward(self, x: Inputs) -> Tensor:
        """B pairs -> (B, 2 E): the picture's embedding beside the text's, each of length 1."""
        return torch.cat([self.pictures(x.image), self.texts(x.text)], 1)

    def pictures(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E) of length 1."""
        return F.normalize(self.image(x).float(), dim=1)

    def texts(self, ids: Tensor) -> Tensor:
        """(B, L) -> (B, E) of length 1."""
        return F.normalize(self.text(ids).float(), dim=1)

    def get_classifier(self) -> nn.Module:
        """Both heads."""
        return nn.ModuleList([self.image.get_classifier(), self.text.get_classifier()])  # type: ignore[operator]


class Match(Task):
    """The right caption of each picture of a batch, and the right picture of each caption, by cross-entropy.

    A caption of the same picture (of the same label) is no wrong answer: it is left out.
    """

    name = "match"
    labels = torch.int64

    def outputs(self, classes: int) -> int:
        """The width of the common space, of each tower."""
        return WIDTH

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """(B, 2 E) and the pictures' numbers (B,) -> (). Smoothing is refused before a run begins."""
        image, text = out.chunk(2, 1)
        own = torch.arange(len(y), device=y.device)
        scores = image @ text.T / TEMPERATURE
        again = (y[:, None] == y) & (own[:, None] != own)
        scores = scores.masked_fill(again, -torch.inf)
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2

    def right(self, out: Tensor, y: Tensor) -> Tensor | None:
        return None


class Both(Adapter):
    """One adapter twice: what is asked of it is asked of each tower, under the tower's name."""

    def __init__(self, adapter: Adapter) -> None:
        """Of one that has built nothing yet."""
        self.image, self.text = adapter, copy.deepcopy(adapter)
        self.name = getattr(adapter, "name", type(adapter).__name__)
        for told in ("offers", "families", "mergeable", "at_start", "formula", "frozen_backbone", "ours"):
            setattr(self, told, getattr(adapter, told))

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        """Both towers, each with a head of `classes` numbers."""
        assert isinstance(backbone, Towers)
        return Towers(self.image.build(backbone.image, classes), self.text.build(backbone.text, classes))

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return {f"{half}.{name}": value for half, adapter in self._halves()
                for name, value in adapter.anchors(getattr(model, half)).items()}

    def rates(self, model: nn.Module) -> dict[str, float]:
        return {f"{half}.{name}": value for half, adapter in self._halves()
                for name, value in adapter.rates(getattr(model, half)).items()}

    def merge(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, Towers)
        model.image, model.text = self.image.merge(model.image), self.text.merge(model.text)
        return model

    def report(self) -> dict[str, float]:
        return {f"{half}.{name}": value for half, adapter in self._halves() for name, value in adapter.report().items()}

    def _halves(self) -> tuple[tuple[str, Adapter], tuple[str, Adapter]]:
        return ("image", self.image), ("text", self.text)


TASKS["match"] = Match()
