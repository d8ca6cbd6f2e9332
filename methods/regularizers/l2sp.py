"""L2-SP (Li et al., ICML 2018, arXiv:1802.01483): weight decay towards the pre-trained weights instead of zero.

R = (alpha / 2) sum |theta - theta_0|^2 over pre-trained tensors + (beta / 2) sum |theta|^2 over the new head. As in
the authors' code: weight matrices and kernels only unless mode='all'; the halves are part of the definition. Kumar et
al. (arXiv:2202.10054) write lambda without the half: lambda = 0.01 is alpha = 0.02. Run it without weight decay.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..views import kernels


@part("l2_sp", "l2sp")
class L2SP(Regularizer):
    """L2-SP: a quadratic penalty on the distance to the pre-trained weights."""

    title = "L2-SP"
    paper = "Li et al., ICML 2018, arXiv:1802.01483"
    ours = ("our reading: LoRA's product is decayed towards zero; where no weight matrix trains (bitfit, ln_tune, SSF) "
            "every tensor with a pre-trained value is anchored")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    search = {"l2_sp.alpha": (1e-3, 1.0, "log"), "l2_sp.beta": (1e-3, 1e-1, "log")}

    alpha: Annotated[float, ">= 0", "pull towards the pre-trained weights"] = 0.1
    beta: Annotated[float, ">= 0", "weight decay of the new head"] = 0.01
    mode: Annotated[Literal["weights", "all"], "weight matrices only, or biases and norms too"] = "weights"

    def attach(self, fit: Fit) -> None:
        self.views = fit.views if self.mode == "all" else kernels(fit.views)
        self.new = new_head(fit, self.mode == "all")

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)
        penalty = self.penalty()
        return {**terms, "loss": terms["loss"] + penalty, "l2_sp": penalty.detach()}

    def penalty(self) -> Tensor:
        """() differentiable in every anchored and new weight."""
        pulled = sum((v.squared() for v in self.views), start=self.views[0].param.new_zeros(()))
        decayed = sum((p.square().sum() for p in self.new), start=pulled.new_zeros(()))
        return self.alpha / 2 * pulled + self.beta / 2 * decayed


def new_head(fit: Fit, biases: bool) -> list[Tensor]:
    """The head's weights that have no pre-trained value."""
    return [p for name, p in fit.trainable.items()
            if name in fit.head and name not in fit.anchor and (biases or p.ndim > 1)]
