"""Distilled DeiT: a class token and a distillation token, each with a head of its own, whose logits are averaged.

Touvron et al., ICML 2021, arXiv:2012.12877: the heads' answers are averaged at evaluation. There a teacher supervises
the second one in training; without a teacher the mean of the two is what is trained, as timm does when it is not told
to distil. Both heads are new and both train. Here they are one module that reads both tokens side by side, so whoever
asks for the head, or for what it reads, finds one of each, as on any other network.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from .compose import new_head


class TwoHeads(nn.Module):
    """Two linear heads, each on its half of the features; the mean of their logits.

    `weight` and `bias` are of the class token's, `weight_dist` and `bias_dist` of the distillation token's.
    """

    def __init__(self, in_features: int, classes: int) -> None:
        """`in_features`: 2 D, both tokens side by side. Each head starts as every new head does."""
        super().__init__()
        self.in_features, self.out_features = in_features, classes
        first, second = new_head(in_features // 2, classes), new_head(in_features // 2, classes)
        self.weight, self.bias = first.weight, first.bias
        self.weight_dist, self.bias_dist = second.weight, second.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 D) -> (B, C)."""
        first, second = x.chunk(2, dim=-1)
        return (F.linear(first, self.weight, self.bias) + F.linear(second, self.weight_dist, self.bias_dist)) / 2

    @staticmethod
    def apart(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One linear layer (C, 2 D), (C,) -> the values of the four parameters that compute the same."""
        first, second = (2 * weight).chunk(2, dim=1)
        return first, bias, second, bias


class DistilledViT(VisionTransformerDistilled):
    """timm's distilled ViT with its two heads in the place of one; `two_headed` makes it."""

    def get_classifier(self) -> nn.Module:
        """One module, where timm gives a pair."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Two new heads, or none where there are 0 classes; the pooling is what it is."""
        self.num_classes = num_classes
        like: Any = self.cls_token
        head: Any = TwoHeads(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        self.head = head.to(device=like.device, dtype=like.dtype).train(self.training)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """Final tokens (B, K, D) -> (B, 2 D): class and distillation token side by side."""
        return x[:, :2].flatten(1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Final tokens (B, K, D) -> logits (B, C), or what the heads read (B, 2 D)."""
        x = self.head_drop(self.fc_norm(self.pool(x)))
        out: Tensor = x if pre_logits else self.head(x)
        return out


def two_headed(model: VisionTransformerDistilled) -> DistilledViT:
    """timm's headless distilled ViT as ours, in place: the same weights by the same names, no random number drawn."""
    model.__class__ = DistilledViT
    made: Any = model
    del made.head_dist
    made.head, made.head_hidden_size = nn.Identity(), 2 * made.embed_dim
    return made  # type: ignore[no-any-return]


def head_like(head: nn.Module, width: int, classes: int) -> nn.Module:
    """A new head of the form that stands there: two where there are two; `width` is of all that it reads."""
    return TwoHeads(width, classes) if isinstance(head, TwoHeads) else new_head(width, classes)


def values_of(head: nn.Module, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """What the head's parameters, in their order, must hold to compute x @ weight.T + bias; weight is (C, width)."""
    return TwoHeads.apart(weight, bias) if isinstance(head, TwoHeads) else (weight, bias)
