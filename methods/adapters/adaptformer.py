"""AdaptFormer (Chen et al., NeurIPS 2022, arXiv:2205.13535): a scaled bottleneck beside the MLP.

x2 = x1 + mlp(norm2(x1)) + scale * up(relu(down(x1))). It reads the stream before norm2 and lies outside DropPath, as
in the authors' code; their BatchNorm in front of the head is left out, so that all methods have one head.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import adapt_blocks, require, stream, width
from ..vit import freeze, replace_head
from .bottleneck import Bottleneck, neutral


@part("adaptformer")
class AdaptFormer(Adapter):
    """AdaptFormer: a scaled bottleneck beside the MLP of every block."""

    title = "AdaptFormer"
    paper = "Chen et al., NeurIPS 2022, arXiv:2205.13535"
    formula = "L (2 d bottleneck + bottleneck + d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    search = {"lr": (3e-4, 3e-2, "log"), "adaptformer.scale": (0.1, 1.0, 0.01, 10.0)}
    recipe = {"optimizer": "sgd_plain", "lr": 0.025, "weight_decay": 0.0, "epochs": 100, "warmup_epochs": 20,
              "batch_size": 64, "drop_path": 0.0, "schedule": "cosine_zero"}  # the authors', 0.1 x batch / 256
    recipe_from = ("the authors' code for images, its rate being 0.1 x batch / 256; certain, but their head has a "
                   "batch norm in front")

    bottleneck: Annotated[int, ">= 1", "width of the bottleneck; VTAB rows in print use 8"] = 64
    scale: Annotated[float, "factor of what the adapter adds"] = 0.1
    dropout: Annotated[float, ">= 0, < 1", "inside the bottleneck while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)

        def make(depth: int, block: nn.Module) -> dict[str, Delta]:
            like = stream(block)
            return {"par_mlp": Bottleneck(like, width(block), self.bottleneck, depth, "lora",  # type: ignore[arg-type]
                                          "relu", self.dropout, self.scale)}

        adapt_blocks(backbone, make)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)
