"""Backbones: timm models by name.tag, built, checked and loaded, with their own mean, std and size.

Nothing above `load` imports torch, so that planning and lists stay instant. Where weights lie is told by `located`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods import towers

from . import halves, known, packaged
from .known import DECODER, SHIPPED_TEXT, USUAL
from .known import DISTILLED as DISTILLED
from .known import EMBEDDED as EMBEDDED
from .known import EMBEDDED_TEXT as EMBEDDED_TEXT
from .known import FAMILIES as FAMILIES
from .known import KNOWN as KNOWN
from .known import PAIR as PAIR
from .known import SHIPPED as SHIPPED
from .known import TEXT as TEXT
from .known import BackboneError as BackboneError
from .known import decodes as decodes
from .known import family as family
from .known import is_text as is_text
from .known import plain as plain
from .known import tower_of as tower_of
from .located import Weights as Weights
from .located import both
from .located import find_weights as find_weights
from .located import tokenizer_file as tokenizer_file

if TYPE_CHECKING:
    from torch import nn


def image_size(name: str) -> int:
    """Pixels on a side, as timm's configuration of the name and its tag says; timm is imported unless we know it.

    Of a pair, its pictures'. Raises BackboneError where timm states no size, or one that is not square.
    """
    name = halves.image_of(name)
    if is_text(name):
        return 0
    if name in KNOWN:
        return SHIPPED[name][1] if name in SHIPPED else 224  # a test compares them with timm
    if name in packaged.WHEELS:
        return packaged.WHEELS[name].pixels
    cfg = _config(name)
    if cfg is None:
        raise BackboneError(f"timm states no image size for {name!r}; say it with --set image_size=PIXELS")
    _, height, width = cfg.input_size
    if height != width:
        raise BackboneError(f"backbone {name!r} is made for images of {height} x {width} pixels, and images here are "
                            "square; use another backbone")
    return int(height)


def _config(name: str) -> Any:
    """timm's configuration of a name and its tag, or None."""
    from timm.models import get_pretrained_cfg

    try:
        return get_pretrained_cfg(name)
    except RuntimeError:  # the name is there, the tag is not
        return None


def completed(name: str, folder: Path | None) -> str:
    """A text tower's full name: of a kind alone, what the folder's config.json says of it; others as they are.

    Raises BackboneError where name and folder contradict each other, or the folder's form is not built here.
    """
    if halves.is_pair(name):
        image, text = halves.parted(name)
        return halves.joined(image, completed(text, folder))
    if not is_text(name) or folder is None or name in packaged.TEXT_WHEELS or name in SHIPPED_TEXT:
        return name
    from .textfolder import described

    try:
        found = described(folder if folder.is_dir() else folder.parent)
        own, suffix = plain(name), DECODER if decodes(name) else ""
        if own in towers.USUAL and own != found.kind:
            raise towers.TowerError(f"{folder.name}/ holds a tower of kind {found.kind!r}, not {own!r}; say "
                                    f"--backbones {found.kind}")
        if own not in towers.USUAL and tower_of(own) != found:
            raise towers.TowerError(f"{folder.name}/ holds {towers.spelled(found)!r}, not {own!r}; say --backbones "
                                    f"{found.kind}{suffix}, which takes what the folder says")
    except towers.TowerError as error:
        raise BackboneError(str(error)) from None
    return towers.spelled(found) + suffix


def longest(name: str) -> int:
    """How many tokens of a text a tower reads: it has no more positions; of T5, whose positions are relative, any."""
    one = tower_of(name)
    return sys.maxsize if one.kind == "t5" else one.positions


def check_file(name: str, weights: Weights) -> None:
    """Read a file of weights and compare it with the model, before anything runs. Imports torch.

    Raises BackboneError saying what the file is and what to do.
    """
    if halves.is_pair(name) and weights.sha256 != "random":
        for half, found in zip(halves.parted(name), both(name, weights.file), strict=True):
            check_file(half, found)
        return
    if weights.file is not None and (problem := _file_problem(name, weights.file, weights.sha256)):
        raise BackboneError(problem)


