"""Tiny random text towers, one of each kind, and texts of different lengths for them."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.text import TextTransformer, built
from methods.towers import Tower

TOWERS = {"bert": Tower("bert", 3, 48, 4, 96, 60, 40, 0, 3, "gelu", "first"),
          "minilm": Tower("bert", 3, 48, 4, 96, 60, 40, 0, 3, "gelu", "mean"),
          "t5": Tower("t5", 3, 48, 4, 96, 60, 40, 0, 1, "relu", "mean"),
          "clip_text": Tower("clip_text", 3, 48, 4, 96, 60, 40, 59, 59, "quick_gelu", "end")}
LENGTHS = (12, 9, 5, 3)


def tiny_text(kind: str, seed: int = 0) -> TextTransformer:
    """Forty tokens at most, width 48, three blocks; every weight away from where it starts."""
    torch.manual_seed(seed)
    net = built(TOWERS[kind])
    with torch.no_grad():
        for p in net.parameters():
            p.add_((0.05 if p.ndim == 1 else 0.1) * torch.randn_like(p))
    return net


def texts(kind: str, length: int = 12, seed: int = 1) -> Tensor:
    """(4, length) token numbers, the texts' own lengths LENGTHS, padded; BERT's third token is a separator."""
    tower, generator = TOWERS[kind], torch.Generator().manual_seed(seed)
    ids = torch.full((len(LENGTHS), length), tower.pad)
    ids[:, :max(LENGTHS)] = torch.randint(4, 58, (len(LENGTHS), max(LENGTHS)), generator=generator)
    for row, own in zip(ids, LENGTHS, strict=True):
        row[own:] = tower.pad
        if kind == "clip_text":
            row[own - 1] = tower.mark
    if tower.kind == "bert":
        ids[:, 2] = tower.mark
    return ids
