"""The optimizer of every run and its learning rate: one rule for all methods."""

from __future__ import annotations

import math

import torch
from torch import nn

from methods.base import Fit
from methods.weights import no_decay
from results.schema import RunSpec

PEAK_SHARE = 0.01  # the cosine ends, and the warm-up begins, at this share of the peak learning rate


def learning_rate(spec: RunSpec, step: int, per_epoch: int) -> float:
    """The rate of a step (from 0): linear warm-up, then cosine; `cosine_timm` moves once per epoch, one late."""
    warm, total = spec.warmup_epochs * per_epoch, spec.epochs * per_epoch
    low = PEAK_SHARE * spec.lr
    if spec.schedule == "constant":
        return spec.lr
    if spec.schedule == "cosine_timm":
        epoch = max(0, step // per_epoch - 1)
        if epoch < spec.warmup_epochs:
            return 1e-6 + epoch * (spec.lr - 1e-6) / spec.warmup_epochs
        return 1e-5 + 0.5 * (spec.lr - 1e-5) * (1 + math.cos(math.pi * epoch / spec.epochs))
    if step < warm:
        return low + (spec.lr - low) * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return low + 0.5 * (spec.lr - low) * (1 + math.cos(math.pi * share))


def make_optimizer(fit: Fit, spec: RunSpec) -> torch.optim.Optimizer:
    """AdamW or SGD; vectors, prompts and norms are not decayed (no_decay), the head may have its own rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, p in fit.trainable.items():
        key = (no_decay(name, p), spec.head_lr_scale if name in fit.head else 1.0)
        groups.setdefault(key, []).append(p)
    listed = [{"params": ps, "weight_decay": 0.0 if bare else spec.weight_decay, "scale": scale}
              for (bare, scale), ps in groups.items()]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(listed, lr=spec.lr, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(listed, lr=spec.lr, fused=True)
