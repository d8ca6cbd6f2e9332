"""Houlsby adapters (Houlsby et al., ICML 2019, arXiv:1902.00751): a bottleneck behind attention and one behind the MLP.

Start: both projections normal with deviation 0.01 cut at two deviations, so the output begins near the pre-trained
one, not on it. The original recipe also trains the LayerNorms: `train_ln`, off by default.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import adapt_blocks, require, stream, width
from ..vit import freeze, replace_head
from .bottleneck import Bottleneck, neutral


@part("adapter_houlsby")
class AdapterHoulsby(Adapter):
    """Adapter (Houlsby): bottlenecks behind attention and behind the MLP of every block."""

    title = "Adapter (Houlsby)"
    paper = "Houlsby et al., ICML 2019, arXiv:1902.00751"
    formula = "2 L (2 d bottleneck + bottleneck + d); train_ln: + 2 d (2 L + 1)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    at_start = "near"
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": False, "schedule": "cosine", "normalise": "native", "precision": "bf16"}
    recipe_from = ("Adapter+'s code, one setting for every form of adapter; medium: Houlsby et al. tune language "
                   "models, and no printed row of Adapter+ is known to be this form")

    bottleneck: Annotated[int, ">= 1", "width of each bottleneck"] = 8
    scale: Annotated[float, "factor of what an adapter adds"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "inside the bottleneck while training"] = 0.1
    act: Annotated[Literal["gelu", "relu", "quick_gelu"], "gelu (VPT), relu (OSU) or quick_gelu (NOAH)"] = "gelu"
    init: Annotated[Literal["lora", "houlsby", "xavier", "bert"], "start; 'lora' is the pre-trained one"] = "houlsby"
    train_ln: Annotated[bool, "the LayerNorms train too, as in the original"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        if self.train_ln:
            for module in backbone.modules():
                if isinstance(module, nn.LayerNorm):
                    module.requires_grad_(True)

        def make(depth: int, block: nn.Module) -> dict[str, Delta]:
            like = stream(block)
            return {point: Bottleneck(like, width(block), self.bottleneck, depth, self.init,  # type: ignore[arg-type]
                                      self.act, self.dropout, self.scale) for point in ("post_attn", "post_mlp")}

        adapt_blocks(backbone, make)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return neutral(model)
