"""Scoring: predictions of one split through the method, and every metric that follows from them.

Evaluation leaves no trace: trained weights are saved before a split and copied back after it, so that a method which
adapts at test time may move them while it reads. Metrics are computed from what is stored (`metrics_of`), so that a
wrong metric can be mended without training anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Fit
from methods.compose import Method
from results.metrics import metrics

from .loaders import Batches

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Predictions:
    """Per image, in the split's order: predicted class, margin of the top logit over the second, confidence, NLL."""

    pred: np.ndarray[Any, Any]  # (N,) int32
    label: np.ndarray[Any, Any]  # (N,) int32
    margin: Floats  # (N,)
    confidence: Floats  # (N,) softmax of the predicted class
    nll: Floats  # (N,)

    def save(self, path: Path, items_hash: str) -> None:
        """A compressed .npz that also names the items' order by its hash."""
        with path.open("wb") as stream:
            np.savez_compressed(stream, pred=self.pred, label=self.label, margin=self.margin,
                                confidence=self.confidence, nll=self.nll, items=np.array(items_hash))


def adapts(method: Method) -> bool:
    """Whether a part moves weights while it predicts."""
    return any(getattr(part, "tta", "none") != "none" for part in method.regularizers)


def predict(method: Method, fit: Fit, batches: Batches, adapt: bool = True) -> Predictions:
    """Score one split in order, in eval mode; the method decides how a batch is predicted, unless `adapt` is false."""
    return predict_among(method, fit, batches, (None,), adapt)[0]


def predict_among(method: Method, fit: Fit, batches: Batches, masks: Sequence[Sequence[int] | None],
                  adapt: bool = True) -> list[Predictions]:
    """One pass over a split, scored once for each mask: the classes that may be answered, or None for all of them."""
    was_training = fit.model.training
    kept = {name: p.detach().clone() for name, p in fit.trainable.items()}
    fit.model.eval()
    rows: list[list[tuple[Tensor, ...]]] = [[] for _ in masks]
    try:
        # Inference mode forbids a part that moves weights while it predicts to ask for gradients.
        with torch.no_grad() if adapts(method) else torch.inference_mode():
            method.start_split(fit)
            for batch in batches.in_order():
                logits = (method.predict(fit, batch.x) if adapt else fit.forward(batch.x)).float()
                for found, mask in zip(rows, masks, strict=True):
                    found.append(_judge(logits, batch.y, mask))
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                fit.trainable[name].copy_(value)
        fit.model.train(was_training)
    return [_gather(found) for found in rows]


def _judge(logits: Tensor, y: Tensor, mask: Sequence[int] | None) -> tuple[Tensor, ...]:
    """(B, C) and (B,) -> class, label, margin, confidence and NLL of each image, on the CPU."""
    if mask is not None:
        closed = torch.full_like(logits[0], -torch.inf)
        closed[list(mask)] = 0
        logits = logits + closed
    top = logits.topk(min(2, logits.shape[1]), dim=1)
    margin = top.values[:, 0] - top.values[:, -1]
    confidence = logits.softmax(1).amax(1)
    nll = F.cross_entropy(logits, y, reduction="none")
    return tuple(t.cpu() for t in (top.indices[:, 0], y, margin, confidence, nll))


def _gather(rows: list[tuple[Tensor, ...]]) -> Predictions:
    columns = [torch.cat(column).numpy() for column in zip(*rows, strict=True)]
    pred, label = (c.astype(np.int32) for c in columns[:2])
    return Predictions(pred, label, *(c.astype(np.float32) for c in columns[2:]))


def metrics_of(found: Predictions, prefix: str) -> dict[str, float | None]:
    """`<prefix>.top1`, `.class_mean` (of the classes present), `.nll`, `.ece`, `.n`, `.se` and `.majority`."""
    return metrics(found.pred, found.label, found.confidence, found.nll, prefix)
