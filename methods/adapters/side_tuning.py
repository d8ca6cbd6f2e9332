"""Side-tuning (Zhang et al., ECCV 2020, arXiv:1912.13503): a small network on the image, blended with the frozen one.

The simplest side network: it never looks inside the backbone. out = a f(x) + (1 - a) s(x), where f is the frozen
backbone's pooled feature, s a four-layer convolutional network and a = sigmoid(w) one learned number, 1/2 at the start.
Differs from the authors' code: no distillation start, and normalisation over each image, so that no prediction depends
on the batch.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..convs import ConvFace, conv_face
from ..families import face_of
from ..insertion import require
from ..side import IMAGE, SideNetwork, States
from ..stages import ConvSide


@part("side_tuning")
class SideTuning(Adapter):
    """Side-tuning: a small convolutional network blended with the frozen backbone's feature."""

    title = "Side-tuning"
    paper = "Zhang et al., ECCV 2020, arXiv:1912.13503"
    ours = "our reading: the side network's form (four convolutions, normalised per image) and its random start"
    formula = "27 w^2 + 60 w + (w d + d) + 1, w = width"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "resnet", "convnext", "efficientnet",
                                                  "mobilenet"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    search = {"lr": (1e-4, 3e-2, "log")}
    recipe_from = "no setting of the authors for these data sets is known to us"

    width: Annotated[int, ">= 1", "channels of the side network"] = 64

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        conv = isinstance(face_of(backbone), ConvFace)
        return (BlendedConv if conv else Blended)(backbone, classes, self.width)

    def frozen_blocks(self, model: nn.Module) -> int:
        return int(model.depth) if isinstance(model, Blended) else 0


class Blended(SideNetwork):
    """The frozen feature and the side network's, mixed by one gate."""

    def __init__(self, backbone: nn.Module, classes: int, width: int) -> None:
        depth = self.last_state(backbone)
        super().__init__(backbone, (IMAGE, depth), classes)
        self.depth = depth
        self.convs = nn.ModuleList([nn.Conv2d(3, width, 4, stride=4),
                                    *[nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(3)]])
        self.norms = nn.ModuleList([nn.GroupNorm(1, width) for _ in self.convs])
        self.up = nn.Linear(width, self.num_features)
        self.gate = nn.Parameter(torch.zeros(()))
        self.settle()

    @staticmethod
    def last_state(backbone: nn.Module) -> int:
        """The number of the state that the backbone ends with."""
        return len(face_of(backbone).blocks())

    def side(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.up(x.mean((2, 3)))

    def tokens(self, states: States) -> Tensor:
        """The backbone's own: the side network has none."""
        return self.face.final(states[self.depth])

    def pooled(self, states: States) -> Tensor:
        share = torch.sigmoid(self.gate)
        own = self.face.features(self.tokens(states), self.context(states))
        return share * own + (1 - share) * self.side(states[IMAGE])


class BlendedConv(Blended, ConvSide):
    """The same beside a convolutional network."""

    @staticmethod
    def last_state(backbone: nn.Module) -> int:
        return len(conv_face(backbone).levels()) - 1
