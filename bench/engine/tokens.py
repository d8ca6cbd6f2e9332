"""Stored token numbers as batches; an example of what a model takes. Stands where `feeding.Normaliser` does for pixels.

There is no arithmetic in it: numbers are taken by row and become int64 on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.pair import Inputs, Towers
from methods.text import TextTransformer

from .feeding import Normaliser


class Tokens:
    """int32 (N, L) on the host -> int64 (B, L) on the device; `mean` and `std` say that nothing is normalised."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mean, self.std = torch.zeros(3, device=device), torch.ones(3, device=device)

    def __call__(self, raw: Tensor) -> Tensor:
        """(B, L) whole numbers -> the same on the device."""
        return self.upload(raw).long()

    def upload(self, small: Tensor) -> Tensor:
        """The same on the device, as `feeding.Normaliser.upload`."""
        return small if self.device.type == "cpu" else small.pin_memory().to(self.device, non_blocking=True)

    def rows(self, numbers: np.ndarray[Any, Any], rows: Tensor) -> Tensor:
        """(N, L) and positions (B,) -> (B, L)."""
        return self(torch.from_numpy(numbers[rows.numpy()]))


class Couples:
    """Pictures normalised beside token numbers, for pairs."""

    def __init__(self, pictures: Normaliser) -> None:
        self.pictures, self.texts = pictures, Tokens(pictures.device)
        self.device, self.mean, self.std = pictures.device, pictures.mean, pictures.std

    def upload(self, small: Tensor) -> Tensor:
        """The same on the device."""
        return self.pictures.upload(small)


def tower_of(model: nn.Module) -> TextTransformer | None:
    """The text tower in a model, a side network's among them; None where it reads pictures."""
    net = getattr(model, "backbone", model)
    return net if isinstance(net, TextTransformer) else None


def example(model: nn.Module, count: int, image_size: int, text_length: int) -> Any:
    """Inputs that the model takes, of the run's size: (count, L) token numbers, pictures of zeros, or both."""
    if isinstance(model, Towers):
        return Inputs(example(model.image, count, image_size, 0), example(model.text, count, 0, text_length))
    tower = tower_of(model)
    if tower is not None:
        return tower.example(count, text_length)
    return torch.zeros(count, 3, image_size, image_size, device=next(model.parameters()).device)