@cache
def _file_problem(name: str, file: Path, sha256: str) -> str:
    import torch

    from .pretrained import PretrainedError, fitted

    try:
        given = _text_tensors(name, file) if is_text(name) else {}  # first, for it says whether to build at all
        with torch.device("meta"):
            model = create(name)
        if is_text(name):
            _text_state(name, file, given, model)
        else:
            fitted(file, model, name)
    except (BackboneError, PretrainedError) as error:
        return str(error)
    return ""


def check_name(name: str) -> None:
    """Refuse a name or a tag that timm does not have. Imports timm unless the name is one we know."""
    if halves.is_pair(name):
        image, text = halves.parted(name)
        if not image or is_text(image) or not is_text(text) or decodes(text):
            raise BackboneError(f"{name!r} is no pair of towers: the first reads pictures, the second texts, as "
                                "regatta_vit_64:minilm.package")
        check_name(image)
        check_name(text)
        return
    if name in KNOWN or name in packaged.WHEELS or name in packaged.TEXT_WHEELS:
        return
    if is_text(name):
        try:
            if tower_of(name).kind != "t5" and decodes(name):
                raise towers.TowerError(f"only t5 has a decoder here, not {plain(name)!r}; leave {DECODER} out")
        except towers.TowerError as error:
            raise BackboneError(str(error)) from None
        return
    from difflib import get_close_matches

    import timm

    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        every = [*KNOWN, *packaged.WHEELS, *packaged.TEXT_WHEELS, *towers.NAMED, *timm.list_models()]
        hits = known.spoken(name) or get_close_matches(name, every, n=3, cutoff=0.6)
        raise BackboneError(f"timm has no backbone {name!r}" + (f"; did you mean {' or '.join(hits)}?" if hits else ""))
    if tag and _config(name) is None:
        tags = timm.list_pretrained(f"{arch}.*")
        hits = get_close_matches(name, tags, n=3, cutoff=0.0)
        raise BackboneError(f"timm's {arch!r} has no weights {tag!r}" + (f"; there are {', '.join(hits)}" if hits else
                                                                         "; name it without a tag"))


def _text_tensors(name: str, file: Path) -> dict[str, Any]:
    from .textfolder import tensors

    return tensors(file, tower_of(name))


