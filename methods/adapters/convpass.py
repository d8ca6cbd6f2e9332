"""Convpass (Jie, Deng, 2022, arXiv:2207.07039): a convolutional bypass beside attention and MLP.

F(u) = up(dropout(q(conv3x3(q(down u))))) with q(x) = x sigmoid(1.702 x) on the map of patch tokens; class and register
tokens are convolved alone, as 1 x 1 images, where only the centre tap acts. The bypass has its own DropPath draw.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..families import face_of
from ..grammar import MethodError
from ..insertion import adapt_blocks, deltas, require, stream, width
from ..vit import freeze, replace_head
from .bottleneck import QuickGELU


class ConvBypass(Delta):
    """scale * drop_path(F(u)): (B, N, D) with a known grid, or (B, H, W, D) -> the same shape."""

    def __init__(self, like: Tensor, width: int, hidden: int, depth: int, prefix: int, grid: tuple[int, int],
                 scale: float, dropout: float, drop_path: float, start: str) -> None:
        super().__init__()
        self.depth, self.prefix, self.grid, self.scale = depth, prefix, grid, scale
        kind = {"device": like.device, "dtype": like.dtype}
        self.down = nn.Linear(width, hidden, **kind)  # type: ignore[arg-type]
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, **kind)  # type: ignore[arg-type]
        self.up = nn.Linear(hidden, width, **kind)  # type: ignore[arg-type]
        self.act, self.dropout, self.drop_path = QuickGELU(), nn.Dropout(dropout), DropPath(drop_path)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        if start == "identity":
            nn.init.dirac_(self.conv.weight)
        else:
            nn.init.xavier_uniform_(self.conv.weight)
        for module in (self.down, self.conv, self.up):
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, u: Tensor) -> Tensor:
        code = self.act(self.down(u))
        if code.ndim == 4:
            mixed = self._map(code)
        else:
            rows, columns = self.grid
            alone = F.linear(code[:, :self.prefix], self.conv.weight[:, :, 1, 1], self.conv.bias)
            patches = self._map(code[:, self.prefix:].unflatten(1, (rows, columns))).flatten(1, 2)
            mixed = torch.cat([alone, patches], dim=1)
        added: Tensor = self.drop_path(self.up(self.dropout(self.act(mixed))))
        return self.scale * added

    def _map(self, code: Tensor) -> Tensor:
        """(B, H, W, h) -> (B, H, W, h)."""
        mixed: Tensor = self.conv(code.movedim(-1, 1)).movedim(1, -1)
        return mixed


@part("convpass")
class Convpass(Adapter):
    """Convpass: convolutional bypasses beside attention and MLP."""

    title = "Convpass"
    paper = "Jie, Deng, 2022, arXiv:2207.07039"
    formula = "2 L ((2 bottleneck + 1) d + 9 bottleneck^2 + 2 bottleneck); where='attn': half"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2"})
    search = {"lr": (3e-4, 3e-2, "log"), "convpass.scale": (1.0, 0.1, 10.0, 0.01, 100.0)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # the authors'
    recipe_from = "the authors' code for VTAB-1k; certain, but the scale is chosen per task there"

    bottleneck: Annotated[int, ">= 1", "width of each bypass"] = 8
    scale: Annotated[float, "factor of what a bypass adds"] = 1.0
    dropout: Annotated[float, ">= 0, < 1", "inside the bypass while training"] = 0.1
    where: Annotated[Literal["both", "attn"], "beside attention and MLP, or beside attention only"] = "both"
    conv: Annotated[Literal["identity", "xavier"], "start of the 3x3 convolution"] = "identity"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        if getattr(backbone, "dynamic_img_size", False):
            raise MethodError("'convpass' needs a fixed grid of patches, which this backbone does not have; "
                              "build it without dynamic_img_size")
        freeze(backbone)
        rows, columns = backbone.patch_embed.grid_size  # type: ignore[union-attr, misc]
        prefix = face_of(backbone).prefix

        def make(depth: int, block: nn.Module) -> dict[str, Delta]:
            like = stream(block)
            rate = float(getattr(block.drop_path1, "drop_prob", 0.0))
            points = ("par_attn", "par_norm2") if self.where == "both" else ("par_attn",)
            return {point: ConvBypass(like, width(block), self.bottleneck, depth, prefix,  # type: ignore[arg-type]
                                      (rows, columns), self.scale, self.dropout, rate, self.conv)
                    for point in points}

        adapt_blocks(backbone, make)
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path, delta in deltas(model):
            if isinstance(delta, ConvBypass):
                for name, p in delta.named_parameters():
                    found[f"{path}.{name}"] = torch.zeros_like(p) if name.startswith("up.") else p.detach().clone()
        return found
