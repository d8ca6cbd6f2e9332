"""The auxiliary head of a label-free objective: its own weights, its own AdamW, no part of the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..base import Fit
from ..moves import derived_seed, global_norm, isolated
from .objectives import Objective


class Auxiliary:
    """Head and optimizer; both are absent for objectives that use the classifier alone."""

    def __init__(self, fit: Fit, objective: Objective) -> None:
        device = next(fit.model.parameters()).device
        with isolated(device, derived_seed(fit.seed, "auxiliary head")):
            self.head = objective.head(fit)
        self.weights = [] if self.head is None else list(self.head.parameters())
        # The base rate without its schedule: the schedule belongs to the loop's own optimizer.
        self.optimizer = torch.optim.AdamW(self.weights, fit.lr, weight_decay=fit.weight_decay) if self.head else None

    def apply(self, gradients: list[Tensor]) -> None:
        """One step along gradients taken earlier; .grad is empty before and after; none that is not finite."""
        if self.optimizer is None or not gradients or not global_norm(gradients).isfinite():
            return
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Tensors by name; the optimizer's moments by the position of their weight."""
        if self.head is None or self.optimizer is None:
            return {}
        known = self.optimizer.state
        moments = {f"{i}": dict(known[w]) for i, w in enumerate(self.weights) if w in known}
        return {"head": {k: v.detach().clone() for k, v in self.head.state_dict().items()}, "moments": moments}

    def restore(self, state: dict[str, Any]) -> None:
        if self.head is None or self.optimizer is None:
            return
        self.head.load_state_dict(state["head"])
        for i, moments in state["moments"].items():
            weight = self.weights[int(i)]
            self.optimizer.state[weight] = {
                k: v.to(weight.device) if k != "step" else v.cpu() for k, v in moments.items()}
