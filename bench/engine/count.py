"""How many weights a method trains on a backbone: counted from the live model, built without memory."""

from __future__ import annotations

import torch

from methods import compose
from methods.grammar import MethodText
from methods.vit import head_names

from . import backbones
from .firstlook import built


def trained_weights(method: MethodText, backbone: str, classes: int) -> tuple[int, int]:
    """(without the head, of the head)."""
    backbones.check_name(backbone)
    with torch.device("meta"):
        model = built(compose.create(method).adapter, backbones.create(backbone), classes)
    head = head_names(model)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    return sum(n for name, n in trained.items() if name not in head), sum(n for x, n in trained.items() if x in head)
