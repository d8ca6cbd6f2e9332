"""VFPT (Zeng et al., NeurIPS 2024, arXiv:2411.01327): VPT-deep with part of each layer's prompts read as a spectrum.

The first floor(alpha p) prompts of every block enter as the real part of their Fourier transform, over the width, over
these prompts, or over both. As in the authors' code nothing scales the transform: it is some sixty times as large as
the prompts it came from (ten prompts of width 768), so the same learning rate moves it further. With alpha 0 this is
VPT-deep; trained prompts, once transformed, are VPT-deep's too.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..families import face_of
from ..insertion import require
from ..vit import PromptedBlock, freeze, replace_head
from .vpt_deep import new_prompts

AXES = {"both": (-1, -2), "width": (-1,), "prompts": (-2,)}


def spectrum(prompts: Tensor, count: int, axes: tuple[int, ...]) -> Tensor:
    """(..., p, D) -> (..., p, D), the first `count` prompts transformed among themselves."""
    if not count:
        return prompts
    head = prompts[..., :count, :]
    for axis in axes:
        head = torch.fft.fft(head, dim=axis)
    return torch.cat([head.real, prompts[..., count:, :]], dim=-2)


class FourierBlock(PromptedBlock):
    """A prompted block whose first `transformed` prompts enter as their transform."""

    transformed: int
    axes: tuple[int, ...]

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        assert self.prompts is not None
        prompts = self.prompts.expand(x.shape[0] if self.training and self.prompt_dropout.p else 1, -1, -1)
        entering = spectrum(self.prompt_dropout(prompts), self.transformed, self.axes)  # dropout first, as the authors
        x = torch.cat([x[:, :self.prefix], entering.to(x.dtype).expand(x.shape[0], -1, -1), x[:, self.prefix:]], dim=1)
        x = Block.forward(self, x, attn_mask=attn_mask, is_causal=is_causal)
        return torch.cat([x[:, :self.prefix], x[:, self.prefix + self.dropped:]], dim=1)


@part("vfpt")
class VFPT(Adapter):
    """VFPT: prompts before every block, part of them through a Fourier transform."""

    title = "VFPT"
    paper = "Zeng et al., NeurIPS 2024, arXiv:2411.01327"
    ours = "one share alpha for all data sets, where the authors search it per task; prompts without dropout by default"
    formula = "L prompts d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    at_start = "never"
    search = {"lr": (3e-4, 1e-1, "log"), "vfpt.alpha": (0.5, 0.0, 0.3, 0.7, 1.0), "vfpt.prompts": (10, 1, 5, 50)}
    recipe_from = "the authors search VPT's grid of rates per task with SGD, and the share of prompts too"

    prompts: Annotated[int, ">= 1", "prompt tokens per block"] = 10
    alpha: Annotated[float, ">= 0, <= 1", "share of them that is transformed"] = 0.5
    axes: Annotated[Literal["both", "width", "prompts"], "what is transformed over"] = "both"
    dropout: Annotated[float, ">= 0, < 1", "on the prompts while training"] = 0.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        face = face_of(backbone)
        for block in face.blocks():
            face.prompt(block, new_prompts(backbone, block, self.prompts), self.prompts, self.prompts, self.dropout)
            block.__class__ = FourierBlock
            block.transformed, block.axes = math.floor(self.alpha * self.prompts), AXES[self.axes]  # type: ignore
        return replace_head(backbone, classes)
