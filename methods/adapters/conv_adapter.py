"""Conv-Adapter (Chen et al., CVPR 2024 Workshops, arXiv:2208.07463): a bottleneck beside each spatial convolution.

out = act(bn(conv(u))) + c * (W2 relu(Wk u)): Wk is a convolution of the layer's own kernel size and stride with C / r
groups, C -> C / r, W2 a 1 x 1 one back to C, both with a bias; c is a learned scale per channel that starts at 1.
Beside the 3 x 3 path of a bottleneck it ends behind the activation; in a basic block, whose released code reads a value
before it is assigned, around the first convolution; on ConvNeXt around the depthwise one. The depthwise path of an
inverted residual is our extension. The authors draw both convolutions at random, so training does not start at the
pre-trained function; `zero_last` does.
"""

from __future__ import annotations

from math import gcd
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..convs import Spatial, conv_face
from ..grammar import MethodError
from ..insertion import require
from ..vit import freeze, replace_head


@part("conv_adapter")
class ConvAdapter(Adapter):
    """Conv-Adapter: a convolutional bottleneck beside each block's spatial convolution."""

    title = "Conv-Adapter"
    paper = "Chen et al., CVPR 2024 Workshops, arXiv:2208.07463"
    ours = ("our reading: batch norms stay in evaluation mode; a basic block is adapted around its first convolution; "
            "the place in an inverted residual, beside its depthwise convolution, is ours")
    formula = ("for each block of C channels and kernel size k: (k^2 + 2) C + C / reduction + C^2 / reduction; where a "
               "convolution changes the width, by its own channels")
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"resnet", "convnext", "efficientnet", "mobilenet"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    recipe_from = ("the authors' script, whose batch norms are in train mode where ours stay in evaluation mode; "
                   "high, its warm-up and schedule being the suite's")
    search = {"lr": (1e-4, 3e-2, "log"), "conv_adapter.reduction": (8, 4, 16)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "batch_size": 64}

    reduction: Annotated[int, ">= 1", "how much narrower the bottleneck is; gamma in the paper"] = 8
    zero_last: Annotated[bool, "W2 starts at zero, so training starts at the pre-trained function"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        places = conv_face(backbone).spatial()
        narrow = [p.site for p in places if p.site.conv.out_channels % self.reduction]
        if narrow:
            raise MethodError(f"'conv_adapter': reduction={self.reduction} does not divide the "
                              f"{narrow[0].conv.out_channels} channels of {narrow[0].path!r}")
        freeze(backbone)
        for place in places:
            join(backbone, place, ConvBottleneck(place, self.reduction, self.zero_last))
        return replace_head(backbone, classes)


class ConvBottleneck(Delta):
    """c * (W2 relu(Wk u)), (B, i, H, W) -> (B, H', W', o)."""

    def __init__(self, place: Spatial, reduction: int, zero_last: bool) -> None:
        super().__init__()
        conv: Any = place.site.conv
        self.depth = place.site.depth
        width = conv.out_channels // reduction
        same = type(conv)  # timm's "same" padding is a class of its own
        self.down = same(conv.in_channels, width, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
                         gcd(conv.in_channels, width))
        self.up = nn.Conv2d(width, conv.out_channels, 1)
        for layer in (self.down, self.up):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if zero_last:
            nn.init.zeros_(self.up.weight)
        self.channel_scale = nn.Parameter(torch.ones(conv.out_channels))
        self.to(device=conv.weight.device, dtype=conv.weight.dtype)
        self.read: Tensor | None = None  # what the convolution read, until its block has gone on to the place behind

    def forward(self, u: Tensor) -> Tensor:
        return self.up(F.relu(self.down(u))).movedim(1, -1) * self.channel_scale

    def note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Before the convolution."""
        self.read = inputs[0]

    def add(self, module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """Behind the place where the two paths meet."""
        u, self.read = self.read, None
        assert u is not None
        return out + self(u).movedim(-1, 1)


def join(model: nn.Module, place: Spatial, added: ConvBottleneck) -> None:
    """Lead the bottleneck past its convolution: modules, their names and their classes stay, two hooks do the rest."""
    model.get_submodule(place.block).add_module("conv_adapter", added)
    place.site.conv.register_forward_pre_hook(added.note)
    model.get_submodule(place.behind).register_forward_hook(added.add)
