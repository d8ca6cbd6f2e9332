"""What PACE claims to change, measured on a validation batch: distance to the pre-trained function, gradient norms.

`fp_dist` is mean_i |f(x_i) - f0(x_i)|^2 with f0 the network whose adapters add nothing, under the present head (the
paper does not say which head it uses), `fp_feat` the same on the features below the head. `grad_norm_*` sums the
gradient's L2 norm over adapted layers, for the task loss and for v'f(x) averaged over images, v a fixed random unit
vector. `consistency` is PACE's own penalty, two noisy passes at the training noise. All but the last in eval mode,
without noise. Nothing that is measured here leaves a trace in weights, modes or random streams.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

import torch
from torch import Tensor

from ..base import Batch, Fit, cross_entropy
from ..insertion import deltas
from ..moves import derived_seed, isolated, kept_statistics, placed
from .noise import Noise, branches, switched_off
from .reading import features, gradients, in_mode, norm_by_group


class Noisy(Protocol):
    """What is asked of the part that is measured: its noise, and its passes through the network under that noise."""

    noisy: Noise

    def passes(self, fit: Fit, x: Tensor, copies: int) -> Tensor: ...


def pace(fit: Fit, batch: Batch, part: Noisy) -> dict[str, float]:
    """All five on one batch; the distances are absent where nothing can be switched off (prompts)."""
    return {**distances(fit, batch.x), **gradient_norms(fit, batch), "consistency": consistency(fit, batch.x, part)}


@torch.no_grad()
def distances(fit: Fit, x: Tensor) -> dict[str, float]:
    """(B, 3, H, W) -> fp_dist and fp_feat."""
    if len(branches(fit.model)) != len(list(deltas(fit.model))):
        return {}
    with in_mode(fit.model, False):
        now = features(fit, x)
        anchored = [name for name in fit.peft if name in fit.anchor]
        weights = [fit.trainable[n] for n in anchored]  # some train outside marked branches
        with switched_off(fit.model), placed(weights, [fit.anchor[n] for n in anchored]):
            start = features(fit, x)
    gaps = [(a - b).square().sum(1).mean().item() for a, b in zip(now, start, strict=True)]
    return {"fp_dist": gaps[0], "fp_feat": gaps[1]}


def gradient_norms(fit: Fit, batch: Batch) -> dict[str, float]:
    """Summed over adapted layers, for the task loss and for a fixed random direction of the logits."""
    names, weights = list(fit.peft), list(fit.peft.values())
    if not weights:
        return {}
    layers = [path for path, _ in deltas(fit.model)]
    groups = [next((p for p in layers if n.startswith(p + ".")), n.rpartition(".")[0]) for n in names]
    with torch.enable_grad(), in_mode(fit.model, False):
        logits = fit.forward(batch.x)
        generator = torch.Generator().manual_seed(derived_seed(fit.seed, "direction"))
        v = torch.randn(logits.shape[1], generator=generator).to(logits)
        out = logits.mean(0) @ (v / v.norm())
        by_out = norm_by_group(gradients(out, weights, again=True), groups)
        by_task = norm_by_group(gradients(cross_entropy(fit, logits, batch.y), weights), groups)
    return {"grad_norm_ce": sum(by_task.values()), "grad_norm_out": sum(by_out.values())}


@torch.no_grad()
def consistency(fit: Fit, x: Tensor, part: Noisy) -> float:
    """(B, 3, H, W) -> mean squared distance of two noisy passes, in training mode."""
    generator = part.noisy.generator
    before = generator.get_state()
    with ExitStack() as stack:
        stack.callback(generator.set_state, before)
        stack.enter_context(isolated(x.device, derived_seed(fit.seed, "consistency")))
        stack.enter_context(kept_statistics(fit.model))
        stack.enter_context(in_mode(fit.model, True))
        generator.manual_seed(derived_seed(fit.seed, "consistency"))
        first, second = part.passes(fit, x, 2).chunk(2)
    return (first - second).square().sum(1).mean().item()