def _text_state(name: str, file: Path, given: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """A text checkpoint's tensors under the model's names. Raises BackboneError where one is lacking, odd or of
    another shape. Those in this repository have these names already."""
    from .textfolder import state

    try:
        found = {k: v.float() for k, v in given.items()} if name in SHIPPED_TEXT else state(
            given, tower_of(name), model, file, decodes(name))
    except towers.TowerError as error:
        raise BackboneError(f"{file.parent.name}/ does not fit backbone {name!r}: {error}") from None
    for key, own in model.state_dict().items():
        if found[key].shape != own.shape:
            raise BackboneError(f"{file.parent.name}/ does not fit backbone {name!r}: {key} is "
                                f"{tuple(found[key].shape)}, expected {tuple(own.shape)}")
    return found


@dataclass
class Backbone:
    """A model without a head, and what its inputs must look like."""

    model: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Weights
    adjusted: str = ""  # what was done to the file's weights before they fitted


def create(name: str, drop_path: float = 0.0, size: int = 0) -> nn.Module:
    """timm's model of the name for images of `size` pixels (0: its own), with fresh weights and a place for one head.

    On torch's default device. Raises BackboneError for a model whose classifier is no linear layer, and for a size
    that its patches do not fill.
    """
    from .heads import HeadError, one_linear

    if halves.is_pair(name):
        from methods.pair import Towers

        return Towers(create(halves.image_of(name), drop_path, size), create(halves.text_of(name), drop_path))
    if is_text(name):
        from methods import t5, text

        check_name(name)
        return (t5.built if decodes(name) else text.built)(towers.tower(plain(name)), drop_path)
    if name in SHIPPED:
        from bench.embedded import model as _registers  # noqa: F401
    model = _for_size(name, size, {"drop_path_rate": drop_path} if drop_path else {})
    _check_grid(name, model, size)
    try:
        one_linear(model, name)
    except HeadError as error:
        raise BackboneError(str(error)) from None
    return model


def _for_size(name: str, size: int, settings: dict[str, Any]) -> nn.Module:
    """Built for the size alone: a grid of patches that could change from batch to batch would be none to adapt.

    timm refuses a setting that an architecture lacks by a TypeError, before a random number is drawn. What takes no
    `img_size` (convolutions) takes images of any size.
    """
    import timm

    asked: list[dict[str, Any]] = [{"dynamic_img_size": False}] if family(name) in ("vit", "eva") else []
    asked += [{}]
    if size and size != _stated_size(name):
        asked = [{"img_size": size} | more for more in asked] + asked
    for more in asked[:-1]:
        try:
            return timm.create_model(packaged.plain(name), pretrained=False, num_classes=0, **settings, **more)
        except TypeError as error:
            if not any(setting in str(error) for setting in more):
                raise
        except (AssertionError, ValueError):  # timm's words for a window or a grid that does not fit
            raise BackboneError(f"backbone {name!r} cannot be built for images of {size} pixels; leave image_size "
                                "out") from None
    return timm.create_model(packaged.plain(name), pretrained=False, num_classes=0, **settings)


def _stated_size(name: str) -> int:
    try:
        return image_size(name)
    except BackboneError:
        return 0


def _check_grid(name: str, model: nn.Module, size: int) -> None:
    """Raises BackboneError for a size that is no whole number of patches: timm would leave the last pixels out."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    side = int(patch[0] if isinstance(patch, tuple) else patch) if patch else 1  # type: ignore[call-overload]
    if size % side:
        near = " or ".join(str(n) for n in (size // side * side, size // side * side + side) if n)
        raise BackboneError(f"backbone {name!r} takes images of {_stated_size(name) or 'its own number of'} pixels, "
                            f"not of {size}: its patches have {side} pixels, which {near} would fill; say so or leave "
                            "image_size out")


def other_size(name: str) -> int:
    """The size at which most papers use a backbone that was made for another one; 0 where there is none to name."""
    own, patch = _stated_size(name), re.search(r"patch(\d+)", name)
    fits = patch is not None and not USUAL % int(patch[1]) and family(name) in ("vit", "eva", "beit")
    return USUAL if fits and own not in (0, USUAL) else 0


def load(name: str, weights: Weights, drop_path: float = 0.0, size: int = 0) -> Backbone:
    """Build the model and load the weights, no head. The global random stream must have been seeded before.

    Positions of a file that was made for another size are resampled as timm does it.
    Raises BackboneError when the file does not fit the model, or holds anything but tensors.
    """
    from .pretrained import PretrainedError, fitted

    if halves.is_pair(name):
        return _load_both(name, weights, drop_path, size)
    model, adjusted = create(name, drop_path, size), ""
    if is_text(name):
        if weights.file is not None:
            given = _text_tensors(name, weights.file)
            model.load_state_dict(_text_state(name, weights.file, given, model))
            if decodes(name):
                from .wording import spoken

                model.speak(spoken(tokenizer_file(name, weights.file)))  # type: ignore[operator]
        return Backbone(model, name, (0.0,) * 3, (1.0,) * 3, weights)
    if weights.file is not None:
        try:
            state, adjusted = fitted(weights.file, model, name)
        except PretrainedError as error:
            raise BackboneError(str(error)) from None
        model.load_state_dict(state, strict=False)
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return Backbone(model, name, tuple(cfg["mean"]), tuple(cfg["std"]), weights, adjusted)


def _load_both(name: str, weights: Weights, drop_path: float, size: int) -> Backbone:
    """A pair, each tower with its own weights. Raises BackboneError where they are not those that were planned."""
    from methods.pair import Towers

    found = (weights, weights) if weights.sha256 == "random" else both(name, weights.file)
    if weights.sha256 not in ("random", halves.hash_of(*(one.sha256 for one in found))):
        raise BackboneError(f"the weights of {name!r} on this machine are others than the run's")
    image, text = (load(half, one, drop_path, pixels) for half, one, pixels in
                   zip(halves.parted(name), found, (size, 0), strict=True))
    return Backbone(Towers(image.model, text.model), name, image.mean, image.std, weights, image.adjusted)
