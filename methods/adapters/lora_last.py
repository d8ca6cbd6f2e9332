"""LoRA (Hu et al., ICLR 2022, arXiv:2106.09685) in the last k blocks alone; the blocks in front stay as they were.

What lies in front of the first adapted block never changes, so it is computed once per image and stored. A part of its
own and not an option of `lora`: another option there would give every record of `lora` another name.
On Swin the blocks of all stages are counted in one row.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from ..base import Feature
from ..compose import part
from ..grammar import MethodError
from ..insertion import blocks, linears, require
from .lora import LoRA


@part("lora_last")
class LoraLast(LoRA):
    """LoRA in the last k blocks alone."""

    title = "LoRA, last blocks"
    paper = "LoRA as in Hu et al., ICLR 2022, arXiv:2106.09685"
    ours = "our own choice: LoRA restricted to the last k blocks, so that the frozen ones are computed once per image"
    formula = "lora's count with L = k: 2 d k rank per target of q, k, v, o; 5 d k rank per fc1, fc2"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    search = {"lr": (3e-4, 3e-2, "log"), "lora_last.rank": (8, 4, 16), "lora_last.k": (1, 2, 3)}
    recipe = {}  # the one of LoRA is for all blocks
    recipe_from = "lora's is for all blocks"

    k: Annotated[int, ">= 1", "how many blocks are adapted, counted from the end"] = 1
    rank: Annotated[int, ">= 1", "rank of each update"] = 8
    alpha: Annotated[float, "> 0", "the update is scaled by alpha / rank"] = 8.0
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'"] = "q,v"
    dropout: Annotated[float, ">= 0, < 1", "on the update's input while training"] = 0.0
    shared_a: Annotated[bool, "one A for all of q, k, v that are targets (NOAH)"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        depth = len(blocks(backbone))
        if self.k > depth:
            raise MethodError(f"lora_last(k={self.k}) on a backbone of {depth} blocks; k is at most {depth}")
        return self.adapt(backbone, [s for s in linears(backbone) if s.depth >= depth - self.k], classes)

    def frozen_blocks(self, model: nn.Module) -> int:
        return len(blocks(model)) - self.k
