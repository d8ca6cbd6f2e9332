"""A convolution that takes over another's weights, names included, and folds back into a plain one.

The counterpart of `AdaptedLinear`. timm's "same" padding (TensorFlow's) pads by the image's size, mostly on the right
and below; both kinds are computed as the plain layer computes them, bit for bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

_FACTS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "transposed",
          "output_padding", "padding_mode", "_reversed_padding_repeated_twice")


class AdaptedConv(nn.Conv2d):
    """Subclasses say what they add; weight (o, i / groups, k, k) and bias (o,) are the plain layer's own."""

    def __init__(self, base: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        for name in _FACTS:
            setattr(self, name, getattr(base, name))
        self.kind = type(base)
        self.weight, self.bias = base.weight, base.bias
        self.train(base.training)

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns of zeros that the layer itself still adds on each side of what `padded` gives."""
        assert not isinstance(self.padding, str)
        return self.padding[0], self.padding[1]

    def padded(self, x: Tensor) -> Tensor:
        """(B, i, H, W), with the margin of "same" padding where the layer has that."""
        if issubclass(self.kind, Conv2dSame):
            x = pad_same(x, self.kernel_size, self.stride, self.dilation)  # type: ignore[arg-type, no-untyped-call]
        return x

    def plain(self, padded: Tensor) -> Tensor:
        """What the layer computes without us, (B, i, H, W) -> (B, o, H', W')."""
        return F.conv2d(padded, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def folded(self) -> Tensor:
        """Weight of the plain layer that computes the same; the bias stays."""
        return self.weight


def fold_convs(model: nn.Module) -> nn.Module:
    """Replace every adapted convolution by the plain one that computes the same, in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, AdaptedConv):
            with torch.no_grad():
                weight = module.folded().detach().clone()
            plain = module.kind(module.in_channels, module.out_channels, module.kernel_size, module.stride,  # type: ignore[arg-type]
                                module.padding, module.dilation, module.groups, bias=False, device="meta")  # type: ignore[arg-type]
            plain.weight = nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                plain.bias = nn.Parameter(module.bias.detach().clone(), requires_grad=False)
            model.set_submodule(path, plain.train(module.training))
    return model
