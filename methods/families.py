"""Which face a model has: every family that we know, asked in turn."""

from __future__ import annotations

from torch import nn

from .beit import BeitFace
from .convs import FACES as CONVOLUTIONAL
from .eva import EvaFace
from .face import Face
from .swin import SwinFace
from .swinv2 import SwinV2Face
from .vit import VitFace

FACES: tuple[type[Face], ...] = (VitFace, EvaFace, BeitFace, SwinFace, SwinV2Face, *CONVOLUTIONAL,
                                Face)  # the last one is of any model with a head


def face_of(model: nn.Module) -> Face:
    """The model's face; a side network's is that of the backbone that it reads."""
    read = getattr(model, "backbone", None)
    net = read if isinstance(read, nn.Module) else model
    return next(face for face in FACES if face.knows(net))(net)
