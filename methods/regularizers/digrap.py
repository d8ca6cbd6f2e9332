"""DiGraP, our reading (Huang et al., ICLR 2025, arXiv:2502.15895): a gradient loses a share of what leads away.

Per tensor, with g the gradient, d the move from the pre-trained value and proj = (<g, d> / |d|^2) d: where <g, d> < 0,
the step would lead further away, and the optimizer gets g - omega proj. omega begins at 0 and takes one Adam step each
time on h = cos(g_t, proj_{t-1}), the normalised slope of the loss by the omega of the step before, and is clipped to
[0, 1]. The paper was read as an abstract and an algorithm whose symbols a third site had lost: which sign is a
conflict, what "Normalise" divides by and the rate are ours. No released code was found; no number of the paper is
claimed.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms
from ..compose import part

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8
EPS = 1e-12  # a projection shorter than this has no direction


@part("digrap")
class DiGraP(Regularizer):
    """DiGraP (our reading): gradients lose a learned share of what leads away from the pre-trained weights."""

    title = "DiGraP (our reading)"
    paper = "Huang, Tian, Maneechotesuwan, Chopra, Kira, ICLR 2025, arXiv:2502.15895"
    ours = ("our reading: sign: projected where <g, d> < 0, the step would lead away; normalisation: the slope is a "
            "cosine; rate: 1e-2; a step without conflict gives no slope; LoRA's B is projected with anchor 0, A is not")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    outermost = True
    search = {"digrap.lr": (1e-3, 1e-1, "log")}

    lr: Annotated[float, ">= 0", "Adam's rate for omega, the paper's mu"] = 1e-2

    def attach(self, fit: Fit) -> None:
        self.views = fit.views
        if not self.views:
            raise ValueError("'digrap' found no trained weight with a pre-trained value to hold")
        one = self.views[0].param
        self.omega = torch.zeros(len(self.views), dtype=one.dtype, device=one.device)
        self.m, self.v, self.t = torch.zeros_like(self.omega), torch.zeros_like(self.omega), 0
        self.conflicts = torch.zeros_like(self.omega)
        self.previous = [torch.zeros_like(view.anchor) for view in self.views]

    def grads(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)
        self.project()
        return {**terms, "digrap_omega": self.omega.mean()}

    @torch.no_grad()
    def project(self) -> None:
        """Learn omega from the gradients at hand, then take its share of each conflict out of them."""
        grads = [torch.zeros_like(v.param) if v.param.grad is None else v.param.grad for v in self.views]
        if self.t:
            self._learn(torch.stack([cosine(g, p) for g, p in zip(grads, self.previous, strict=True)]))
        self.t += 1
        for i, (view, g) in enumerate(zip(self.views, grads, strict=True)):
            d = view.moved()
            along, size = (g * d).sum(), d.square().sum()
            conflict = (along < 0) & (size > 0)
            self.previous[i] = torch.where(conflict, along / size.clamp_min(EPS**2), 0.0) * d
            self.conflicts[i] += conflict
            if view.param.grad is not None:
                view.param.grad.sub_(self.omega[i] * self.previous[i])

    def _learn(self, h: Tensor) -> None:
        """(V,) slopes -> one Adam step on omega, clipped to [0, 1]; it counts the steps that had a step before."""
        self.m.lerp_(h, 1 - BETA1)
        self.v.lerp_(h.square(), 1 - BETA2)
        root = (self.v / (1 - BETA2**self.t)).sqrt_() + ADAM_EPS
        self.omega.sub_(self.lr * (self.m / (1 - BETA1**self.t)) / root).clamp_(0, 1)

    def report(self) -> dict[str, float]:
        """The mean omega at the end, and the share of all steps of all tensors that were in conflict."""
        if not self.t:
            return {}
        return {"omega_mean": float(self.omega.mean()), "conflicts": float(self.conflicts.mean()) / self.t}

    def state(self) -> dict[str, Any]:
        own = {name: getattr(self, name).clone() for name in ("omega", "m", "v", "conflicts")}
        return {**own, "t": self.t, **{f"previous.{i}": p for i, p in enumerate(self.previous)}}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("omega", "m", "v", "conflicts"):
            getattr(self, name).copy_(state[name])
        self.t = int(state["t"])
        self.previous = [state[f"previous.{i}"].to(self.omega.device) for i in range(len(self.views))]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(): of the angle between two tensors; 0 where one of them is zero."""
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(EPS)
