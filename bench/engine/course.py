"""What surrounds the loop: how far a run is and what it has counted, its seconds, the model's modes.

A step asks no tensor for its number: on a GPU each answer would wait for all that was launched. Losses and counts stay
on the device and are read back together, once in a while, before every checkpoint and at an epoch's end. Sums are those
of single readings, bit for bit: the same numbers are added in the same order. On a CPU an answer costs nothing, and
every step is read.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Fit

READ_EVERY = 50  # steps on a GPU: a third of a second of ViT-B/16 at batch 64 in bf16


def reading(device: torch.device) -> int:
    """Steps from one reading to the next."""
    return READ_EVERY if device.type == "cuda" else 1


class Diverged(RuntimeError):
    """The loss is not finite; carries the step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass(frozen=True)
class Taken:
    """What a step has left on the device."""

    step: int
    loss: Tensor  # (), before the step
    images: int
    right: Tensor  # (), of the judged images: classed right by the pass that trained on them
    judged: int  # a method may train on part of a batch only


@dataclass
class Course:
    """How far training is, and what it has found on its way."""

    epoch: int = 0
    batch: int = 0  # of the epoch, the next one
    seen: int = 0  # images of the epoch
    total: float = 0.0  # their losses
    right: int = 0  # of the epoch's judged images
    judged: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    train_s: float = 0.0  # of earlier attempts, up to the checkpoint
    counted_s: float = 0.0
    grad_norm: float | Tensor = 0.0  # before clipping, of the last step; a number once it is read
    memory: dict[str, Any] = field(default_factory=dict)
    best: float = -1.0  # top-1 on val of the weights kept, where the best epoch is wanted
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    passes: int = 0  # over test, in phase peek
    unread: list[Taken] = field(default_factory=list)  # empty in a checkpoint

    def note(self, step: int, loss: Tensor, images: int, right: Tensor | None, answers: int) -> None:
        """A step is taken; the pass that trains may have classed the first images of the batch only.

        `right` of its `answers` are; None where the task knows no right and wrong.
        """
        known = (torch.zeros((), dtype=torch.int64, device=loss.device), 0) if right is None else (right, answers)
        self.unread.append(Taken(step, loss.detach(), images, *known))

    def read(self) -> None:
        """Fetch what the last steps have left. Raises Diverged with the first step whose loss is not finite."""
        steps, self.unread = self.unread, []
        if not steps:
            return
        losses = torch.stack([one.loss for one in steps]).tolist()  # the only waiting for the device
        rights = torch.stack([one.right for one in steps]).tolist()
        for one, loss, right in zip(steps, losses, rights, strict=True):
            if not math.isfinite(loss):
                raise Diverged(one.step)
            self.total += loss * one.images
            self.right += right
            self.judged += one.judged
        self.grad_norm = float(self.grad_norm)

    def step_over(self, images: int) -> None:
        """The batch is done."""
        self.seen += images
        self.batch += 1

    def curve(self) -> dict[str, float | None]:
        """The epoch that ends, for the history."""
        right = {"train.top1": self.right / self.judged} if self.judged else {}
        return {"epoch": float(self.epoch + 1), "train.loss": self.total / self.seen, **right}

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
    """Train mode; a backbone that is only read stays in eval mode, so no DropPath or dropout acts inside it.

    A head of fixed words is in train mode though nothing of it trains: the loss is over all words, not the labels'.
    """
    fit.model.train()
    if fit.adapter is not None and fit.adapter.frozen_backbone:
        _rest(fit.model)
        head = fit.model.get_classifier()  # type: ignore[operator]
        if getattr(head, "fixed", False):
            head.train()


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
