"""Partial-k: the last k blocks and the final norm train (baseline of VPT, Jia et al., ECCV 2022, arXiv:2203.12119).

On Swin a patch merging that lies between two trained blocks trains too; the one before the first of them does not.
In front of a convolutional network's final norm lies a last convolution, which trains with it; the batch norms of what
trains follow the batch, all others keep their statistics.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..batch_norm import release_statistics
from ..compose import part
from ..families import face_of
from ..grammar import MethodError
from ..insertion import blocks, require
from ..vit import freeze, replace_head


@part("partial_k", "partial")
class PartialK(Adapter):
    """Partial-k: the last blocks and the final norm train."""

    title = "Partial-k"
    paper = "as in Jia et al., ECCV 2022, arXiv:2203.12119"
    formula = "k (12 d^2 + 13 d) + 2 d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    search = {"lr": (1e-5, 1e-2, "log"), "partial_k.k": (1, 2)}
    recipe_from = "VPT searches a grid of rates and decays per task with SGD; no one setting is printed"

    k: Annotated[int, ">= 1", "how many blocks train, counted from the end"] = 1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        face = face_of(backbone)
        chain = face.blocks()
        if self.k > len(chain):
            raise MethodError(f"partial_k(k={self.k}) on a backbone of {len(chain)} blocks; k is at most {len(chain)}")
        freeze(backbone)
        first = len(chain) - self.k
        trained = [*chain[first:], *face.between(first), *face.final_norms()]
        for module in trained:
            module.requires_grad_(True)
        release_statistics(trained)
        return replace_head(backbone, classes)

    def frozen_blocks(self, model: nn.Module) -> int:
        return len(blocks(model)) - self.k
