"""Can this backbone carry this adapter, at this image size? Asked while planning, of a model without numbers.

Families are told by names, which is quick and right for the backbones that we know; timm has some 350 names in them,
and not every one is a plain ViT, Swin or ResNet. The model is built without memory, the adapter enters it, and two
images without numbers pass through: what cannot run is refused before a run begins. It takes some seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from methods import compose
from methods.base import Adapter
from methods.grammar import Choice, MethodError, MethodText, parse

from . import backbones
from .count import without_numbers
from .firstlook import built
from .forecast import make_fake
from .tokens import example

CLASSES = 3
TEXT_LENGTH = 8  # tokens of the texts that are passed through a text tower


def problems(name: str, methods: Iterable[MethodText], image_size: int) -> list[str]:
    """A sentence for the backbone, or one for every adapter that it cannot carry."""
    backbone = _plain(name, image_size)
    if backbone:
        return [backbone]
    adapters = {m.adapter: m.adapter.name for m in methods}
    return [problem for choice in adapters if (problem := _problem(name, choice, image_size))]


@cache
def _plain(name: str, image_size: int) -> str:
    """What is wrong with the backbone and a linear head alone, or nothing."""
    try:
        runs = _runs(name, _adapter(parse("linear").adapter), image_size)
    except backbones.BackboneError as error:
        return str(error)
    if runs:
        return ""
    try:
        made_for = backbones.image_size(name)
    except backbones.BackboneError:
        made_for = image_size
    if made_for != image_size:
        return f"backbone {name!r} takes images of {made_for} pixels, not of {image_size}; leave image_size out"
    return f"backbone {name!r} is no network of one feature vector per image with one linear head; use another one"


@cache
def _problem(name: str, choice: Choice, image_size: int) -> str:
    try:
        if _runs(name, _adapter(choice), image_size):
            return ""
    except MethodError as error:
        return f"{error} (backbone {name!r})"
    return (f"{choice.name!r} cannot run on {name!r}: building it, or passing images through it, fails on layers of "
            "this form; adapters that need a head alone: full, linear")


def _adapter(choice: Choice) -> Adapter:
    return compose.create(MethodText((choice,))).adapter


def _runs(name: str, adapter: Adapter, image_size: int) -> bool:
    """Whether two images without numbers become (2, CLASSES) logits. Raises BackboneError and MethodError."""
    def make() -> nn.Module | None:
        backbone = backbones.create(name, size=image_size)
        try:
            return built(adapter, backbone, CLASSES)
        except MethodError:
            raise
        except Exception:  # an adapter meets modules of a form that it was not written for
            return None

    model = without_numbers(make)
    if model is None:
        return False
    with FakeTensorMode(allow_non_fake_inputs=True):  # type: ignore[no-untyped-call]
        make_fake(model)
        try:
            out = model.train()(example(model, 2, image_size, TEXT_LENGTH))
        except (DataDependentOutputException, DynamicOutputShapeException):
            return True  # it reads numbers, of which there are none here
        except Exception:  # whatever timm's layers say to shapes that do not fit
            return False
    return isinstance(out, torch.Tensor) and tuple(out.shape) == (2, CLASSES)
