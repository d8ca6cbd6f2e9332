"""SPD (Tian et al., NeurIPS 2024, arXiv:2411.01713): decay towards the pre-trained weights only where the loss agrees.

Per tensor, with g the step's gradient, p the weight before the step, n after it and p0 the pre-trained value: where
<g, p - p0> > 0, r = clip((|n - p0| - |p - p0|) / |n - p0|, 0, 1) and n <- n - strength r (n - p0). At strength 1 a step
that would go further away is put back on the sphere it came from; one that comes closer is left alone. Differs from
the authors' code, which rewrites Adam: here the optimizer is any and its step has been taken. As there, this decay
replaces the optimizer's, which leaves the constrained tensors alone.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..views import ProductView


@part("spd")
class SPD(Constraint):
    """SPD: a step that leaves the pre-trained weights while the loss wants them back is shortened."""

    title = "SPD"
    paper = "Tian et al., NeurIPS 2024, arXiv:2411.01713"
    ours = ("our reading: a new head is not anchored (the authors pull it to its random start); LoRA's product is "
            "pulled to zero, not A and B apart; 1 - strength r is not let below 0")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    excludes = frozenset({"ftp", "tpgm", "tpgm_c", "mars_pgm", "l2_pgm"})
    excludes_why = "both set how far the same weights may move"
    search = {"spd.strength": (0.1, 3.0, "log")}

    strength: Annotated[float, ">= 0", "share of a step's excess that is taken back; the authors' weight decay"] = 1.0

    def attach(self, fit: Fit) -> None:
        self.views = fit.views
        if not self.views:
            raise ValueError("'spd' found no trained weight with a pre-trained value to constrain")
        pulled = [v.param for v in self.views] + [v.factor for v in self.views if isinstance(v, ProductView)]
        fit.undecayed |= {n for n, p in fit.trainable.items() if any(p is one for one in pulled)}
        self._remember()
        zero = self.sizes[0].new_zeros(())
        self.steps, self.bound, self.pull = 0, zero, zero.clone()

    @torch.no_grad()
    def _remember(self) -> None:
        """Where the next step begins: each carrier's displacement, and the size (V,) of what it stands for."""
        self.previous: list[Tensor] = [view.moved() for view in self.views]
        self.sizes = torch.cat([view.norms("l2") for view in self.views])

    @torch.no_grad()
    def after_step(self, fit: Fit) -> None:
        now = torch.cat([view.norms("l2") for view in self.views])
        away = torch.stack([now.new_zeros(()) if v.param.grad is None else (v.param.grad * before).sum()
                            for v, before in zip(self.views, self.previous, strict=True)])  # <g, p - p0>
        excess = torch.where(now > self.sizes, (now - self.sizes) / now, 0.0)  # of a weight back at p0: none
        r = torch.where(away > 0, excess, 0.0)
        for view, ratio in zip(self.views, (1 - self.strength * r).clamp_min(0), strict=True):
            view.write(ratio.reshape(1))
        self._remember()
        self.steps += 1
        self.bound = self.bound + (r > 0).sum()
        self.pull = self.pull + r.sum()

    def report(self) -> dict[str, float]:
        """`bound`: share of all steps of all tensors that were shortened; `r_mean`: by which share, on average."""
        if not self.steps:
            return {}
        return {"bound": float(self.bound) / (self.steps * len(self.views)),
                "r_mean": float(self.pull / self.bound.clamp_min(1))}

    def state(self) -> dict[str, Any]:
        previous = {f"previous.{i}": p for i, p in enumerate(self.previous)}
        return {"sizes": self.sizes, "steps": self.steps, "bound": self.bound, "pull": self.pull, **previous}

    def restore(self, state: dict[str, Any]) -> None:
        device = self.sizes.device
        self.previous = [state[f"previous.{i}"].to(device) for i in range(len(self.views))]
        self.sizes, self.bound, self.pull = (state[name].to(device) for name in ("sizes", "bound", "pull"))
        self.steps = int(state["steps"])
