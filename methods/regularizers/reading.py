"""How a part reads a model without changing it: the features below the head, its mode, its gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..base import Fit
from ..moves import global_norm


def head_modules(fit: Fit) -> list[nn.Module]:
    """The modules that hold the head's weights."""
    return [fit.model.get_submodule(path) for path in dict.fromkeys(n.rpartition(".")[0] for n in fit.head)]


@contextmanager
def head_inputs(fit: Fit) -> Iterator[list[Tensor]]:
    """The list fills with the pooled features (B, D) that each forward pass hands to the head."""
    seen: list[Tensor] = []
    handle = head_modules(fit)[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def features(fit: Fit, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) -> logits (B, C) and pooled features (B, D), both in float32 at least."""
    with head_inputs(fit) as seen:
        logits = fit.forward(x)
    pooled = seen[-1]
    return logits, pooled if pooled.dtype == torch.float64 else pooled.float()


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Train or eval inside; every module has its own mode again outside."""
    modes = [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def gradients(loss: Tensor, weights: Sequence[Tensor], again: bool = False) -> list[Tensor]:
    """d loss / d weights without touching .grad; zeros where the loss does not depend on a weight.

    `again` leaves the graph for another gradient.
    """
    if not loss.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=again)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def norm_by_group(grads: Sequence[Tensor], groups: Sequence[str]) -> dict[str, float]:
    """L2 norm of the gradient of each group of weights."""
    return {name: global_norm(g for g, at in zip(grads, groups, strict=True) if at == name).item()
            for name in dict.fromkeys(groups)}
