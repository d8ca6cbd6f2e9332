"""EMA (after Polyak, Juditsky, SIAM J. Control Optim. 1992): the result is a running mean of the weights.

After every step shadow <- beta shadow + (1 - beta) weight, for all trained weights, the head among them, and floating
buffers (batch norm's statistics); after training the shadow takes their place. The warm-up, timm's (`ModelEmaV3`), is
min(beta, 1 - (1 + t)^(-2/3)): it forgets the start soon. A short run wants a small beta: of 0.9999, timm's own, 1,500
steps keep 86 % of the start. Scores during training are those of the weights that train, not of the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from ..base import Constraint, Fit
from ..compose import part


@part("ema")
class EMA(Constraint):
    """EMA: the result is an exponential moving average of the weights along training."""

    title = "EMA of weights"
    paper = "after Polyak, Juditsky, SIAM J. Control Optim. 1992, doi 10.1137/0330046"
    ours = ("our choice: beta 0.99 with warm-up; A and B of LoRA are averaged apart, as everyone does, which is not "
            "the mean of their product; the mean is over all steps, whichever epoch was selected")
    averages = True
    search = {"ema.beta": (0.99, 0.9, 0.999)}

    beta: Annotated[float, ">= 0, <= 1", "share of the mean that a step leaves as it was"] = 0.99
    warmup: Annotated[bool, "at step t (from 0) no more than 1 - (1 + t)^(-2/3)"] = True
    exclude_buffers: Annotated[bool, "buffers stay those of the last step"] = False

    def attach(self, fit: Fit) -> None:
        self.t = 0
        self.shadow = {name: wide(value) for name, value in self._live(fit).items()}

    def _live(self, fit: Fit) -> dict[str, Tensor]:
        """What is averaged, by name."""
        buffers = {} if self.exclude_buffers else {f"buffer {name}": b for name, b in fit.model.named_buffers()
                                                   if b.is_floating_point()}
        return {**fit.trainable, **buffers}

    @torch.no_grad()
    def after_step(self, fit: Fit) -> None:
        share = min(self.beta, 1 - (1 + self.t) ** (-2 / 3)) if self.warmup else self.beta
        for name, value in self._live(fit).items():
            self.shadow[name].lerp_(value.to(self.shadow[name].dtype), 1 - share)
        self.t += 1

    @torch.no_grad()
    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        for name, value in self._live(fit).items():
            value.copy_(self.shadow[name])

    def state(self) -> dict[str, Any]:
        return {"t": self.t, "shadow": self.shadow}

    def restore(self, state: dict[str, Any]) -> None:
        self.t = int(state["t"])
        for name, value in self.shadow.items():
            value.copy_(state["shadow"][name])


def wide(value: Tensor) -> Tensor:
    """A copy in float32 at least: bfloat16 cannot tell 0.999 of a number from the number."""
    return value.detach().to(torch.promote_types(value.dtype, torch.float32), copy=True)
