"""What the tests of side networks share: the four methods, frozen names, and bytes kept for the backward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from robust_kit import CLASSES, setup, tiny_resnet
from tiny_models import images, tiny_vit
from torch import Tensor, nn

from methods.base import Batch, Fit
from methods.compose import Method

SIDE = ["sherl", "sherl(n_late=2, squeeze='glu')", "sherl(start='identity')", "unipt", "unipt(form='cls')", "lst",
        "side_tuning(width=8)"]


def on_vit(text: str, **settings) -> tuple[Method, Fit]:
    """Registers and average pooling come through `settings`; drop path is on, so that a wrong mode shows."""
    return setup(text, tiny_vit(**{"drop_path_rate": 0.3, "pos_drop_rate": 0.2} | settings), 32)


def on_resnet(text: str) -> tuple[Method, Fit]:
    return setup(text, tiny_resnet(), 32)


def frozen(fit: Fit) -> dict[str, Tensor]:
    return {n: p for n, p in fit.model.named_parameters() if n not in fit.trainable}


def batch(count: int = 6, seed: int = 2) -> Batch:
    return Batch(images(count, seed=seed), torch.arange(count) % CLASSES, torch.arange(count))


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of unique storages that autograd keeps for one step in train mode, parameters excluded."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, tuple[int, object]] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = (storage.nbytes(), storage)  # the reference keeps the address from being used again
        return t

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long))
    assert loss.requires_grad
    return sum(size for size, _ in kept.values())
