"""RepAdapter (Luo et al., 2023, arXiv:2302.08106): a linear bottleneck in front of a layer, folded into it afterwards.

f(u) = u + scale * (B (A u + a) + b) in front of qkv and of fc1; A is dense, B block-diagonal in `groups` groups, with
no non-linearity, so W f(u) + w is one linear layer. The authors' search script picks the scale on test labels; here it
is an option like any other.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..grammar import MethodError
from ..insertion import AdaptedLinear, Site, deltas, empty, fold_linears, linears, require, zeros
from ..vit import freeze, replace_head


class GroupedBottleneck(Delta):
    """scale * (B dropout(A u + a) + b), (..., D) -> (..., D)."""

    def __init__(self, site: Site, hidden: int, groups: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.depth, self.groups, self.scale = site.depth, groups, scale
        like, wide = site.linear.weight, site.linear.in_features
        self.down = empty(like, hidden, wide)  # A (h, D)
        self.down_bias = zeros(like, hidden)
        self.up = zeros(like, groups, wide // groups, hidden // groups)  # the blocks of B
        self.up_bias = zeros(like, wide)
        nn.init.xavier_uniform_(self.down)
        self.dropout = nn.Dropout(dropout)

    def forward(self, u: Tensor) -> Tensor:
        code = self.dropout(F.linear(u, self.down, self.down_bias))
        parts = code.unflatten(-1, (self.groups, -1))  # (..., g, h / g)
        added = torch.einsum("...gh,gdh->...gd", parts, self.up).flatten(-2)
        return self.scale * (added + self.up_bias)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """M (D, D) and c (D,) with u + forward(u) = M u + c."""
        dense = torch.block_diag(*self.up)  # type: ignore[no-untyped-call]  # (D, h)
        eye = torch.eye(len(dense), device=dense.device, dtype=dense.dtype)
        return eye + self.scale * dense @ self.down, self.scale * (dense @ self.down_bias + self.up_bias)


class RepLinear(AdaptedLinear):
    """W (u + delta(u)) + b."""

    def __init__(self, base: nn.Linear, rep: GroupedBottleneck) -> None:
        super().__init__(base)
        self.rep = rep

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.rep(x))

    def folded(self) -> tuple[Tensor, Tensor | None]:
        matrix, constant = self.rep.matrix()
        shift = self.weight @ constant
        return self.weight @ matrix, shift if self.bias is None else self.bias + shift


@part("repadapter")
class RepAdapter(Adapter):
    """RepAdapter: linear bottlenecks in front of attention and MLP, folded into them afterwards."""

    title = "RepAdapter"
    paper = "Luo et al., 2023, arXiv:2302.08106"
    formula = "2 L (d bottleneck + bottleneck + d bottleneck / groups + d); where='attn': half"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "beit", "swin", "swinv2"})
    mergeable = True

    checks: ClassVar[dict[str, str]] = {"bottleneck % groups == 0": "bottleneck must be a multiple of groups"}
    search = {"lr": (3e-4, 3e-2, "log"), "repadapter.scale": (1.0, 0.5, 5.0, 0.1, 10.0)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # the authors'
    recipe_from = "the authors' code for VTAB-1k; certain, but the scale is chosen per task there, on test images"

    bottleneck: Annotated[int, ">= 1", "width of each bottleneck"] = 8
    groups: Annotated[int, ">= 1", "blocks of the up projection; must divide width and bottleneck"] = 2
    scale: Annotated[float, "factor of what an adapter adds"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "inside the bottleneck while training"] = 0.1
    where: Annotated[Literal["both", "attn"], "in front of attention and MLP, or of attention only"] = "both"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for site in linears(backbone):
            if site.role == "qkv" or (site.role == "fc1" and self.where == "both"):
                if site.linear.in_features % self.groups:
                    raise MethodError(f"'repadapter': a width of {site.linear.in_features} cannot be cut into "
                                      f"groups={self.groups}")
                rep = GroupedBottleneck(site, self.bottleneck, self.groups, self.scale, self.dropout)
                backbone.set_submodule(site.path, RepLinear(site.linear, rep))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path, delta in deltas(model):
            if isinstance(delta, GroupedBottleneck):
                for name, p in delta.named_parameters():
                    found[f"{path}.{name}"] = torch.zeros_like(p) if name.startswith("up") else p.detach().clone()
        return found

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
