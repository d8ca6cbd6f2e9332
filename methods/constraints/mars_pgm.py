"""Fixed-radius projections after each step (Gouk et al., ICLR 2021, arXiv:2002.08253): MARS-PGM and L2-PGM.

One radius for every weight matrix of the backbone around its pre-trained value, another for the new head around zero.
Shares the projection of `tpgm`; differs from the authors' code in leaving BatchNorm scales free, as biases are.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..views import Norm, View, kernels, project


class _Fixed(Constraint):
    """Project weight matrices into balls of two fixed sizes."""

    size: Norm
    gamma: float
    gamma_head: float

    def attach(self, fit: Fit) -> None:
        self.views = kernels(fit.views)
        self.new = [View(name, p, torch.zeros_like(p)) for name, p in fit.trainable.items()
                    if name in fit.head and name not in fit.anchor and p.ndim > 1]

    def after_step(self, fit: Fit) -> None:
        for view in self.views:
            project(view, self.gamma, self.size)
        for view in self.new:
            project(view, self.gamma_head, self.size)


@part("mars_pgm")
class MarsPGM(_Fixed):
    """MARS-PGM: every row of every weight matrix stays within one fixed radius of its pre-trained value."""

    title = "MARS-PGM"
    paper = "Gouk et al., ICLR 2021, arXiv:2002.08253"
    ours = ("our reading: BatchNorm scales stay free; LoRA's product is constrained with anchor zero; where no weight "
            "matrix trains every tensor with a pre-trained value is, as one row")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    excludes = frozenset({"tpgm", "tpgm_c", "ftp", "l2_pgm"})
    excludes_why = "both set how far the same weights may move"
    size = "mars"
    search = {"mars_pgm.gamma": (1.65, 33.1, "log"), "mars_pgm.gamma_head": (1.65, 33.1, "log")}

    gamma: Annotated[float, ">= 0", "radius of the pre-trained weights"] = 10.0
    gamma_head: Annotated[float, ">= 0", "radius of the new head around zero"] = 10.0


@part("l2_pgm")
class L2PGM(_Fixed):
    """L2-PGM: every weight matrix stays within one fixed Euclidean radius of its pre-trained value."""

    title = "L2-PGM"
    paper = "Gouk et al., ICLR 2021, arXiv:2002.08253"
    ours = ("our reading: BatchNorm scales stay free; LoRA's product is constrained with anchor zero; where no weight "
            "matrix trains every tensor with a pre-trained value is, as one vector")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    excludes = frozenset({"tpgm", "tpgm_c", "ftp", "mars_pgm"})
    excludes_why = "both set how far the same weights may move"
    size = "l2"
    search = {"l2_pgm.gamma": (0.1, 10.0, "log"), "l2_pgm.gamma_head": (0.1, 10.0, "log")}

    gamma: Annotated[float, ">= 0", "radius of the pre-trained weights"] = 2.0
    gamma_head: Annotated[float, ">= 0", "radius of the new head around zero"] = 2.0
