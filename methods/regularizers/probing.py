"""Do the label-free and the target gradient agree? UGR's numbers on a fixed batch, in eval mode, at the weights."""

from __future__ import annotations

import re
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ..base import Batch, Fit, cross_entropy
from ..moves import derived_seed, global_norm, inner, isolated, moved
from .objectives import Look
from .reading import gradients, in_mode

POWER_STEPS = 5
DIFFERENCE = 1e-3  # length of the two-sided step, relative to the weights'


class LooksAhead(Protocol):
    """What is asked of the part that is measured: which weights move, by which gradient, and how far."""

    rho: float
    mode: Literal["unit", "raw"]
    perturb: Literal["peft", "all"]

    def theta(self, fit: Fit) -> list[nn.Parameter]: ...

    def look(self, fit: Fit, x: Tensor, weights: list[nn.Parameter]) -> tuple[Look, list[Tensor], list[Tensor]]: ...

    def steps(self, rho: float, g: list[Tensor]) -> list[Tensor]: ...


def ugr(fit: Fit, batch: Batch, part: LooksAhead) -> dict[str, float]:
    """cos, inner, norm_u, norm_t, cos per block, and L_t(theta') - L_t(theta) beside its first-order estimate."""
    theta = part.theta(fit)
    names = list(fit.trainable if part.perturb == "all" else fit.peft)
    with isolated(batch.x.device, derived_seed(fit.seed, "ugr probe")), in_mode(fit.model, False):
        _, g_u, _ = part.look(fit, batch.x, theta)
        with torch.enable_grad():
            here = cross_entropy(fit, fit.forward(batch.x), batch.y)
            g_t = gradients(here, theta)
        steps = part.steps(part.rho, g_u)
        with torch.no_grad(), moved(theta, steps):
            there = cross_entropy(fit, fit.forward(batch.x), batch.y)
        found = {"cos": cosine(g_u, g_t), "inner": inner(g_u, g_t).item(), "norm_u": global_norm(g_u).item(),
                 "norm_t": global_norm(g_t).item(), "change": (there - here).item(),
                 "change_expected": inner(g_t, steps).item()}
        for block in dict.fromkeys(map(block_of, names)):
            at = [i for i, name in enumerate(names) if block_of(name) == block]
            if block:
                found[f"cos.{block}"] = cosine([g_u[i] for i in at], [g_t[i] for i in at])
        if part.mode == "raw":
            found["rho_curvature"] = part.rho * curvature(fit, batch.x, part)
    return found


def block_of(name: str) -> str:
    """'blocks.3.attn.qkv.lora.q.up' -> 'blocks.3'; Swin's count within stages, 'layers.1.blocks.0'."""
    hit = re.match(r"(layers\.\d+\.)?blocks\.\d+", name)
    return hit.group() if hit else ""


def cosine(a: list[Tensor], b: list[Tensor]) -> float:
    """Of all entries together; 0 where a gradient vanishes."""
    norms = global_norm(a) * global_norm(b)
    return (inner(a, b) / norms).item() if norms > 0 else 0.0


def curvature(fit: Fit, x: Tensor, part: LooksAhead) -> float:
    """Largest eigenvalue (by size) of L_u's Hessian from a few power iterations on gradient differences.

    Below 1 / rho, UGR's raw step is a descent direction of the loss at the moved weights.
    """
    theta = part.theta(fit)
    reach = DIFFERENCE * max(1.0, global_norm(theta).item())
    v = [torch.randn_like(p) for p in theta]
    largest = 0.0
    for _ in range(POWER_STEPS):
        v = [one * (reach / global_norm(v)) for one in v]
        sides = []
        for sign in (1.0, -1.0):
            seed = derived_seed(fit.seed, "ugr curvature")  # the same masks and views on both sides
            with moved(theta, [sign * one for one in v]), isolated(x.device, seed):
                sides.append(part.look(fit, x, theta)[1])
        product = [(a - b) / 2 for a, b in zip(*sides, strict=True)]  # H v
        largest = (inner(v, product) / reach**2).item()
        if not global_norm(product) > 0:
            return 0.0
        v = product
    return largest
