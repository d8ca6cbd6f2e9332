"""What a frozen weight is worth to a task before training: gradients of a loss through the model as it is.

Two losses: cross-entropy through the untrained head, and supervised contrastive over two views of the features (Khosla
et al., NeurIPS 2020, arXiv:2004.11362), in which the head has no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Batch, Fit, cross_entropy
from ..regularizers.augment import contrast_view

TEMPERATURE = 0.07


@contextmanager
def weights_awake(fit: Fit, weights: list[nn.Parameter]) -> Iterator[None]:
    """Inside, these frozen weights gather gradients, and the model is in train mode; outside, all is as it was."""
    modes = {m: m.training for m in fit.model.modules()}
    fit.model.train()
    for w in weights:
        w.requires_grad_(True)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for w in weights:
            w.requires_grad_(False)
        for p in [*weights, *fit.trainable.values()]:
            p.grad = None


def on_labels(fit: Fit, batch: Batch) -> Tensor:
    """Cross-entropy of the model as it is, through the untrained head."""
    return cross_entropy(fit, fit.forward(batch.x), batch.y)


def contrastive(fit: Fit, batch: Batch) -> Tensor:
    """Supervised contrastive loss over two views of each image: images of one class attract, all others repel."""
    x = torch.cat([contrast_view(batch.x, fit.mean, fit.std) for _ in range(2)])
    net: Any = fit.model
    with fit.precision():
        features = net.forward_head(net.forward_features(x), pre_logits=True)
    return supcon(features if features.dtype == torch.float64 else features.float(), batch.y.repeat(2))


def supcon(features: Tensor, y: Tensor) -> Tensor:
    """(N, D) and (N,) -> (): minus the mean log-probability of the others of one's class, among all others."""
    z = F.normalize(features, dim=1)
    self_ = torch.eye(len(y), dtype=torch.bool, device=y.device)
    log_p = (z @ z.mT / TEMPERATURE).masked_fill(self_, -torch.inf).log_softmax(dim=1)
    alike = (y[:, None] == y[None]) & ~self_
    return -(log_p.masked_fill(~alike, 0.0).sum(1) / alike.sum(1)).mean()
