"""Which training images are kept aside for what a part chooses by (TPGM's radii, say), and which make a fold."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from results.schema import RunSpec

from .pictures import Pictures
from .seeds import generator
from .transforms import evaluation


def as_scored(pictures: Pictures, spec: RunSpec) -> Pictures:
    """The same pictures as something that scores sees them: as an evaluation does, where the spec says so."""
    return replace(pictures, augment=evaluation(pictures.augment)) if spec.held_as == "evaluation" else pictures


def hold_out(train: Pictures, spec: RunSpec, wanted: bool) -> tuple[Pictures, Pictures | None]:
    """(what is trained on, a seeded, class-balanced share that is kept aside where one is wanted)."""
    if not wanted:
        return train, None
    rows = stratified(train.labels, spec.holdout, spec.seed)
    inside = set(rows)
    return train.take([i for i in range(len(train)) if i not in inside]), as_scored(train.take(rows), spec)


def stratified(labels: Tensor, share: float, seed: int, part: int = 0) -> list[int]:
    """Positions of a seeded share of a list, balanced over classes (of scores: over their whole numbers).

    At least one in all; `part` takes the n-th such share.
    """
    shuffled = torch.randperm(len(labels), generator=generator(seed, "holdout")).tolist()
    by_class: dict[int, list[int]] = {}
    for position in shuffled:
        by_class.setdefault(round(float(labels[position])), []).append(position)
    ordered = [p for rank in range(max(map(len, by_class.values()))) for c in sorted(by_class)
               for p in by_class[c][rank:rank + 1]]
    count = max(1, round(share * len(labels)))
    # Ranks are dealt class by class, so that every window of this order is as balanced as it can be.
    return sorted(ordered[part * count:(part + 1) * count])
