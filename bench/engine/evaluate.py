"""Scoring: predictions of one split through the method, and every metric that follows from them.

The batch is the spec's `eval_batch_size`, or by memory (0): the largest power of two whose forward pass fits into a
fixed share of what is free. Where memory runs out all the same, the batch is halved and the split begun again, except
under test-time adaptation, whose batch is part of the method. Several splits may go through the model in one pass, in
batches that reach over their seams (`predict_row`); what is found stays on the device until the pass is over.

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
from methods.pair import Match
from methods.tasks import Regress, Task
from results.metrics import matched, measured, metrics
from results.schema import RunSpec

from . import meter
from .feeding import Normaliser
from .loaders import Batches, InRow
from .matching import Ranked, ranked
from .pictures import Pictures
from .tokens import Couples, Tokens, example

LARGEST, SHARE = 512, 0.25  # images of a batch by memory, and the part of free memory that it may take
ON_GPU = 2048, 0.5  # the same on a GPU, whose memory nobody else wants but runs that share it (a guess: not measured)
Masks = Sequence[Sequence[int] | None]  # the classes that may be answered, or None for all of them; once for each

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


@dataclass(frozen=True)
class Numbers:
    """Per text, in the split's order, where a number is asked: the answer and the label, in the label's unit."""

    pred: Floats  # (N,)
    label: Floats  # (N,)

    def save(self, path: Path, items_hash: str) -> None:
        """As `Predictions`; `task` says that these are no classes."""
        with path.open("wb") as stream:
            np.savez_compressed(stream, pred=self.pred, label=self.label, task=np.array("regress"),
                                items=np.array(items_hash))


Found = Predictions | Numbers | Ranked


def adapts(method: Method) -> bool:
    """Whether a part moves weights while it predicts."""
    return any(getattr(part, "tta", "none") != "none" for part in method.regularizers)


def predict(method: Method, fit: Fit, batches: Batches, adapt: bool = True, probabilities: bool = False) -> Found:
    """Score one split in order, in eval mode; the method decides how a batch is predicted, unless `adapt` is false.

    Pairs are ranked among each other.
    """
    if isinstance(fit.task, Match):
        return ranked(fit, batches)[0]
    return predict_among(method, fit, batches, (None,), adapt, probabilities)[0]


def predict_among(method: Method, fit: Fit, batches: Batches, masks: Masks, adapt: bool = True,
                  probabilities: bool = False) -> list[Found]:
    """One pass over a split, scored once for each mask."""
    return predict_row(method, fit, batches, [(len(batches.pictures), masks)], adapt, probabilities)[0]


def predict_row(method: Method, fit: Fit, batches: Batches | InRow, splits: Sequence[tuple[int, Masks]],
                adapt: bool = True, probabilities: bool = False) -> list[list[Found]]:
    """One pass over splits that stand in a row, each of so many images and scored once for each of its masks."""
    was_training = fit.model.training
    kept = {name: p.detach().clone() for name, p in fit.trainable.items()}
    fit.model.eval()
    try:
        # Inference mode forbids a part that moves weights while it predicts to ask for gradients.
        with torch.no_grad() if adapts(method) else torch.inference_mode():
            while True:
                scores = [[_Score(fit.task, mask, probabilities) for mask in masks] for _, masks in splits]
                waiting = [(images, one) for (images, _), one in zip(splits, scores, strict=True)]
                try:
                    method.start_split(fit)
                    for batch in batches.in_order():
                        logits = (method.predict(fit, batch.x) if adapt else fit.forward(batch.x)).float()
                        waiting = _share_out(logits, batch.y, waiting)
                    break
                except torch.OutOfMemoryError:
                    if adapts(method) or batches.batch_size == 1:
                        raise
                batches.batch_size //= 2  # outside the handler, whose traceback holds the tensors of the failed pass
                if fit.mean.is_cuda:
                    torch.cuda.empty_cache()
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                fit.trainable[name].copy_(value)
        fit.model.train(was_training)
    return [[score.gathered() for score in one] for one in scores]


def _share_out(logits: Tensor, y: Tensor, waiting: list[tuple[int, list[_Score]]]) -> list[tuple[int, list[_Score]]]:
    """A batch's logits (B, C) to the splits that its images are of; what still waits: (images, scores) of each."""
    start = 0
    while start < len(y):
        images, scores = waiting[0]
        stop = min(len(y), start + images)
        for score in scores:
            score.add(logits[start:stop], y[start:stop])
        waiting = [(images - (stop - start), scores), *waiting[1:]] if images > stop - start else waiting[1:]
        start = stop
    return waiting


