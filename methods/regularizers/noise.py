"""Noise on what an adapter adds, falling with depth: the part of PACE that touches the network.

Each marked residual branch (`Delta`), and the head as the last one, gets a forward hook that does nothing until
`noisy` opens: evaluation, other parts' passes and merging see the plain network and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..base import Fit
from ..families import face_of
from ..insertion import blocks, deltas
from ..moves import derived_seed
from .reading import head_modules

Shape = Literal["BC", "BTC"]
Kind = Literal["scale", "add", "dropout"]
Schedule = Literal["falling", "constant", "rising"]


def sigmas(groups: int, top: float, exclude_first: bool, schedule: Schedule = "falling") -> list[float]:
    """Noise per group, depth order, head last: [0, S, ..., S / (N - 1)], or [S, ..., S / N] when nothing is excluded.

    `constant` and `rising` are the controls of the paper's ablation.
    """
    first = 1 if exclude_first else 0
    noisy = groups - first
    falling = [top * (noisy - i) / noisy for i in range(noisy)]
    values = {"falling": falling, "rising": falling[::-1], "constant": [top] * noisy}[schedule]
    return [0.0] * first + values


def draw(like: Tensor, sigma: float, shape: Shape, kind: Kind, generator: torch.Generator) -> Tensor:
    """Noise for a branch (B, ..., D): one value per image and channel, (B, 1, ..., D); every element for BTC.

    Drawn in float32 and cast: 1 + sigma * randn loses resolution in half precision. `dropout` has the same variance:
    a mask with keep rate 1 / (1 + sigma^2), divided by it.
    """
    size = like.shape if shape == "BTC" else (like.shape[0], *(1,) * (like.ndim - 2), like.shape[-1])
    if kind == "dropout":
        keep = 1 / (1 + sigma**2)
        mask = torch.rand(size, generator=generator, device=like.device) < keep
        return (mask / keep).to(like.dtype)
    z = sigma * torch.randn(size, generator=generator, device=like.device)
    return (z if kind == "add" else 1 + z).to(like.dtype)


class Noise:
    """The hooks, their shared generator, and the switch."""

    def __init__(self, fit: Fit, top: float, exclude_first: bool | None, shape: Shape, head: bool,
                 kind: Kind = "scale", schedule: Schedule = "falling") -> None:
        self.model, self.shape, self.kind, self.on = fit.model, shape, kind, False
        device = next(fit.model.parameters()).device
        self.generator = torch.Generator(device).manual_seed(derived_seed(fit.seed, "pace noise"))
        groups = len(blocks(fit.model)) + 1
        if exclude_first is None:  # what the authors' scripts do: ViT spares its first block, Swin spares none
            exclude_first = not face_of(fit.model).stages
        self.sigmas = sigmas(groups, top, exclude_first, schedule)
        for depth, module in branches(fit.model):
            self._hook(module, self.sigmas[min(max(depth, 0), groups - 1)])  # a norm behind the blocks: as the head
        if head:
            for module in head_modules(fit):
                self._hook(module, self.sigmas[-1])

    def _hook(self, module: nn.Module, sigma: float) -> None:
        if sigma:
            module.register_forward_hook(self._hook_of(sigma))

    def _hook_of(self, sigma: float) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        def perturb(module: nn.Module, inputs: Any, added: Tensor) -> Tensor | None:
            if not (self.on and self.model.training):
                return None
            z = draw(added, sigma, self.shape, self.kind, self.generator)
            return added + z if self.kind == "add" else added * z

        return perturb

    @contextmanager
    def noisy(self) -> Iterator[None]:
        """Inside, training passes are noisy."""
        before, self.on = self.on, True
        try:
            yield
        finally:
            self.on = before


def branches(model: nn.Module) -> list[tuple[int, nn.Module]]:
    """(depth, module) whose output is noised; prompts, which come out of their dropout module, are our addition."""
    found: list[tuple[int, nn.Module]] = [(d.depth, d) for _, d in deltas(model)]
    found += [(depth, b.get_submodule("prompt_dropout")) for depth, b in enumerate(blocks(model))
              if getattr(b, "prompts", None) is not None]
    return found


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Every residual branch adds zero: the pre-trained features under the present head."""
    handles = [d.register_forward_hook(lambda module, inputs, added: torch.zeros_like(added))
               for _, d in deltas(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
