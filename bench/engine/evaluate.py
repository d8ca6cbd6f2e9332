"""Scoring: predictions of one split through the method, and every metric that follows from them.

The batch is the spec's `eval_batch_size`, or by memory (0): the largest power of two whose forward pass fits into a
fixed share of what is free. Where memory runs out all the same, the batch is halved and the split begun again, except
under test-time adaptation, whose batch is part of the method.

Evaluation leaves no trace: trained weights are saved before a split and copied back after it, so that a method which
adapts at test time may move them while it reads. Metrics are computed from what is stored (`metrics_of`), so that a
wrong metric can be mended without training anything again.
"""

from __future__ import annotations

import math
import os
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
from results.schema import RunSpec

from . import meter
from .feeding import Normaliser
from .loaders import Batches
from .pictures import Pictures

LARGEST, SHARE = 512, 0.25  # images of a batch by memory, and the part of free memory that it may take

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Predictions:
    """Per image, in the split's order: predicted class, margin of the top logit over the second, confidence, NLL."""

    pred: np.ndarray[Any, Any]  # (N,) int32
    label: np.ndarray[Any, Any]  # (N,) int32
    margin: Floats  # (N,)
    confidence: Floats  # (N,) softmax of the predicted class
    nll: Floats  # (N,)
    probabilities: np.ndarray[Any, Any] | None = None  # (N, C) float32, where they were asked for

    def save(self, path: Path, items_hash: str) -> None:
        """A compressed .npz that also names the items' order by its hash."""
        with path.open("wb") as stream:
            np.savez_compressed(stream, pred=self.pred, label=self.label, margin=self.margin,
                                confidence=self.confidence, nll=self.nll, items=np.array(items_hash))

    def save_probabilities(self, path: Path) -> None:
        """A compressed .npz of float16, (N, C), with the labels: what an ensemble is chosen from."""
        assert self.probabilities is not None
        with path.open("wb") as stream:
            np.savez_compressed(stream, probabilities=self.probabilities.astype(np.float16), label=self.label)


