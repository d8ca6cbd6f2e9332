"""LoRA on convolutions, in the form of Hugging Face's peft: a narrow convolution of the same size, then a 1 x 1 one.

y = conv(x) + (alpha / rank) up(down(x)): `down` (rank, i, k, k) has the layer's kernel size, stride, padding and
dilation, `up` (o, rank) is a 1 x 1 convolution that starts at zero; together rank (i k^2 + o) weights, and
DW = (alpha / rank) up down merges exactly. loralib's other form (factors of size rank k) regroups rows, so that its
factors mean no place in the image; it is not used. A grouped convolution has no such product and is left alone.

`q,v`, the default of `targets`, means nothing without attention: it stands for what `ATTENTION_FREE` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Delta
from ..conv_layer import AdaptedConv
from ..convs import ConvFace, ConvSite
from ..grammar import MethodError
from ..insertion import empty, zeros
from ..views import ProductView, View
from .lowrank import LowRank

DEFAULT = ("q", "v")
ATTENTION_FREE = {"resnet": ("conv2",), "convnext": ("fc1", "fc2"), "efficientnet": ("conv_pw", "conv_pwl"),
                  "mobilenet": ("conv_pw", "conv_pwl")}
TARGETS = ("conv1", "conv2", "conv3", "downsample", "conv", "conv_exp", "conv_pw", "conv_pwl", "conv_head")


class LowRankConv(LowRank):
    """scale * up(down(dropout(x))), (B, i, H, W) padded -> (B, H', W', o)."""

    def __init__(self, layer: AdaptedConv, depth: int, rank: int, scale: float, dropout: float) -> None:
        Delta.__init__(self)
        self.depth, self.scale = depth, scale
        self.geometry = (layer.stride, layer.margin, layer.dilation)
        self.down = empty(layer.weight, rank, layer.in_channels, *layer.kernel_size)
        self.up = zeros(layer.weight, layer.out_channels, rank)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        code = self.scale * F.conv2d(self.dropout(x), self.down, None, *self.geometry)
        return F.conv2d(code, self.up[:, :, None, None]).movedim(1, -1)

    def product(self) -> Tensor:
        """What it adds to the weight, (o, i, k, k)."""
        return self.scale * torch.einsum("or,rihw->oihw", self.up, self.down)

    def views(self, path: str, anchor: Mapping[str, Tensor]) -> list[View]:
        flat = self.down.flatten(1)  # (r, i k k), of the same storage
        return [ProductView(f"{path}.up", self.up, anchor[f"{path}.up"], factor=flat, scale=self.scale)]


class LoraConv(AdaptedConv):
    """The convolution plus a low-rank one."""

    def __init__(self, site: ConvSite, rank: int, scale: float, dropout: float) -> None:
        super().__init__(site.conv)
        self.lora = LowRankConv(self, site.depth, rank, scale, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H', W')."""
        padded = self.padded(x)
        added: Tensor = self.lora(padded)
        return self.plain(padded) + added.movedim(-1, 1)

    def folded(self) -> Tensor:
        return self.weight + self.lora.product()


def chosen(targets: tuple[str, ...], face: ConvFace) -> frozenset[str]:
    """The roles that `targets` mean in this network. Raises MethodError for one that it has not."""
    there = {s.role for s in face.convs() if s.conv.groups == 1} | {s.role for s in face.linears()}
    known = [t for t in (*TARGETS, "fc1", "fc2") if t in there]
    if targets == ("all",):
        return frozenset(known)
    wanted = ATTENTION_FREE[face.family] if targets == DEFAULT else targets
    if wrong := [t for t in wanted if t not in known]:
        raise MethodError(f"'lora': this {face.family} has no {' and no '.join(wrong)} that could be adapted (grouped "
                          f"convolutions cannot); targets can be some of {', '.join(known)}, or 'all'")
    return frozenset(wanted)
