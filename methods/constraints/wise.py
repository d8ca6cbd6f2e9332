"""WiSE-FT (Wortsman et al., CVPR 2022, arXiv:2109.01903): interpolate between pre-trained and fine-tuned weights.

After training, theta(alpha) = (1 - alpha) theta_0 + alpha theta_ft. The result is alpha = 0.5, chosen before any score
is seen; the curve over alphas is scored on held-out training images and only reported. Differs from the authors' code
where there is no zero-shot head: a new head has no pre-trained value and stays as fine-tuned; behind `lp_ft` the
linear-probe head is its anchor and is interpolated too (the form known as `wise_lp`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..views import interpolate

RECALIBRATION_BATCHES = 16


@part("wise", "wise_ft")
class WiSE(Constraint):
    """WiSE-FT: after training, go back part of the way to the pre-trained weights."""

    title = "WiSE-FT"
    paper = "Wortsman et al., CVPR 2022, arXiv:2109.01903"
    ours = ("our reading: a new head has no pre-trained value and is not interpolated; for LoRA the update's scale is "
            "multiplied by alpha")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    wants_holdout = True
    search = {"wise.alpha": (0.5, 0.25, 0.75)}

    alpha: Annotated[float, ">= 0, <= 1", "0: pre-trained, 1: fine-tuned; the run's result"] = 0.5
    points: Annotated[int, ">= 0", "alphas of the curve besides 0, evenly up to 1; 0: no curve"] = 10
    buffers: Annotated[Literal["interp", "ft", "recalibrate"],
                       "BatchNorm statistics: interpolated, fine-tuned, or measured anew on held-out images"] = "interp"

    def attach(self, fit: Fit) -> None:
        self.curve: dict[float, float] = {}
        self.start = {n: b.detach().clone() for n, b in fit.model.named_buffers() if b.is_floating_point()}

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        tuned = [view.param.detach().clone() for view in fit.views]
        moving = {n: b for n, b in fit.model.named_buffers() if n in self.start}
        measured = {n: b.detach().clone() for n, b in moving.items()}
        for alpha in [i / self.points for i in range(self.points + 1)] if self.points else []:
            self._mix(fit, tuned, moving, measured, alpha)
            self.curve[alpha] = validate()
        self._mix(fit, tuned, moving, measured, self.alpha)

    @torch.no_grad()
    def _mix(self, fit: Fit, tuned: list[Tensor], moving: dict[str, Tensor], measured: dict[str, Tensor],
             alpha: float) -> None:
        for view, value in zip(fit.views, tuned, strict=True):
            view.param.copy_(value)
            interpolate(view, alpha)
        for name, buffer in moving.items():
            share = alpha if self.buffers == "interp" else 1.0
            mixed = torch.lerp(self.start[name], measured[name], share)
            buffer.copy_(measured[name] if share == 1 else mixed)
        if self.buffers == "recalibrate":
            recalibrate(fit)

    def report(self) -> dict[str, float]:
        """The score of each alpha on the held-out images: `alpha_0.50`."""
        return {f"alpha_{alpha:.2f}": score for alpha, score in self.curve.items()}


@torch.no_grad()
def recalibrate(fit: Fit, batches: int = RECALIBRATION_BATCHES) -> None:
    """Running statistics of every BatchNorm layer as the plain mean over held-out batches; nothing else changes."""
    layers = [m for m in fit.model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    flags: dict[nn.Module, bool] = {m: m.training for m in fit.model.modules()}
    kept = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in layers]
    for m in flags:
        m.training = False
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum, layer.training = None, True
    for _ in range(batches):
        fit.forward(next(fit.holdout).x)
    for m, flag in flags.items():
        m.training = flag
    for layer, (momentum, count) in zip(layers, kept, strict=True):
        layer.momentum = momentum
        if count is not None and layer.num_batches_tracked is not None:
            layer.num_batches_tracked.copy_(count)