def from_probabilities(mean: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> Predictions:
    """(N, C) mean probabilities, (N,) labels -> predictions; a margin is a difference of logarithms, as of logits."""
    top = np.sort(mean, axis=1)[:, -min(2, mean.shape[1]):]
    tiny = np.finfo(np.float64).tiny
    logs = np.log(np.maximum(top, tiny))
    own = np.log(np.maximum(mean[np.arange(len(label)), label], tiny))
    return Predictions(mean.argmax(1).astype(np.int32), label.astype(np.int32),
                       (logs[:, -1] - logs[:, 0]).astype(np.float32), top[:, -1].astype(np.float32),
                       (-own).astype(np.float32), mean.astype(np.float32))


def adapts(method: Method) -> bool:
    """Whether a part moves weights while it predicts."""
    return any(getattr(part, "tta", "none") != "none" for part in method.regularizers)


def predict(method: Method, fit: Fit, batches: Batches, adapt: bool = True, probabilities: bool = False) -> Predictions:
    """Score one split in order, in eval mode; the method decides how a batch is predicted, unless `adapt` is false."""
    return predict_among(method, fit, batches, (None,), adapt, probabilities)[0]


def predict_among(method: Method, fit: Fit, batches: Batches, masks: Sequence[Sequence[int] | None],
                  adapt: bool = True, probabilities: bool = False) -> list[Predictions]:
    """One pass over a split, scored once for each mask: the classes that may be answered, or None for all of them."""
    was_training = fit.model.training
    kept = {name: p.detach().clone() for name, p in fit.trainable.items()}
    fit.model.eval()
    rows: list[list[tuple[Tensor, ...]]] = [[] for _ in masks]
    try:
        # Inference mode forbids a part that moves weights while it predicts to ask for gradients.
        with torch.no_grad() if adapts(method) else torch.inference_mode():
            while True:
                try:
                    method.start_split(fit)
                    for batch in batches.in_order():
                        logits = (method.predict(fit, batch.x) if adapt else fit.forward(batch.x)).float()
                        for found, mask in zip(rows, masks, strict=True):
                            found.append(_judge(logits, batch.y, mask, probabilities))
                    break
                except torch.OutOfMemoryError:
                    if adapts(method) or batches.batch_size == 1:
                        raise
                batches.batch_size //= 2  # outside the handler, whose traceback holds the tensors of the failed pass
                rows = [[] for _ in masks]
                if fit.mean.is_cuda:
                    torch.cuda.empty_cache()
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                fit.trainable[name].copy_(value)
        fit.model.train(was_training)
    return [_gather(found) for found in rows]


class Splits:
    """A run's splits in order, in batches of the spec's size; of a size by memory, chosen once, where that is 0."""

    def __init__(self, fit: Fit, spec: RunSpec, normalise: Normaliser) -> None:
        self.fit, self.spec, self.normalise, self.size = fit, spec, normalise, spec.eval_batch_size
        self._last: Batches | None = None

    def of(self, images: Pictures) -> Batches:
        """The split's batches."""
        self._learn()
        if not self.size:
            workers = len(os.sched_getaffinity(0)) // self.spec.threads if self.normalise.device.type == "cpu" else 1
            self.size = batch_by_memory(self.fit, self.spec.image_size, max(1, workers))
        self._last = Batches(images, self.normalise, self.size, 0)
        return self._last

    def _learn(self) -> None:
        """A batch that had to be halved is not tried again."""
        if self._last is not None and self._last.batch_size < min(self.size, len(self._last.pictures)):
            self.size = self._last.batch_size

    def report(self) -> dict[str, float | None]:
        """For the record: the size that was used, where it is not the spec's."""
        self._learn()
        return {"eval_batch": float(self.size)} if self.size != self.spec.eval_batch_size else {}


def batch_by_memory(fit: Fit, size: int, workers: int) -> int:
    """The largest power of two of `size`-pixel images, 512 at most, that a share of the free memory takes.

    What a forward pass allocates is counted to the byte on one image and on two: it grows by the same for each further.
    """
    was_training = fit.model.training
    fit.model.eval()
    peaks = []
    for count in (1, 2):
        with torch.inference_mode(), meter.PeakLive() as live:
            fit.forward(torch.zeros(count, 3, size, size, device=fit.mean.device))
        peaks.append(live.peak)
    fit.model.train(was_training)
    each = max(1, peaks[1] - peaks[0])
    most = (SHARE * free_memory(fit.mean.device) / workers - (peaks[0] - each)) / each
    return int(min(LARGEST, 2 ** int(math.log2(max(1.0, most)))))


def free_memory(device: torch.device) -> int:
    """Bytes that a device has left, or the machine."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _judge(logits: Tensor, y: Tensor, mask: Sequence[int] | None, probabilities: bool) -> tuple[Tensor, ...]:
    """(B, C) and (B,) -> class, label, margin, confidence and NLL of each image, on the CPU; its probabilities too."""
    if mask is not None:
        closed = torch.full_like(logits[0], -torch.inf)
        closed[list(mask)] = 0
        logits = logits + closed
    top = logits.topk(min(2, logits.shape[1]), dim=1)
    margin = top.values[:, 0] - top.values[:, -1]
    confidence = logits.softmax(1).amax(1)
    nll = F.cross_entropy(logits, y, reduction="none")
    whole = (logits.softmax(1),) if probabilities else ()
    return tuple(t.cpu() for t in (top.indices[:, 0], y, margin, confidence, nll, *whole))


def _gather(rows: list[tuple[Tensor, ...]]) -> Predictions:
    columns = [torch.cat(column).numpy() for column in zip(*rows, strict=True)]
    pred, label = (c.astype(np.int32) for c in columns[:2])
    return Predictions(pred, label, *(c.astype(np.float32) for c in columns[2:]))


def metrics_of(found: Predictions, prefix: str, f1: bool = False) -> dict[str, float | None]:
    """Every metric of `results.metrics` that follows from these predictions, by `<prefix>.<name>`."""
    return metrics(found.pred, found.label, found.confidence, found.nll, prefix, f1)
