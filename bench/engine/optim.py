"""The optimizer of every run, what its weight decay shrinks, and its learning rate: one rule for all methods."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from methods.base import Fit
from methods.weights import no_decay
from results.schema import RunSpec

# What timm's no_weight_decay names in one architecture or another, and its attention pool's latents, which no model of
# timm's names: a token or a table of positions has no reason to lie near zero.
TOKENS = {"cls_token", "dist_token", "reg_token", "pos_embed", "absolute_pos_embed", "positional_embedding",
          "relative_position_bias_table", "latent"}
PEAK_SHARE = 0.01  # the cosine ends, and the warm-up begins, at this share of the peak learning rate


def warmup_steps(spec: RunSpec, per_epoch: int) -> int:
    """How many steps the rate rises; a run too short for the spec's number of them warms up for a fifth of it.

    With a linear decay it is the number as given, as where that is published: a short run may be all warm-up.
    """
    if spec.warmup_steps and spec.schedule == "linear":
        return min(spec.warmup_steps, spec.epochs * per_epoch)
    if spec.warmup_steps:
        return min(spec.warmup_steps, spec.epochs * per_epoch // 5)
    return min(spec.warmup_epochs, spec.epochs) * per_epoch


def learning_rate(spec: RunSpec, step: int, per_epoch: int) -> float:
    """The rate of a step (from 0): linear warm-up, then cosine, or a line to 0; `cosine_timm` moves once per epoch,
    one late."""
    warm, total = warmup_steps(spec, per_epoch), spec.epochs * per_epoch
    low = PEAK_SHARE * spec.lr if spec.schedule == "cosine" else 0.0
    if spec.schedule == "constant":
        return spec.lr
    if spec.schedule == "cosine_timm":
        epoch = max(0, step // per_epoch - 1)
        if epoch < warm / per_epoch:
            return 1e-6 + epoch * (spec.lr - 1e-6) / (warm / per_epoch)
        return 1e-5 + 0.5 * (spec.lr - 1e-5) * (1 + math.cos(math.pi * epoch / spec.epochs))
    if step < warm:
        return low + (spec.lr - low) * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    if spec.schedule == "linear":
        return spec.lr * (1 - share)
    if spec.schedule == "cosine_epoch":  # torch's CosineAnnealingLR over epochs
        share = step // per_epoch / spec.epochs
    return low + 0.5 * (spec.lr - low) * (1 + math.cos(math.pi * share))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the step, in each group times its own factor; where it is a tensor, filled without waiting."""
    for group in optimizer.param_groups:
        scaled = group["scale"] * rate
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def spared(model: nn.Module, trainable: Mapping[str, nn.Parameter], decay: str) -> set[str]:
    """Names of the trained weights that weight decay leaves alone, by the spec's `decay`."""
    if decay == "all":
        return set()
    found = {name for name, p in trainable.items() if no_decay(name, p)}
    if decay == "matrices":
        return found
    for path, module in model.named_modules():  # a backbone may stand inside a side network
        if hasattr(module, "no_weight_decay"):
            found |= {f"{path}.{name}".lstrip(".") for name in module.no_weight_decay()} & trainable.keys()
    return found | {name for name in trainable if name.rpartition(".")[2] in TOKENS}


def make_optimizer(fit: Fit, spec: RunSpec, tensors: bool | None = None) -> torch.optim.Optimizer:
    """AdamW or SGD; what is spared is not decayed; the head may have its own rate, and what an adapter gives one.

    `tensors` (default: on a GPU): rates are tensors on the weights' device, so that a captured step can follow them.
    """
    bare_names = spared(fit.model, fit.trainable, spec.decay) | fit.undecayed
    rates = fit.adapter.rates(fit.model) if fit.adapter else {}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, p in fit.trainable.items():
        key = (name in bare_names, spec.head_lr_scale if name in fit.head else rates.get(name, 1.0))
        groups.setdefault(key, []).append(p)
    listed = [{"params": ps, "weight_decay": 0.0 if bare else spec.weight_decay, "scale": scale}
              for (bare, scale), ps in groups.items()]
    device = next(iter(fit.trainable.values())).device
    gpu = device.type == "cuda"
    if gpu if tensors is None else tensors:
        for group in listed:
            group["lr"] = torch.tensor(spec.lr, device=device)
    if spec.optimizer in ("sgd", "sgd_plain"):
        return torch.optim.SGD(listed, lr=spec.lr, momentum=0.9, nesterov=spec.optimizer == "sgd", fused=True)
    return torch.optim.AdamW(listed, lr=spec.lr, fused=True, capturable=gpu)
