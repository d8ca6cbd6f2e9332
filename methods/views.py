"""Views: what a weight constraint sees of a trained model, and the projections that act on it.

A view is one trained tensor, the *carrier*, with the value it had when the model was the pre-trained function:
`param = anchor + moved`. A constraint multiplies `moved` by one ratio in [0, 1] per row; ratio 0 everywhere gives the
pre-trained function back exactly, ratio 1 changes no bit. Two kinds:

- `View`: a plain weight and its pre-trained value (full, partial, bitfit, ln_tune; SSF with scale 1 and shift 0);
- `ProductView`: the update s·B·A of a LoRA pair with anchor 0. Scaling row r of the product is scaling row r of B, so
  B is the carrier; only the norms look at the product.

Both projections shrink by a ratio (TPGM's released code, arXiv:2303.10720): L2 over the whole tensor, MARS (Gouk et
al., ICLR 2021, arXiv:2002.08253) per row by the sum of absolute values. The MARS map keeps each row's direction; it is
not the Euclidean projection, which would threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["mars", "l2"]
Vectors = Literal["whole", "element", "skip"]  # a 1-d tensor is one row, one row per entry, or not constrained
EPS = 1e-8


@dataclass(eq=False)
class View:
    """One carrier tensor, its pre-trained value, and how its rows are counted."""

    name: str  # of the carrier, as in `fit.trainable`
    param: nn.Parameter
    anchor: Tensor  # like param
    groups: int = 1  # radii: one for all rows, or one for each of so many equal parts (q, k, v)
    row_axis: int = 0

    @property
    def kernel(self) -> bool:
        """A weight matrix or convolution kernel: no bias, no norm scale, no embedding."""
        return self.param.ndim >= 2 and self.name.rpartition(".")[2].startswith("weight")

    def moved(self) -> Tensor:
        """What a ratio scales, like param; differentiable in param."""
        return self.param - self.anchor

    def effective(self) -> Tensor:
        """The displacement whose size is measured; differentiable in everything that trains."""
        return self.moved()

    def norms(self, norm: Norm, vectors: Vectors = "whole") -> Tensor:
        """-> (R,): the size of each row's displacement; R = groups for L2."""
        d = self.effective()
        if norm == "l2":
            return d.reshape(self.groups, -1).norm(dim=1)
        if d.ndim <= 1:
            return d.abs().reshape(-1) if vectors == "element" else d.abs().sum().reshape(1)
        return d.abs().movedim(self.row_axis, 0).flatten(1).sum(1)

    def squared(self) -> Tensor:
        """-> (): squared Euclidean length of the displacement."""
        return self.effective().square().sum()

    def at(self, ratio: Tensor) -> Tensor:
        """(R,) -> like param: the carrier with its rows shrunk; differentiable in the ratio, param is a constant."""
        return self.anchor + self.spread(ratio) * self.moved().detach()

    @torch.no_grad()
    def write(self, ratio: Tensor) -> None:
        """(R,): shrink the carrier in place; rows with ratio 1 keep every bit."""
        a = self.spread(ratio)
        self.param.copy_(torch.where(a >= 1, self.param, self.anchor + a * self.moved()))

    def per_row(self, gamma: Tensor, rows: int) -> Tensor:
        """(groups,) -> (rows,): each row's radius."""
        return gamma.repeat_interleave(rows // self.groups)

    def spread(self, ratio: Tensor) -> Tensor:
        """(R,) -> broadcasts against param."""
        if ratio.numel() == 1:
            return ratio.reshape(())
        axis = self.row_axis if self.param.ndim > 1 else 0
        shape = [1] * self.param.ndim
        shape[axis] = self.param.shape[axis]
        return ratio.repeat_interleave(self.param.shape[axis] // ratio.numel()).reshape(shape)


@dataclass(eq=False)
class ProductView(View):
    """s·B·A of a LoRA pair with anchor 0: `param` is B (out, r), `factor` is A (r, in)."""

    factor: Tensor | None = None
    scale: float = 1.0

    @property
    def kernel(self) -> bool:
        return True

    def effective(self) -> Tensor:
        assert self.factor is not None
        return self.scale * self.param @ self.factor  # (out, in)

    def norms(self, norm: Norm, vectors: Vectors = "whole") -> Tensor:
        if norm == "l2" and self.groups == 1:
            return self.squared().clamp_min(0).sqrt().reshape(1)
        return super().norms(norm, vectors)

    def squared(self) -> Tensor:
        """From the two r x r Gram matrices, without the product: s² tr((BᵀB)(AAᵀ))."""
        assert self.factor is not None
        return self.scale**2 * ((self.param.mT @ self.param) * (self.factor @ self.factor.mT)).sum()


def plain_views(trainable: Mapping[str, nn.Parameter], anchor: Mapping[str, Tensor]) -> list[View]:
    """A view of every trained weight that has a pre-trained value, in model order."""
    return [View(name, p, anchor[name]) for name, p in trainable.items() if name in anchor]


def kernels(views: list[View]) -> list[View]:
    """The weight matrices; all views where no matrix trains (bitfit, ln_tune, SSF)."""
    return [v for v in views if v.kernel] or views


def shrink_ratio(gamma: Tensor, norms: Tensor, live: bool = False) -> Tensor:
    """clip(gamma / (n + eps), 0, 1), (R,) each. At the bounds the derivative is 0, or 1 when `live`."""
    a = gamma / (norms + EPS)
    if not live:
        return F.hardtanh(a, 0.0, 1.0)
    return torch.where(a > 1, 1.0, torch.where(a < 0, 0.0, a))  # clamp's derivative at a bound differs between versions


@torch.no_grad()
def project(view: View, gamma: Tensor | float, norm: Norm, vectors: Vectors = "whole") -> None:
    """Bring every row within its radius, in place: 0 gives the anchor, a huge radius changes no bit."""
    if vectors == "skip" and view.param.ndim <= 1:
        return
    n = view.norms(norm, vectors)
    g = torch.as_tensor(gamma, dtype=n.dtype, device=n.device).reshape(-1).expand(view.groups)
    view.write(shrink_ratio(view.per_row(g, n.numel()), n))


@torch.no_grad()
def interpolate(view: View, alpha: float) -> None:
    """param <- anchor + alpha (param - anchor), in place; for a LoRA pair this is the scale s times alpha."""
    view.write(view.param.new_tensor([alpha]))
