"""OFT (Qiu et al., NeurIPS 2023, arXiv:2306.07280): the input of a layer is rotated within blocks of coordinates.

W' = W R with R block-diagonal, each block the Cayley transform (1 + Q)(1 - Q)^-1 of a skew Q whose entries above the
diagonal train, zero at the start: orthogonal by construction, and solved exactly. (Hugging Face's peft cuts the series
of the inverse after five terms by default, which is far from orthogonal for a large Q.)
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Feature
from ..compose import part
from ..grammar import MethodError
from ..insertion import Site, linears, require, zeros
from .turned import ROLES, Turn, Turning


class Cayley(Turn):
    """R x - x, block by block; R - 1 = 2 Q (1 - Q)^-1 has no cancellation at the start."""

    def __init__(self, site: Site, block: int) -> None:
        super().__init__(site)
        self.block = block
        self.skew = zeros(site.linear.weight, site.linear.in_features // block, block * (block - 1) // 2)

    def change(self) -> Tensor:
        """The blocks of R - 1, (n, b, b)."""
        rows, columns = torch.triu_indices(self.block, self.block, 1, device=self.skew.device)
        upper = self.skew.new_zeros(len(self.skew), self.block, self.block)
        upper = upper.index_put((torch.arange(len(upper), device=upper.device)[:, None], rows, columns), self.skew)
        q = upper - upper.mT
        eye = torch.eye(self.block, device=q.device, dtype=q.dtype)
        return torch.linalg.solve(eye - q, 2 * q, left=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.reshape(*x.shape[:-1], -1, self.block)  # (..., n, b)
        return torch.einsum("...nc,nrc->...nr", parts, self.change()).flatten(-2)

    def turned(self, x: Tensor) -> Tensor:
        return x + self.forward(x)


@part("oft")
class OFT(Turning):
    """OFT: the input of every linear layer rotated within blocks."""

    title = "OFT"
    paper = "Qiu et al., NeurIPS 2023, arXiv:2306.07280"
    ours = ("the input is rotated, as in Hugging Face's peft, for q, k and v together; blocks of 8 (32 there), which "
            "divide small networks too; the Cayley transform is exact; no recipe for VTAB-1k is published")
    formula = "L 7 d (block - 1) / 2; where: attn d (block - 1), qkv d (block - 1) / 2 per block"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    search = {"lr": (3e-4, 3e-2, "log"), "oft.block": (8, 4, 16)}
    recipe_from = "published for image generation; no setting for image classification is known to us"

    block: Annotated[int, ">= 2", "coordinates that are rotated together; must divide the layers' inputs"] = 8
    where: Annotated[Literal["all", "attn", "qkv"], "the layers in front of which is rotated"] = "all"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        for site in linears(backbone):
            if site.role in ROLES[self.where] and site.linear.in_features % self.block:
                raise MethodError(f"'oft': the {site.linear.in_features} inputs of {site.path} cannot be cut into "
                                  f"blocks of {self.block}")
        return self.weave(backbone, classes, self.where, Cayley, self.block)
