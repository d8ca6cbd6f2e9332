"""Trained weights apart from the backbone: the weight-decay rule, save and load, a merged copy, who owns how many.

A stored adapter is one safetensors file that holds only what was trained (and running statistics, where a backbone has
them), with a JSON header that says on which backbone and by which method, so that it cannot be loaded anywhere else.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .base import Adapter
from .vit import head_names

FORMAT = 1
PROMPTS = {"prompts", "prompt", "prompt_down", "prompt_up"}
SCALES = {"ia3_l", "boft_s", "randlora_gamma"}
_KEY = "regatta"


class StoredError(ValueError):
    """A stored adapter cannot be used here; the message is one sentence for the user."""


def no_decay(name: str, parameter: Tensor) -> bool:
    """Whether weight decay leaves the tensor alone: vectors (biases, norms, magnitudes, scales) and prompts.

    Zero is not the pre-trained value of a norm's weight, a scale or a magnitude: decay would pull away from it. Some
    tuners of peft keep their scales as matrices of one row or column, under `<name>.default`.
    """
    *_, before, last = ("", *name.split("."))
    return parameter.ndim <= 1 or last in PROMPTS or before in SCALES


@dataclass(frozen=True)
class Header:
    """What a stored adapter says of itself."""

    backbone: str  # timm name.tag
    backbone_hash: str  # sha256 of its weights, or "random"
    method: str  # canonical text with every option
    card: str  # name of the data set it was trained on
    classes: int
    format: int = FORMAT
    class_names: tuple[str, ...] = ()  # by label; what follows is there where these are known
    image_size: int = 0  # pixels on a side
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: str = ""  # how an image is brought to that size, as the run's spec says

    def written(self) -> dict[str, Any]:
        """What the file holds: the fields of the first format, and those that say something."""
        first = {"backbone", "backbone_hash", "method", "card", "classes", "format"}
        return {k: v for k, v in asdict(self).items() if k in first or v}


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Every trained weight by name, and the persistent buffers (a ResNet's running statistics move in training)."""
    kept = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = model.state_dict()
    return kept | {name: state[name] for name, _ in model.named_buffers() if name in state}


def save(path: Path, model: nn.Module, header: Header) -> int:
    """Write what was trained; the file appears whole or not at all. Returns its size in bytes."""
    tensors = {name: t.cpu().contiguous().clone() for name, t in trained(model).items()}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={_KEY: json.dumps(header.written(), sort_keys=True)})
    part.replace(path)
    return path.stat().st_size


def read_header(path: Path) -> Header:
    """The header alone; no tensor is read. Raises StoredError."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_KEY])
        listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(facts).items()}
        header = Header(**listed)
    except FileNotFoundError:
        raise StoredError(f"there is no stored adapter at {path}") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        raise StoredError(f"{path.name} is not a stored adapter of this benchmark, or it is damaged") from None
    if header.format != FORMAT:
        raise StoredError(f"{path.name} is stored in format {header.format}; this version reads format {FORMAT}")
    return header


@torch.no_grad()
def load(path: Path, model: nn.Module, *, backbone: str, backbone_hash: str, method: str) -> Header:
    """Put the stored weights into a model that the same method built on the same backbone. Raises StoredError.

    Nothing is written before everything has been checked, so a refusal leaves the model as it was.
    """
    header = read_header(path)
    if (header.backbone, header.backbone_hash) != (backbone, backbone_hash):
        raise StoredError(f"{path.name} was trained on {header.backbone} ({str(header.backbone_hash)[:12]}), "
                          f"not on {backbone} ({backbone_hash[:12]})")
    if header.method != method:
        raise StoredError(f"{path.name} was trained by {header.method}, not by {method}")
    wanted = trained(model)
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dictionary)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise StoredError(f"{path.name} is damaged: its tensors cannot be read ({type(error).__name__})") from None
    differing = sorted(wanted.keys() ^ stored.keys()) or [n for n in wanted if wanted[n].shape != stored[n].shape]
    if differing:
        raise StoredError(f"{path.name} does not fit the model: {len(differing)} weights differ, "
                          f"the first is {differing[0]!r}")
    for name, tensor in wanted.items():
        _judge(path.name, name, stored[name], tensor)
    for name, tensor in wanted.items():
        tensor.copy_(stored[name])
    return header


def _judge(file: str, name: str, stored: Tensor, wanted: Tensor) -> None:
    """Raises StoredError for a tensor of another type, or with values that no finished training leaves."""
    if stored.dtype != wanted.dtype:
        raise StoredError(f"{file} holds {name!r} as {str(stored.dtype).removeprefix('torch.')}, "
                          f"the model as {str(wanted.dtype).removeprefix('torch.')}")
    if not bool((stored.isfinite() | ~wanted.to(stored.device).isfinite()).all()):
        raise StoredError(f"{file} holds values in {name!r} that are not finite")


def merged_copy(adapter: Adapter, model: nn.Module) -> nn.Module:
    """A model that computes the same with the adapter folded in; the given one stays as it is."""
    return adapter.merge(copy.deepcopy(model))


@dataclass(frozen=True)
class Accounting:
    """Numbers of weights, counted on the live model."""

    trained_adapter: int
    trained_head: int
    trained_backbone: int
    total: int
    extra: int  # at inference, beside the backbone and the head
    extra_merged: int | None  # the same after merging; None when the adapter cannot be merged


def pretrained_sizes(backbone: nn.Module) -> dict[int, int]:
    """id(parameter) -> size, taken before an adapter is built; adapters keep the backbone's parameter objects."""
    return {id(p): p.numel() for p in backbone.parameters()}


def account(adapter: Adapter, model: nn.Module, pretrained: Mapping[int, int]) -> Accounting:
    """Who owns the weights; `pretrained` comes from `pretrained_sizes` of the plain backbone without a head."""
    head = head_names(model)
    named = dict(model.named_parameters())
    trains = {n: p.numel() for n, p in named.items() if p.requires_grad}
    in_head = sum(size for n, size in trains.items() if n in head)
    in_backbone = sum(size for n, size in trains.items() if n not in head and id(named[n]) in pretrained)
    total = sum(p.numel() for p in named.values())
    plain = sum(pretrained.values()) + sum(p.numel() for n, p in named.items() if n in head)
    after = None
    if adapter.mergeable:  # where nothing is folded the copy would be the model
        merged = model if type(adapter).merge is Adapter.merge else merged_copy(adapter, model)
        after = sum(p.numel() for p in merged.parameters()) - plain
    return Accounting(sum(trains.values()) - in_head - in_backbone, in_head, in_backbone, total, total - plain, after)
