"""Sparse updates: a frozen weight W of which chosen single entries train; what GPS, SPT and SHiRA have in common.

`index` (k,) counts into W as one row of numbers, `values` (k,) is what is added there, zero at the start: the layer is
exactly the pre-trained one, its merged form is the same expression, an optimizer keeps k numbers, and an anchor is 0.
The chosen places are state: they are stored beside the values. Backward makes the whole weight's gradient for a moment,
as full fine-tuning does; what is saved is activations, optimizer state and what is stored.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..insertion import AdaptedLinear, zeros


def with_entries(weight: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """The weight with `values` added at `index`, (o, ...) -> (o, ...)."""
    return weight.reshape(-1).index_add(0, index, values).view_as(weight)


def largest_of_each_row(scores: Tensor, k: int) -> Tensor:
    """(o, ...) -> (o k,) int32: where each row's k largest scores stand in it, the later one of equals first."""
    rows = scores.flatten(1)
    columns = rows.argsort(dim=1, stable=True)[:, -k:]
    first = torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1]
    return (first + columns).flatten().int()


class SparseLinear(AdaptedLinear):
    """W x + b with values added to some entries of W."""

    index: Tensor

    def __init__(self, base: nn.Linear, index: Tensor) -> None:
        super().__init__(base)
        self.values = zeros(base.weight, len(index))
        self.register_buffer("index", index)

    def dense(self) -> Tensor:
        """The weight in force, (o, i)."""
        return with_entries(self.weight, self.index, self.values)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.dense(), self.bias)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        return self.dense(), self.bias


class SparseConv(nn.Conv2d):
    """A convolution with values added to some entries of its kernel; it takes over another's, names included."""

    index: Tensor

    def __init__(self, base: nn.Conv2d, index: Tensor) -> None:
        super().__init__(base.in_channels, base.out_channels, base.kernel_size, base.stride,  # type: ignore[arg-type]
                         base.padding, base.dilation, base.groups, base.bias is not None,  # type: ignore[arg-type]
                         base.padding_mode, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.values = zeros(base.weight, len(index))
        self.register_buffer("index", index)
        self.train(base.training)

    def dense(self) -> Tensor:
        """The kernel in force, (o, i, k, k)."""
        return with_entries(self.weight, self.index, self.values)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.dense(), self.bias)  # type: ignore[no-untyped-call, no-any-return]

    def folded(self) -> nn.Conv2d:
        """The plain convolution that computes the same."""
        plain = nn.Conv2d(self.in_channels, self.out_channels, self.kernel_size, self.stride,  # type: ignore[arg-type]
                          self.padding, self.dilation, self.groups, self.bias is not None,  # type: ignore[arg-type]
                          self.padding_mode, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach().clone(), requires_grad=False), self.bias
        return plain.train(self.training)


SPARSE = (SparseLinear, SparseConv)
