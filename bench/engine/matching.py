"""Scoring pairs: every picture is embedded once, every caption once, and each asks for its own among all others.

What is kept are ranks (`results.recall`), in the split's order: a wrong recall is mended from them, as any metric is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Fit
from methods.pair import Towers
from results.recall import Ranks, folded, ranks

from .loaders import Batches


@dataclass(frozen=True)
class Ranked:
    """Per caption, in the split's order: its picture's rank among the pictures, and that of the picture's best caption
    among the captions of others; ranks count from 0."""

    pred: np.ndarray[Any, Any]  # (N, 2) float32
    label: np.ndarray[Any, Any]  # (N,) float32, the picture's number

    def save(self, path: Path, items_hash: str) -> None:
        """A compressed .npz; `task` says that these are no classes."""
        with path.open("wb") as stream:
            np.savez_compressed(stream, pred=self.pred[:, 0], rank_of_text=self.pred[:, 1], label=self.label,
                                task=np.array("match"), items=np.array(items_hash))


def ranked(fit: Fit, batches: Batches, folds: int = 1) -> list[Ranked]:
    """The ranks of a split with the present weights, in eval mode: among all, and then, of several folds, within each.

    Leaves no trace.
    """
    was_training = fit.model.training
    fit.model.eval()
    try:
        with torch.inference_mode():
            while True:
                try:
                    image, text = embedded(fit, batches)
                    break
                except torch.OutOfMemoryError:
                    if batches.batch_size == 1:
                        raise
                batches.batch_size //= 2  # outside the handler, whose traceback holds the tensors of the failed pass
                torch.cuda.empty_cache()
    finally:
        fit.model.train(was_training)
    owner = batches.pictures.labels.numpy()
    found = [ranks(image, text, owner), *([folded(image, text, owner, folds)] if folds > 1 else [])]
    return [_by_caption(one, owner) for one in found]


def _by_caption(found: Ranks, owner: np.ndarray[Any, Any]) -> Ranked:
    return Ranked(np.stack([found.of_image, found.of_text[owner]], 1).astype(np.float32), owner.astype(np.float32))


def embedded(fit: Fit, batches: Batches) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """((P, E) of the pictures by their number, (N, E) of the captions)."""
    model, labels, size = fit.model, batches.pictures.labels, batches.batch_size
    assert isinstance(model, Towers)
    first = torch.from_numpy(np.unique(labels.numpy(), return_index=True)[1])  # a position of each picture
    with fit.precision():
        image = _through(model.pictures, lambda at: batches.shown(at, first[at]), len(first), size)
        text = _through(model.texts, batches.told, len(labels), size)
    return image, text


def _through(tower: Callable[[Tensor], Tensor], read: Callable[[Tensor], Tensor], count: int, size: int
             ) -> np.ndarray[Any, Any]:
    found = torch.cat([tower(read(at)) for at in _pieces(count, size)])
    held: np.ndarray[Any, Any] = found.float().cpu().numpy()
    return held


def _pieces(count: int, size: int) -> Iterator[Tensor]:
    for start in range(0, count, size):
        yield torch.arange(start, min(start + size, count))
