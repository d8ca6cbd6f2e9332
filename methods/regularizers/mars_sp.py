"""MARS-SP (Gouk et al., ICLR 2021, arXiv:2002.08253): a penalty on the largest row's move from pre-training.

R = weight * sum_i max_r |theta_i,r - theta_0,i,r|_1 + head_weight * max_r |W_head,r|_1 over weight matrices. Its
sub-gradient reaches one row per tensor only; the authors recommend the constraint instead (`mars_pgm`). When other
papers show "MARS-SP" far below plain fine-tuning, this penalty is what they ran.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..views import kernels
from .l2sp import new_head


@part("mars_sp")
class MarsSP(Regularizer):
    """MARS-SP: a penalty on the maximum absolute row sum of the move from the pre-trained weights."""

    title = "MARS-SP"
    paper = "Gouk et al., ICLR 2021, arXiv:2002.08253"
    ours = ("our reading: LoRA's product is penalised with anchor zero; where no weight matrix trains every tensor "
            "with a pre-trained value is, as one row")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    search = {"mars_sp.weight": (1e-5, 1e-1, "log"), "mars_sp.head_weight": (1e-5, 1e-1, "log")}

    weight: Annotated[float, ">= 0", "price of the pre-trained tensors' largest row"] = 1e-3
    head_weight: Annotated[float, ">= 0", "price of the new head's largest row"] = 1e-3

    def attach(self, fit: Fit) -> None:
        self.views = kernels(fit.views)
        self.new = new_head(fit, biases=False)

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)
        penalty = self.penalty()
        return {**terms, "loss": terms["loss"] + penalty, "mars_sp": penalty.detach()}

    def penalty(self) -> Tensor:
        """() differentiable; the gradient of a tie goes to one row."""
        zero = self.views[0].param.new_zeros(())
        moved = sum((largest(v.norms("mars")) for v in self.views), start=zero)
        head = sum((largest(p.abs().sum(1)) for p in self.new), start=zero)
        return self.weight * moved + self.head_weight * head


def largest(rows: Tensor) -> Tensor:
    """(R,) -> (); `max` would share the gradient of a tie among the rows."""
    return rows[rows.argmax()]
