"""VPT-deep (Jia et al., ECCV 2022, arXiv:2203.12119): fresh prompt tokens before every block.

The prompts' outputs are dropped behind each block, so the head, the pooling and whoever reads patch tokens never meet
them. Start: uniform in +-sqrt(6 / (3 p^2 + d)) with p the patch's side, the authors' rule. On Swin the prompts join
every window of their block as keys and values.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..families import face_of
from ..insertion import empty, require, stream, width
from ..vit import freeze, replace_head


def new_prompts(model: nn.Module, block: nn.Module, count: int) -> nn.Parameter:
    """(count, D) prompts for a block."""
    rows, columns = model.patch_embed.patch_size  # type: ignore[union-attr, misc]
    bound = math.sqrt(6.0 / (3 * rows * columns + width(block)))  # type: ignore[operator]
    prompts = empty(stream(block), count, width(block))
    return nn.init.uniform_(prompts, -bound, bound)  # type: ignore[return-value]


@part("vpt_deep", "vpt")
class VPTDeep(Adapter):
    """VPT-deep: trained prompt tokens before every block.

    On Eva and BEiT prompts take no rotary position and no relative bias: our reading, as docs/families.md says. It does
    not stand in `ours`, which marks a method's rows on every backbone.
    """

    title = "VPT-deep"
    paper = "Jia et al., ECCV 2022, arXiv:2203.12119"
    formula = "L prompts d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "vpt_deep.prompts": (10, 1, 5, 50)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "native"}  # NOAH's run of VPT
    recipe_from = "NOAH's code, its run of VPT; certain; VPT's own authors search a grid per task with SGD"

    prompts: Annotated[int, ">= 0", "prompt tokens per block"] = 10
    dropout: Annotated[float, ">= 0, < 1", "on the prompts while training"] = 0.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        face = face_of(backbone)
        for block in face.blocks():
            face.prompt(block, new_prompts(backbone, block, self.prompts), self.prompts, self.prompts, self.dropout)
        return replace_head(backbone, classes)
