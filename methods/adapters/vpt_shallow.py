"""VPT-shallow (Jia et al., ECCV 2022, arXiv:2203.12119): prompt tokens enter once, before the first block."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..families import face_of
from ..insertion import require
from ..vit import freeze, replace_head
from .vpt_deep import new_prompts


@part("vpt_shallow")
class VPTShallow(Adapter):
    """VPT-shallow: trained prompt tokens in the input sequence.

    On Eva and BEiT prompts take no rotary position and no relative bias: our reading, as docs/families.md says. It does
    not stand in `ours`, which marks a method's rows on every backbone.
    """

    title = "VPT-shallow"
    paper = "Jia et al., ECCV 2022, arXiv:2203.12119"
    formula = "prompts d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "vpt_shallow.prompts": (10, 1, 5, 50)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "native"}  # NOAH's run of VPT
    recipe_from = "NOAH's code, its run of VPT; high: written there for prompts in every block"

    prompts: Annotated[int, ">= 0", "prompt tokens"] = 10
    dropout: Annotated[float, ">= 0, < 1", "on the prompts while training"] = 0.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        face = face_of(backbone)
        chain = face.blocks()
        for block in chain:
            prompts = new_prompts(backbone, block, self.prompts) if block is chain[0] else None
            leave = self.prompts if block is chain[-1] else 0
            face.prompt(block, prompts, self.prompts, leave, self.dropout if block is chain[0] else 0.0)
        return replace_head(backbone, classes)
