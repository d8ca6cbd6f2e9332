"""FTP (Tian et al., NeurIPS 2023, arXiv:2310.19182): TPGM's projection with radii learned from gradients at hand.

The training gradient at the projected weights, taken against the previous unprojected move, stands in for the radius
gradient: no held-out images, no extra forward or backward pass. Differs from the authors' code, which rewrites SGD
and Adam: here the optimizer is any, its step has been taken, and `.grad` still holds the step's (clipped) gradient.
An optimizer that overwrites `.grad` (multi-tensor SGD with Nesterov momentum) must not be used with it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..views import EPS, View, shrink_ratio

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8
FLOOR = 1e-8


@part("ftp")
class FTP(Constraint):
    """FTP: each tensor stays in a ball whose radius is learned from the training gradient, at no extra pass."""

    title = "FTP"
    paper = "Tian et al., NeurIPS 2023, arXiv:2310.19182"
    ours = ("our reading: on LoRA and SSF the constraint acts on the displacement from the pre-trained function; "
            "the gradient is the clipped one of the step")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    excludes = frozenset({"tpgm", "tpgm_c", "mars_pgm", "l2_pgm"})
    excludes_why = "both set how far the same weights may move"
    search = {"ftp.kappa": (1.0, 0.5, 0.0)}

    kappa: Annotated[float, ">= 0, <= 1", "share kept of a gradient that would shrink a radius; 1: strongest"] = 1.0
    lr: Annotated[float, "> 0", "Adam's rate for the radii, in weight units"] = 1e-2

    def attach(self, fit: Fit) -> None:
        self.views = fit.views
        if not self.views:
            raise ValueError("'ftp' found no trained weight with a pre-trained value to constrain")
        one = self.views[0].param
        self.gamma = torch.full((len(self.views),), FLOOR, dtype=one.dtype, device=one.device)
        self.m, self.v, self.t = torch.zeros_like(self.gamma), torch.zeros_like(self.gamma), 0
        self.previous: list[Tensor] = []  # the unprojected moves of the step before, like each carrier
        self.inverse: list[Tensor] = []  # (R,) each: one over their row sizes

    @torch.no_grad()
    def after_step(self, fit: Fit) -> None:
        assert any(v.param.grad is not None for v in self.views), "'ftp' reads the gradient after the step"
        self.t += 1
        norms = [view.norms("mars") for view in self.views]
        if self.t > 1:
            self._learn(torch.stack([self._slope(i, view) for i, view in enumerate(self.views)]))
            cap = torch.stack([n.max() for n in norms]) + EPS
            self.gamma.copy_(torch.minimum(self.gamma.clamp_min(FLOOR), cap))
        self.previous = [view.moved() for view in self.views]
        self.inverse = [1 / (n + EPS) for n in norms]
        for view, n, gamma in zip(self.views, norms, self.gamma, strict=True):
            view.write(shrink_ratio(gamma, n))

    def _slope(self, i: int, view: View) -> Tensor:
        """() sum over all rows, binding or not, of <g, previous move> / its size."""
        if view.param.grad is None:
            return self.gamma.new_zeros(())
        return (view.param.grad * self.previous[i] * view.spread(self.inverse[i])).sum()

    def _learn(self, h: Tensor) -> None:
        """(V,) slopes -> one Adam step; moments start at the second step while the correction counts from the first."""
        h = torch.where(h > 0, self.kappa * h, h)
        self.m.lerp_(h, 1 - BETA1)
        self.v.lerp_(h.square(), 1 - BETA2)
        root = (self.v / (1 - BETA2**self.t)).sqrt_() + ADAM_EPS
        self.gamma.sub_(self.lr * (self.m / (1 - BETA1**self.t)) / root)

    def report(self) -> dict[str, float]:
        if not self.inverse:
            return {}
        largest = torch.stack([(1 / s).max() for s in self.inverse])
        return {"rho_mean": float((self.gamma / largest).clamp(max=1).mean())}

    def state(self) -> dict[str, Any]:
        lists = {f"previous.{i}": p for i, p in enumerate(self.previous)}
        lists |= {f"inverse.{i}": s for i, s in enumerate(self.inverse)}
        return {"gamma": self.gamma.clone(), "m": self.m.clone(), "v": self.v.clone(), "t": self.t, **lists}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("gamma", "m", "v"):
            getattr(self, name).copy_(state[name])
        self.t = int(state["t"])
        for name in ("previous", "inverse"):
            found = [state[f"{name}.{i}"] for i in range(len(self.views)) if f"{name}.{i}" in state]
            setattr(self, name, [t.to(self.gamma.device) for t in found])
