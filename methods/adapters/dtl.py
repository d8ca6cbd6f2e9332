"""DTL (Fu, Zhu, Wu, AAAI 2024, arXiv:2312.07856): a low-rank stream beside the blocks that joins the later ones.

R = 0 at first; every block's input x adds B A x to it (A random, B zero), and behind each of the last blocks the stream
becomes x + act(R) with act(u) = u sigmoid(100 u). Blocks in front of the first joined one see no trained weight, so
backward keeps nothing of them but their inputs. The head reads the class token, as for every other method here; the
authors' model reads the mean of the patch tokens, another function than the pre-trained one.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature, Fit
from ..compose import part
from ..grammar import MethodError
from ..insertion import blocks, empty, require, width, zeros
from ..views import ProductView, View
from ..vit import freeze, replace_head

STEEP = 100.0  # beta of the authors' swish: nearly a ReLU, but with a slope of one half at zero


class Into(nn.Module):
    """What one block's input adds to the side stream: up(down(x)), (B, N, D) -> (B, N, D)."""

    def __init__(self, like: Tensor, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = empty(like, rank, width), zeros(like, width, rank)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up)


class Join(Delta):
    """What the side stream adds behind one block: (B, N, D) -> (B, N, D)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, side: Tensor) -> Tensor:
        return side * torch.sigmoid(STEEP * side)


class SidedBlocks(nn.Sequential):
    """timm's chain of blocks with the side stream: block l holds `into`, and `join` where the stream comes back."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) -> (B, N, D); a last block that computes the class token alone gives (B, 1, D)."""
        side: Tensor | None = None
        for block in self:
            found: Any = block
            added: Tensor = found.into(x)
            side = added if side is None else side + added
            x = block(x)
            if hasattr(block, "join"):
                x = x + found.join(side)[:, :x.shape[1]]
        return x


@part("dtl")
class DTL(Adapter):
    """DTL: a low-rank side stream that joins the later blocks."""

    title = "DTL"
    paper = "Fu, Zhu, Wu, AAAI 2024, arXiv:2312.07856"
    ours = "our choice: the head reads the class token; the authors' reads the mean of the patch tokens"
    formula = "2 d L rank"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    search = {"lr": (3e-4, 1e-2, "log")}
    recipe_from = ("the authors set the rate per task, from 3e-4 to 5e-3 (AdamW, decay 5e-2, batch 32, 100 epochs "
                   "and 10 of warm-up)")

    rank: Annotated[int, ">= 1", "rank of what each block adds to the side stream"] = 2
    joined: Annotated[int | None, ">= 1", "how many blocks, counted from the end, it joins; None: half of them"] = None

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        chain = blocks(backbone)
        first = len(chain) // 2 if self.joined is None else len(chain) - self.joined
        if first < 0:
            raise MethodError(f"joined={self.joined} on a backbone of {len(chain)} blocks; it is at most {len(chain)}")
        freeze(backbone)
        for depth, block in enumerate(chain):
            like = block.mlp.fc1.weight  # type: ignore[union-attr]
            block.add_module("into", Into(like, width(block), self.rank))  # type: ignore[arg-type]
            if depth >= first:
                block.add_module("join", self.make_join(backbone, depth))
        backbone.blocks.__class__ = SidedBlocks
        return replace_head(backbone, classes)

    def make_join(self, backbone: nn.Module, depth: int) -> Join:
        return Join(depth)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """B = 0: nothing flows beside the blocks. What a DTL+ convolves is then zero, whatever its kernel."""
        return {f"{path}.up": torch.zeros_like(m.up) for path, m in model.named_modules() if isinstance(m, Into)}

    def views(self, fit: Fit) -> list[View]:
        """What is measured is each block's product, what is scaled is B."""
        return [ProductView(f"{path}.up", m.up, fit.anchor[f"{path}.up"], factor=m.down)
                for path, m in fit.model.named_modules() if isinstance(m, Into)]
