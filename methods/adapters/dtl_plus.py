"""DTL+ (Fu, Zhu, Wu, AAAI 2024, arXiv:2312.07856): DTL whose side stream is convolved over the image before it joins.

What joins a block is a depthwise convolution of act(R) on the map of patch tokens, without bias, one kernel shared by
all blocks; class and register tokens pass unchanged. Everything else is DTL's.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from ..base import Feature
from ..compose import part
from ..grammar import MethodError
from .dtl import DTL, Join


class ConvolvedJoin(Join):
    """act(R) with its patch tokens convolved: (B, N, D) -> (B, N, D)."""

    def __init__(self, depth: int, conv: nn.Conv2d, prefix: int, grid: tuple[int, int]) -> None:
        super().__init__(depth)
        self.prefix, self.grid = prefix, grid
        self._shared: list[Any] = [conv]  # in a list, so that torch does not register it here once more

    def forward(self, side: Tensor) -> Tensor:
        u = super().forward(side)
        patches = u[:, self.prefix:].mT.unflatten(2, self.grid)  # type: ignore[no-untyped-call]  # (B, D, H, W)
        mixed = self._shared[0](patches).flatten(2).mT
        return torch.cat([u[:, :self.prefix], mixed], dim=1)


@part("dtl_plus")
class DTLPlus(DTL):
    """DTL+: DTL with a shared depthwise convolution of what joins."""

    title = "DTL+"
    paper = "Fu, Zhu, Wu, AAAI 2024, arXiv:2312.07856"
    ours = ("our choice: the head reads the class token, the authors' the mean of the patch tokens; the kernel's side "
            "by default is ours")
    formula = "2 d L rank + d kernel^2"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    search = {"lr": (3e-4, 1e-2, "log")}
    recipe_from = ("the authors set the rate per task, from 5e-4 to 5e-3 (AdamW, decay 5e-2, batch 32, 100 epochs "
                   "and 10 of warm-up)")
    checks: ClassVar[dict[str, str]] = {"kernel % 2 == 1": "kernel is odd, so that the map keeps its size"}

    rank: Annotated[int, ">= 1", "rank of what each block adds to the side stream"] = 2
    joined: Annotated[int | None, ">= 1", "how many blocks, counted from the end, it joins; None: half of them"] = None
    kernel: Annotated[int, ">= 1", "side of the convolution's kernel"] = 5

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        if getattr(backbone, "dynamic_img_size", False):
            raise MethodError("'dtl_plus' needs a fixed grid of patches, which this backbone does not have; "
                              "build it without dynamic_img_size")
        return super().build(backbone, classes)

    def make_join(self, backbone: nn.Module, depth: int) -> Join:
        like, embed = next(backbone.parameters()), backbone.patch_embed
        if not hasattr(backbone, "side_conv"):
            channels = int(backbone.embed_dim)  # type: ignore[arg-type]
            backbone.side_conv = nn.Conv2d(channels, channels, self.kernel, padding=self.kernel // 2, groups=channels,
                                           bias=False, device=like.device, dtype=like.dtype)
        return ConvolvedJoin(depth, backbone.side_conv, int(backbone.num_prefix_tokens),  # type: ignore[arg-type]
                             tuple(embed.grid_size))  # type: ignore[union-attr, arg-type]