class Splits:
    """A run's splits in order, in batches of the spec's size; of a size by memory, chosen once, where that is 0."""

    def __init__(self, fit: Fit, spec: RunSpec, normalise: Normaliser | Tokens | Couples) -> None:
        self.fit, self.spec, self.normalise, self.size = fit, spec, normalise, spec.eval_batch_size
        self._last: tuple[Batches | InRow, int] | None = None  # and how many images they hold

    def of(self, images: Pictures) -> Batches:
        """The split's batches."""
        self._settle()
        made = Batches(images, self.normalise, self.size, 0)
        self._last = made, len(images)
        return made

    def in_row(self, several: Sequence[Pictures]) -> InRow:
        """Batches of several splits that stand in a row."""
        self._settle()
        made = InRow([Batches(images, self.normalise, self.size, 0) for images in several], self.size)
        self._last = made, len(made)
        return made

    def _settle(self) -> None:
        """The size, where it is not known yet."""
        self._learn()
        if not self.size:
            workers = len(os.sched_getaffinity(0)) // self.spec.threads if self.normalise.device.type == "cpu" else 1
            self.size = batch_by_memory(self.fit, self.spec.image_size, max(1, workers), self.spec.text_length)

    def _learn(self) -> None:
        """A batch that had to be halved is not tried again."""
        if self._last is not None and self._last[0].batch_size < min(self.size, self._last[1]):
            self.size = self._last[0].batch_size

    def report(self) -> dict[str, float | None]:
        """For the record: the size that was used, where it is not the spec's."""
        self._learn()
        return {"eval_batch": float(self.size)} if self.size != self.spec.eval_batch_size else {}


def batch_by_memory(fit: Fit, size: int, workers: int, text_length: int = 0) -> int:
    """The largest power of two of `size`-pixel images, or of texts, that a share of the free memory takes.

    What a forward pass allocates is counted to the byte on one image and on two: it grows by the same for each further.
    """
    was_training = fit.model.training
    fit.model.eval()
    peaks = []
    for count in (1, 2):
        with torch.inference_mode(), meter.PeakLive() as live:
            fit.forward(example(fit.model, count, size, text_length))
        peaks.append(live.peak)
    fit.model.train(was_training)
    each = max(1, peaks[1] - peaks[0])
    largest, share = ON_GPU if fit.mean.is_cuda else (LARGEST, SHARE)
    return fitting(share * free_memory(fit.mean.device) / workers, peaks[0] - each, each, largest)


def fitting(room: float, once: int, each: int, largest: int) -> int:
    """The largest power of two of images, at most `largest` and at least 1, for which `once` + images * `each` bytes
    lie within `room`."""
    most = (room - once) / each
    return int(min(largest, 2 ** int(math.log2(max(1.0, most)))))


def free_memory(device: torch.device) -> int:
    """Bytes that a device has left, or the machine."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


class _Score:
    """What is found of one split under one mask; it stays on the device until the pass is over."""

    def __init__(self, task: Task, mask: Sequence[int] | None, probabilities: bool) -> None:
        self.task, self.mask, self.probabilities = task, mask, probabilities
        self.rows: list[tuple[Tensor, ...]] = []
        self._closed: Tensor | None = None

    def add(self, logits: Tensor, y: Tensor) -> None:
        """(B, C) and (B,) -> class, label, margin, confidence and NLL of each image, and where asked for (B, C)."""
        if isinstance(self.task, Regress):
            self.rows.append((self.task.answers(logits), y))
            return
        if self.mask is not None:
            logits = logits + self._without(logits)
        top = logits.topk(min(2, logits.shape[1]), dim=1)
        margin = top.values[:, 0] - top.values[:, -1]
        confidence = logits.softmax(1).amax(1)
        nll = F.cross_entropy(logits, y, reduction="none")
        whole = (logits.softmax(1),) if self.probabilities else ()
        self.rows.append((top.indices[:, 0], y, margin, confidence, nll, *whole))

    def _without(self, logits: Tensor) -> Tensor:
        """0 for the classes that may be answered, minus infinity for the others; made once."""
        if self._closed is None:
            self._closed = torch.full_like(logits[0], -torch.inf)
            self._closed[list(self.mask or ())] = 0
        return self._closed

    def gathered(self) -> Found:
        """In the split's order, on the CPU."""
        columns = [torch.cat(column).cpu().numpy() for column in zip(*self.rows, strict=True)]
        if isinstance(self.task, Regress):
            return Numbers(*(c.astype(np.float32) for c in columns))
        pred, label = (c.astype(np.int32) for c in columns[:2])
        return Predictions(pred, label, *(c.astype(np.float32) for c in columns[2:]))


def metrics_of(found: Found, prefix: str, f1: bool = False, metric: str = "top1") -> dict[str, float | None]:
    """Every metric of `results.metrics` that follows from these predictions, by `<prefix>.<name>`.

    `metric`: the card's.
    """
    if isinstance(found, Ranked):
        return matched(found.pred, found.label, prefix)
    if isinstance(found, Numbers):
        return measured(found.pred, found.label, prefix, metric)
    return metrics(found.pred, found.label, found.confidence, found.nll, prefix, f1, metric)
