"""Residual adapters, parallel form (Rebuffi, Bilen, Vedaldi, CVPR 2018, arXiv:1803.10082): 1 x 1 filters beside k x k.

y = conv(x) + a(x) at the places where the kernel's centre lies, and all batch norms of the network train. So a is the
centre tap of the kernel, into which it merges exactly at any stride. On a grouped convolution a has its groups; on a
depthwise one it is a number per channel (ours). The paper starts a at random; here it starts at zero and running
statistics stay, so that training starts at the pre-trained function. The older series form (arXiv:1705.08045) needs
another batch norm in front of it and is left out.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..batch_norm import batch_norms
from ..compose import part
from ..conv_layer import AdaptedConv, fold_convs
from ..convs import ConvSite, conv_face
from ..insertion import deltas, require, zeros
from ..vit import freeze, replace_head


@part("residual_adapter")
class ResidualAdapter(Adapter):
    """Residual adapters: a 1 x 1 filter beside every spatial convolution, and all batch norms."""

    title = "Residual adapters, parallel"
    paper = "Rebuffi, Bilen, Vedaldi, CVPR 2018, arXiv:1803.10082"
    ours = ("our reading: filters start at zero and running statistics stay; on a depthwise convolution the filter is "
            "depthwise too")
    formula = "o i / groups for each convolution of i -> o channels wider than 1 x 1 in a block; norms: bn_tune's too"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"resnet", "efficientnet", "mobilenet"})
    mergeable = True
    recipe_from = "published for ten sets learnt one after another with SGD 0.1, not for few images"
    search = {"lr": (1e-4, 1e-1, "log")}

    norms: Annotated[bool, "scale and shift of every batch norm train too"] = True

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for norm in batch_norms(backbone) if self.norms else []:
            norm.requires_grad_(True)
        for site in conv_face(backbone).convs():
            if site.role not in ("stem", "downsample") and min(site.conv.kernel_size) > 1 and _centred(site):
                backbone.set_submodule(site.path, TappedConv(site))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        return {f"{path}.tap": torch.zeros_like(d.tap) for path, d in deltas(model) if isinstance(d, CentreTap)}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_convs(model)


def _centred(site: ConvSite) -> bool:
    """Whether the kernel has a middle."""
    return all(k % 2 for k in site.conv.kernel_size)


class CentreTap(Delta):
    """a (o, i / groups) on the pixel under the kernel's centre: (B, i, H, W), padded, -> (B, H', W', o)."""

    def __init__(self, site: ConvSite) -> None:
        super().__init__()
        conv = site.conv
        self.depth, self.stride, self.groups = site.depth, conv.stride, conv.groups
        self.tap = zeros(conv.weight, *conv.weight.shape[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.tap[:, :, None, None], None, self.stride, groups=self.groups).movedim(1, -1)


class TappedConv(AdaptedConv):
    """The convolution plus its centre tap's change."""

    def __init__(self, site: ConvSite) -> None:
        super().__init__(site.conv)
        self.adapter = CentreTap(site)

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H', W')."""
        padded = self.padded(x)
        y = self.plain(padded)
        top, left = (d * (k // 2) - p for d, k, p in zip(self.dilation, self.kernel_size, self.margin, strict=True))
        rows, columns = ((n - 1) * s + 1 for n, s in zip(y.shape[2:], self.stride, strict=True))
        added: Tensor = self.adapter(padded[:, :, top:top + rows, left:left + columns])
        return y + added.movedim(-1, 1)

    def folded(self) -> Tensor:
        weight = self.weight.clone()
        weight[:, :, self.kernel_size[0] // 2, self.kernel_size[1] // 2] += self.adapter.tap
        return weight
