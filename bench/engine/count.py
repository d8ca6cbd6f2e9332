"""How many weights a method trains on a backbone: counted from the live model, built without memory where it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from methods import compose
from methods.grammar import MethodText, NeedsNumbers
from methods.pair import WIDTH
from methods.vit import head_names

from . import backbones
from .firstlook import built

M = TypeVar("M")


def without_numbers(make: Callable[[], M]) -> M:
    """What `make` builds, on the meta device; with numbers, drawn apart, where an adapter reads them."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make()
        except NeedsNumbers:
            return make()


def trained_weights(method: MethodText, backbone: str, classes: int) -> tuple[int, int]:
    """(without the head, of the head)."""
    backbones.check_name(backbone)
    if backbones.family(backbone) == backbones.PAIR:
        classes = WIDTH
    model = without_numbers(lambda: built(compose.create(method).adapter, backbones.create(backbone), classes))
    head = head_names(model)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    return sum(n for name, n in trained.items() if name not in head), sum(n for x, n in trained.items() if x in head)
