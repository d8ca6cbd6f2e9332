"""Muon in single precision: momentum made orthogonal by five Newton-Schulz steps, for all matrices of a shape at once.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (coefficients of the quintic from
there); the rate is scaled as in Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982. PyTorch's own
works in bfloat16, which a processor without such instructions multiplies so slowly that a step of the distillation took
two to five times as long (width 96 to 192).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, A, B) -> the same with all singular values near 1 (0.7 to 1.2), directions kept."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices alone; `lr` means what it means to AdamW, whose steps have about the same size."""

    def __init__(self, params: Iterable[nn.Parameter] | list[dict[str, Any]], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step with Nesterov's momentum and decoupled decay; every parameter must have a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                ahead = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    slope = parameter.grad
                    assert slope is not None
                    state["momentum"].lerp_(slope, 1 - MOMENTUM)
                    ahead.append(slope.lerp(state["momentum"], MOMENTUM))
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, change in zip(parameters, orthogonal(torch.stack(ahead)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=rate)
