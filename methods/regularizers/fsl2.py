"""FSL2, function-space L2 (as in Benjamin et al., ICLR 2019, arXiv:1805.08289): outputs stay near the start's.

L = base + weight * mean_i |logits(x_i; theta) - logits(x_i; theta_0)|^2, with theta_0 all trained weights, the head
among them, as they were attached. Under a new head the outputs before training mean nothing, so a head with an anchor
is needed: a linear probe's, behind `lp_ft`. `fpa` is the form for new heads. Both passes use the same draws of DropPath
and dropout.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..moves import isolated, kept_statistics, placed


@part("fsl2")
class FunctionSpaceL2(Regularizer):
    """FSL2: a penalty on the distance of the outputs to those at the start, where the start has a head that fits."""

    title = "Function-space L2"
    paper = "as in Benjamin, Rolnick, Kording, ICLR 2019, arXiv:1805.08289"
    ours = "our choice: squared distance of the logits of the batch at hand; the start's head is a linear probe's"
    needs: ClassVar[frozenset[Feature]] = frozenset({"head"})
    accepts = ("lp_ft",)
    excludes: ClassVar[frozenset[str]] = frozenset({"pace"})
    excludes_why = "fsl2 compares the outputs of plain passes, PACE's are noisy"
    reads_images = True
    search = {"fsl2.weight": (1e-3, 1.0, "log")}

    weight: Annotated[float, ">= 0", "of the penalty"] = 0.1

    def attach(self, fit: Fit) -> None:
        self.start = {name: p.detach().clone() for name, p in fit.trainable.items()}

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        with isolated(batch.x.device):
            before = self.starting(fit, batch.x)
        terms = base(fit, batch)
        gap = (terms["logits"] - before).square().sum(1).mean()
        return {**terms, "loss": terms["loss"] + self.weight * gap, "fsl2": gap.detach()}

    @torch.no_grad()
    def starting(self, fit: Fit, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C): what these images gave at the start; no graph, nothing moved afterwards."""
        with placed(fit.trainable.values(), self.start.values()), kept_statistics(fit.model):
            return fit.forward(x)

    def state(self) -> dict[str, Any]:
        return {"start": self.start}

    def restore(self, state: dict[str, Any]) -> None:
        self.start = {name: value.to(self.start[name].device) for name, value in state["start"].items()}
