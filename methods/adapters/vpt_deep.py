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
from ..insertion import blocks, empty, require, width
from ..swin import PromptedWindowAttention, is_swin
from ..vit import PromptedBlock, freeze, replace_head


def new_prompts(model: nn.Module, block: nn.Module, count: int) -> nn.Parameter:
    """(count, D) prompts for a block."""
    rows, columns = model.patch_embed.patch_size  # type: ignore[union-attr, misc]
    bound = math.sqrt(6.0 / (3 * rows * columns + width(block)))  # type: ignore[operator]
    prompts = empty(block.norm1.weight, count, width(block))  # type: ignore[union-attr, arg-type]
    return nn.init.uniform_(prompts, -bound, bound)  # type: ignore[return-value]


def prompt_block(model: nn.Module, block: nn.Module, prompts: nn.Parameter | None, dropped: int,
                 dropout: float) -> None:
    """Let prompts enter before the block and `dropped` of them leave behind it."""
    block.__class__ = PromptedBlock
    block.register_parameter("prompts", prompts)
    block.prompt_dropout = nn.Dropout(dropout).train(block.training)
    block.prefix, block.dropped = int(model.num_prefix_tokens), dropped  # type: ignore[arg-type, assignment]


def prompt_windows(block: nn.Module, prompts: nn.Parameter, dropout: float) -> None:
    """Let prompts join every window of a Swin block."""
    attn = block.attn
    attn.__class__ = PromptedWindowAttention  # type: ignore[union-attr, assignment]
    attn.register_parameter("prompts", prompts)  # type: ignore[union-attr, operator]
    attn.prompt_dropout = nn.Dropout(dropout).train(block.training)  # type: ignore[union-attr, assignment]
    attn.norm_of_block = [block.norm1]  # type: ignore[union-attr, assignment]


@part("vpt_deep", "vpt")
class VPTDeep(Adapter):
    """VPT-deep: trained prompt tokens before every block."""

    title = "VPT-deep"
    paper = "Jia et al., ECCV 2022, arXiv:2203.12119"
    formula = "L prompts d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "vpt_deep.prompts": (10, 1, 5, 50)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "native"}  # NOAH's run of VPT

    prompts: Annotated[int, ">= 0", "prompt tokens per block"] = 10
    dropout: Annotated[float, ">= 0, < 1", "on the prompts while training"] = 0.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for block in blocks(backbone):
            prompts = new_prompts(backbone, block, self.prompts)
            if is_swin(backbone):
                prompt_windows(block, prompts, self.dropout)
            else:
                prompt_block(backbone, block, prompts, self.prompts, self.dropout)
        return replace_head(backbone, classes)
