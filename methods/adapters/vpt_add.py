"""vpt_add, a prompt as a bias (Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137): b + W p on every linear layer.

p is the product of an i x r and an r x 1 factor in the authors' code (`prompt_rank="same"`) and a plain vector by the
paper's count (`"plain"`): the same functions, another path of optimisation. A layer without bias has one once merged.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import nn

from ..base import Feature
from ..compose import part
from .residual_linear import Residual, weave


@part("vpt_add")
class VptAdd(Residual):
    """vpt_add: a prompt added to the input of every linear layer, equal for all tokens."""

    title = "vpt_add"
    paper = "Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137"
    formula = "L (7 d + 4) rank; prompt_rank='plain': 7 d L"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    mergeable = True
    search = {"lr": (1e-4, 3e-2, "log"), "weight_decay": (1e-4, 1e-2)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 300, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # PACE's
    recipe_from = "PACE's code for VTAB-1k; high: written there for lora_mul_vpt_add, of which this is a part"

    rank: Annotated[int, ">= 1", "rank of the factors when prompt_rank is same"] = 1
    prompt_rank: Annotated[Literal["same", "plain"], "the prompt as a product of factors, or a plain vector"] = "same"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        return weave(self, backbone, classes, self.rank, "none", self.prompt_rank)
