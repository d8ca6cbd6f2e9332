"""A model whose head starts from class names: the projection that its features pass, and the head's first weights.

It is put in before an adapter builds, so the head stays one linear layer, which reads E numbers of length 1. In timm's
ViT the place is behind `head_drop`, the last thing in front of the head: a norm in front of it stays a norm to those
who look for one. The projection is part of the backbone: frozen where that is, and trained, with the checkpoint's value
as its anchor, where everything trains, as WiSE-FT's and TPGM's authors have it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from methods.grammar import MethodError
from methods.text import TextTransformer
from methods.vit import head_width

from .known import BackboneError
from .zeroshot import ClassHead


class Projected(nn.Module):
    """Features -> the space that they share with texts, of length 1.

    No `nn.Linear`: what an adapter does to every linear layer of a backbone is not meant for this one.
    """

    def __init__(self, head: ClassHead) -> None:
        super().__init__()
        self.weight = _held(head.projection)  # (E, D)
        self.shift = _held(head.shift)  # (E,)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, E)."""
        return F.normalize(x if self.weight is None else F.linear(x, self.weight, self.shift), dim=-1)


def _held(values: Any) -> nn.Parameter | None:
    """A parameter of these values, on torch's default device, where it may have none."""
    if values is None:
        return None
    made = nn.Parameter(torch.empty(values.shape))
    with torch.no_grad():
        made.copy_(torch.from_numpy(values))
    return made


def put_in(backbone: nn.Module, head: ClassHead, name: str) -> None:
    """The projection in front of the head's place, in place. Raises BackboneError where it does not fit."""
    lead = f"--head {head.file.name if head.file else ''!r} does not fit backbone {name!r}"
    other = VisionTransformerDistilled | TextTransformer
    if not isinstance(backbone, VisionTransformer) or isinstance(backbone, other):
        raise BackboneError(f"{lead}: class embeddings are put behind a plain ViT, not a {type(backbone).__name__}")
    width = head_width(backbone)
    if head.reads != width:
        what = "its embeddings have" if head.projection is None else "its projection reads"
        raise BackboneError(f"{lead}: {what} {head.reads} numbers and the feature has {width}; take the file of the "
                            "same checkpoint")
    model: Any = backbone
    model.head_drop = nn.Sequential(model.head_drop, Projected(head))
    model.head_hidden_size = head.width


@torch.no_grad()
def start(model: nn.Module, head: ClassHead) -> None:
    """The head's first weights: exp(logit scale) times the embeddings at length 1, no bias. In place.

    Raises MethodError for a head of another form.
    """
    linear = model.get_classifier()  # type: ignore[operator]
    if not isinstance(linear, nn.Linear) or linear.weight.shape != head.embeddings.shape:
        raise MethodError("this method's head does not read the backbone's feature, so it cannot start from class "
                          "embeddings; leave --head out")
    rows = F.normalize(torch.from_numpy(head.embeddings), dim=1)
    linear.weight.copy_(math.exp(head.logit_scale) * rows)
    if linear.bias is not None:
        linear.bias.zero_()
