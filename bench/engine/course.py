"""What surrounds the loop: how far a run is and what it has counted, its seconds, the model's modes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Fit


class Diverged(RuntimeError):
    """The loss is not finite; carries the step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass
class Course:
    """How far training is, and what it has found on its way."""

    epoch: int = 0
    batch: int = 0  # of the epoch, the next one
    seen: int = 0  # images of the epoch
    total: float = 0.0  # their losses
    right: int = 0  # of the epoch's judged images: classed right by the pass that trained on them
    judged: int = 0  # a method may train on part of a batch only
    history: list[dict[str, float | None]] = field(default_factory=list)
    train_s: float = 0.0  # of earlier attempts, up to the checkpoint
    counted_s: float = 0.0
    grad_norm: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    best: float = -1.0  # top-1 on val of the weights kept, where the best epoch is wanted
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    passes: int = 0  # over test, in phase peek

    def judge(self, pred: Tensor, y: Tensor) -> None:
        """Count what the pass that trains has classed; it may have seen the first images of the batch only."""
        self.right += int((pred == y[:len(pred)]).sum())
        self.judged += len(pred)

    def step_over(self, loss: float, images: int) -> None:
        """The batch is done."""
        self.total += loss * images
        self.seen += images
        self.batch += 1

    def curve(self) -> dict[str, float | None]:
        """The epoch that ends, for the history."""
        return {"epoch": float(self.epoch + 1), "train.loss": self.total / self.seen,
                "train.top1": self.right / max(1, self.judged)}

    def epoch_over(self) -> None:
        """At the beginning of the next one."""
        self.epoch, self.batch, self.seen, self.total, self.right, self.judged = self.epoch + 1, 0, 0, 0.0, 0, 0

    def put_back(self, stored: dict[str, Any]) -> None:
        """As a checkpoint tells it."""
        vars(self).update(vars(Course(**stored)))


class Timer:
    """Adds the seconds of a block, the device synchronised at both ends."""

    def __init__(self, into: dict[str, float], name: str, device: torch.device) -> None:
        self.into, self.name, self.device = into, name, device

    def __enter__(self) -> None:
        self._sync()
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._sync()
        self.into[self.name] = time.perf_counter() - self.started

    def _sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def set_train_mode(fit: Fit) -> None:
    """Train mode; a backbone that is only read stays in eval mode, so no DropPath or dropout acts inside it."""
    fit.model.train()
    if fit.adapter is not None and fit.adapter.frozen_backbone:
        _rest(fit.model)


def _rest(module: nn.Module) -> None:
    """Eval mode for the largest parts in which nothing trains."""
    if not any(p.requires_grad for p in module.parameters()):
        module.eval()
        return
    for child in module.children():
        _rest(child)


def set_plain_attention(model: nn.Module) -> None:
    """softmax(q k') v spelled out, in place of the fused kernel."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
