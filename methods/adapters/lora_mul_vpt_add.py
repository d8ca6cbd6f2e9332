"""lora_mul_vpt_add, PACE's strong base adapter (Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137).

W * (1 + P Q) and b * (1 + d) + W p on every linear layer: 7 to 14 times the weights of its peers, so look at it beside
their counts. `prompt_rank="same"` is the authors' code, `"plain"` the count the paper prints.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import nn

from ..base import Feature
from ..compose import part
from .residual_linear import Residual, weave


@part("lora_mul_vpt_add")
class LoraMulVptAdd(Residual):
    """lora_mul_vpt_add: lora_mul and vpt_add together on every linear layer."""

    title = "lora_mul_vpt_add"
    paper = "Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137"
    formula = "L ((23 d + 4) rank + 9 d); prompt_rank='plain': L (16 d rank + 16 d)"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    mergeable = True
    search = {"lr": (1e-4, 3e-2, "log"), "weight_decay": (1e-4, 1e-2)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 300, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # PACE's
    recipe_from = "PACE's code for VTAB-1k; certain"

    rank: Annotated[int, ">= 1", "rank of each update"] = 10
    prompt_rank: Annotated[Literal["same", "plain"], "the prompt as a product of factors, or a plain vector"] = "same"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        return weave(self, backbone, classes, self.rank, "mul", self.prompt_rank)
