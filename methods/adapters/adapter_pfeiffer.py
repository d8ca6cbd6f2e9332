"""Adapter after the MLP (Pfeiffer et al., EACL 2021, arXiv:2005.00247, in the form used for ViTs by NOAH).

x2 = x1 + A(m) with A(u) = u + scale * up(act(down(u))) and m the MLP branch behind its DropPath: a dropped sample
still receives the adapter's biases, as in the peers' code (`after_droppath=False` puts the adapter before it).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import adapt_blocks, require, stream, width
from ..vit import freeze, replace_head
from .bottleneck import Bottleneck, neutral


@part("adapter_pfeiffer", "adapter")
class AdapterPfeiffer(Adapter):
    """Adapter (Pfeiffer): one bottleneck behind the MLP of every block."""

    title = "Adapter (Pfeiffer)"
    paper = "Pfeiffer et al., EACL 2021, arXiv:2005.00247"
    formula = "L (2 d bottleneck + bottleneck + d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer"}  # NOAH's
    recipe_from = "NOAH's code, its run of an adapter behind the MLP; certain"

    bottleneck: Annotated[int, ">= 1", "width of the bottleneck"] = 8
    scale: Annotated[float, "factor of what the adapter adds"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "inside the bottleneck while training"] = 0.1
    act: Annotated[Literal["gelu", "relu", "quick_gelu"], "gelu (VPT), relu (OSU) or quick_gelu (NOAH)"] = "gelu"
    init: Annotated[Literal["lora", "houlsby", "xavier", "bert"], "start; only 'lora' is the pre-trained one"] = "lora"
    after_droppath: Annotated[bool, "the adapter reads the branch after its DropPath"] = True

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        point = "post_mlp" if self.after_droppath else "in_mlp"

        def make(depth: int, block: nn.Module) -> dict[str, Delta]:
            like = stream(block)
            return {point: Bottleneck(like, width(block), self.bottleneck, depth, self.init,  # type: ignore[arg-type]
                                      self.act, self.dropout, self.scale)}

        adapt_blocks(backbone, make)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)
