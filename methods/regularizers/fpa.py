"""FPA: the features stay near those of the model at the start of training (the control of PACE, arXiv:2409.17137).

L = base + weight * mean_i |phi(x_i; theta) - phi(x_i; theta_0)|^2 with phi the features that enter the head. PACE's
paper aligns outputs; under a new head the pre-trained model has none, so features stand in. theta_0 are the trained
weights as they were attached: for an adapter that starts at the pre-trained function, that function exactly. Both
passes use the same draws of DropPath and dropout, otherwise the penalty would measure those.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ..base import Batch, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..moves import isolated, kept_statistics, placed
from .reading import features, head_inputs


@part("fpa")
class FPA(Regularizer):
    """FPA: a penalty on the distance of the features to the pre-trained model's."""

    title = "FP alignment"
    paper = "control in Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137"
    ours = ("our reading: the paper names the control without a formula; we penalise the squared distance of the "
            "head's input to that at the start of training (for prompts, which start elsewhere, not the plain model's)")
    excludes: ClassVar[frozenset[str]] = frozenset({"pace", "linear"})
    excludes_why = "fpa compares the features of plain passes, PACE's are noisy and a linear probe's never move"
    search = {"fpa.weight": (1e-3, 1.0, "log")}

    weight: Annotated[float, ">= 0", "of the penalty"] = 0.1

    def attach(self, fit: Fit) -> None:
        self.start = {name: p.detach().clone() for name, p in fit.peft.items()}

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        with isolated(batch.x.device):
            before = self.starting(fit, batch.x)
        with head_inputs(fit) as seen:
            terms = base(fit, batch)
        gap = (seen[0].to(before.dtype) - before).square().sum(1).mean()
        return {**terms, "loss": terms["loss"] + self.weight * gap, "fpa": gap.detach()}

    @torch.no_grad()
    def starting(self, fit: Fit, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D): what these images gave at the start; no graph, nothing moved afterwards."""
        with placed(fit.peft.values(), self.start.values()), kept_statistics(fit.model):
            return features(fit, x)[1]

    def state(self) -> dict[str, Any]:
        return {"start": self.start}

    def restore(self, state: dict[str, Any]) -> None:
        self.start = {name: value.to(self.start[name].device) for name, value in state["start"].items()}
