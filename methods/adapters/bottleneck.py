"""The bottleneck that sequential and parallel adapters share: down, non-linearity, dropout, up, scale.

Starts: `lora` (down random, up zero: exactly the pre-trained function), `houlsby` (both normal 0.01 cut at two
deviations: near it), `xavier` (NOAH's intent), `bert` (normal 0.02). Both projections at zero, as one public baseline
has it, would never train: their gradients are each other's product.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ..base import Delta
from ..insertion import deltas

Start = Literal["lora", "houlsby", "xavier", "bert"]
Activation = Literal["gelu", "relu", "quick_gelu"]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def activation(name: str) -> nn.Module:
    return {"gelu": nn.GELU, "relu": nn.ReLU, "quick_gelu": QuickGELU}[name]()


class Bottleneck(Delta):
    """scale * up(dropout(act(down(u)))), (..., D) -> (..., D)."""

    def __init__(self, like: Tensor, width: int, hidden: int, depth: int, start: str = "lora", act: str = "gelu",
                 dropout: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.depth, self.scale = depth, scale
        self.down = nn.Linear(width, hidden, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(hidden, width, device=like.device, dtype=like.dtype)
        self.act, self.dropout = activation(act), nn.Dropout(dropout)
        initialise(self.down, self.up, start)

    def forward(self, u: Tensor) -> Tensor:
        added: Tensor = self.up(self.dropout(self.act(self.down(u))))
        return added if self.scale == 1.0 else self.scale * added


def initialise(down: nn.Linear, up: nn.Linear, start: str) -> None:
    """Fill both projections by one of the four named starts."""
    for linear in (down, up):
        if start == "xavier":
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)
            continue
        nn.init.zeros_(linear.bias)
        if start == "houlsby":
            nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
        elif start == "bert":
            nn.init.normal_(linear.weight, std=0.02)
        elif linear is down:
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        else:
            nn.init.zeros_(linear.weight)


def neutral(model: nn.Module) -> dict[str, Tensor]:
    """The values at which every bottleneck adds nothing: up at zero, the rest as constructed."""
    found: dict[str, Tensor] = {}
    for path, delta in deltas(model):
        if isinstance(delta, Bottleneck):
            for name, p in delta.named_parameters():
                value = torch.zeros_like(p) if name.startswith("up.") else p.detach().clone()
                found[f"{path}.{name}"] = value
    return found
