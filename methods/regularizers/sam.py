"""SAM (Foret et al., ICLR 2021, arXiv:2010.01412): the gradient is taken where the loss is highest nearby.

g = grad L(theta), theta' = theta + rho g / |g| over all perturbed weights together, .grad = grad L(theta'). Both passes
use the same draws of DropPath and dropout, so rho = 0 is plain training, bit for bit, at twice the price.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from ..base import Batch, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..moves import global_norm, isolated, kept_statistics, moved

EPS = 1e-12  # as in the authors' code


@part("sam")
class SAM(Regularizer):
    """SAM: the gradient at the worst weights within a small ball."""

    title = "SAM"
    paper = "Foret et al., ICLR 2021, arXiv:2010.01412"
    search = {"sam.rho": (5e-3, 0.5, "log")}

    rho: Annotated[float, ">= 0", "radius of the ball"] = 0.05
    perturb: Annotated[Literal["all", "peft"], "what moves: every trained weight, or all but the head"] = "all"

    def grads(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        with isolated(batch.x.device), kept_statistics(fit.model):
            here = base(fit, batch)
        theta = [p for p in (fit.trainable if self.perturb == "all" else fit.peft).values() if p.grad is not None]
        g = [p.grad for p in theta if p.grad is not None]
        for p in fit.trainable.values():
            p.grad = None
        norm = global_norm(g) if g else here["loss"].new_zeros(())
        scale = torch.where(norm.isfinite(), self.rho / (norm + EPS), 0.0)
        with moved(theta, [scale.to(one.dtype) * one for one in g]):
            terms = base(fit, batch)
        return {**terms, "loss_at_weights": here["loss"].detach(), "sam_norm": norm}
