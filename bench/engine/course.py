"""What surrounds the loop: how far a run is, what it leaves behind, seconds, the model's modes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods import compose
from methods.base import Adapter, Fit, Regularizer
from methods.weights import account
from results.schema import BackboneInfo, DatasetInfo, Memory, Params, RunSpec

from .evaluate import Predictions
from .loaders import Pictures


class Diverged(RuntimeError):
    """The loss is not finite; carries the step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass
class Trained:
    """What one run leaves behind for the record."""

    spec: RunSpec
    model: nn.Module
    fit: Fit
    method: compose.Method
    predictions: dict[str, Predictions]  # by split
    metrics: dict[str, float | None]
    dataset: DatasetInfo
    backbone: BackboneInfo
    params: Params
    memory: Memory
    history: list[dict[str, float | None]]
    diagnostics: dict[str, float | None]
    seconds: dict[str, float]
    train_images_per_s: float | None
    eval_images_per_s: float | None
    test_passes: int
    items_hash: dict[str, str]


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


def probes(method: compose.Method) -> bool:
    """Whether a regularizer measures anything on a validation batch."""
    return any(type(one).probe is not Regularizer.probe for one in method.regularizers)


def report_of(method: compose.Method) -> dict[str, float]:
    """What the parts say of themselves after training, as `wise.alpha_0.50`."""
    return {f"{one.name}.{k}": v for one in method.parts for k, v in one.report().items()}  # type: ignore[attr-defined]


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


def content_hash(pictures: Pictures) -> str:
    """Hash of the decoded training pixels and labels; empty where they are decoded on the fly."""
    from hashlib import sha256

    if pictures.pixels is None:
        return ""
    digest = sha256(pictures.pixels.tobytes())
    digest.update(pictures.labels.numpy().tobytes())
    return digest.hexdigest()


def params_of(adapter: Adapter, model: nn.Module, backbone_sizes: dict[int, int]) -> Params:
    """Weights of the live model, the head apart."""
    counted = account(adapter, model, backbone_sizes)
    trained = counted.trained_adapter + counted.trained_head + counted.trained_backbone
    return Params(total=counted.total, trained=trained, trained_adapter=counted.trained_adapter,
                  trained_head=counted.trained_head, trained_backbone=counted.trained_backbone,
                  extra_inference=counted.extra, extra_inference_merged=counted.extra_merged, stored_bytes=None)
