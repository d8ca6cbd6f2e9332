"""Backbones: timm models by name.tag, their weights pinned by hash, their own mean, std and size.

Nothing above `load` imports torch, so that planning and lists stay instant. Weights come from timm's local cache or
from a file; the network is touched only when the user says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

EMBEDDED = "regatta_vit_48"
FAMILIES = {"vit": ("regatta_vit", "vit_", "deit", "test_vit", "beit", "eva"), "swin": ("swin_",),
            "resnet": ("resnet", "resnext", "test_resnet")}
KNOWN = {
    EMBEDDED: "small ViT with weights in this repository, pre-trained on generated scenes; runs anywhere",
    "vit_base_patch16_224.augreg_in21k": "ViT-B/16, ImageNet-21k, AugReg: the harness's default for real data",
    "vit_base_patch16_224.orig_in21k": "ViT-B/16, ImageNet-21k, original weights: what most papers used",
    "vit_large_patch16_224.augreg_in21k": "ViT-L/16, ImageNet-21k, AugReg",
    "vit_small_patch16_224.augreg_in21k": "ViT-S/16, ImageNet-21k, AugReg",
    "vit_tiny_patch16_224.augreg_in21k": "ViT-Ti/16, ImageNet-21k, AugReg",
    "swin_base_patch4_window7_224.ms_in22k": "Swin-B, ImageNet-22k",
    "resnet50.a1_in1k": "ResNet-50, ImageNet-1k",
}


class BackboneError(ValueError):
    """No such backbone, or its weights are not here; one sentence for the user."""


@dataclass(frozen=True)
class Weights:
    """What to load: a file with its hash, or random initialisation (`file` is None)."""

    file: Path | None
    sha256: str  # or "random"


def family(name: str) -> str:
    """vit, swin, resnet, or the name itself where we know nothing about it."""
    for known, prefixes in FAMILIES.items():
        if name.startswith(prefixes):
            return known
    return name.partition(".")[0]


def image_size(name: str) -> int:
    """Pixels on a side: the embedded backbone's 48, else what the timm name says, else 224."""
    if name == EMBEDDED:
        return 48
    sizes = [int(w) for w in name.partition(".")[0].split("_") if w.isdigit() and 32 <= int(w) <= 1024]
    return sizes[-1] if sizes else 224


def find_weights(name: str, file: Path | None = None, random: bool = False, download: bool = False) -> Weights:
    """Locate the weights without loading them. Raises BackboneError saying where they should lie."""
    if random:
        return Weights(None, "random")
    if name == EMBEDDED:
        path: Path | None = Path(__file__).parents[1] / "embedded" / "weights.safetensors"
    elif file is not None:
        path = file
    else:
        path = _cached(name)
        if path is None and download:
            path = _download(name)
    if path is None or not path.is_file():
        raise BackboneError(
            f"the weights of backbone {name!r} are not on this machine"
            + (f" ({file} does not exist)" if file else f" (looked in {_hub().name}/{_folder(name)})")
            + "; give --weights FILE (safetensors, or a checkpoint of tensors), allow --download, or train on random "
            "weights with --no-pretrained")
    return Weights(path, _file_hash(path, path.stat().st_size, path.stat().st_mtime_ns))


def _hub() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _folder(name: str) -> str:
    return f"models--timm--{name}"


def _cached(name: str) -> Path | None:
    """timm's copy in the hub's cache, the newest when there are several."""
    found = [p for kind in ("model.safetensors", "pytorch_model.bin") for p in
             _hub().glob(f"{_folder(name)}/snapshots/*/{kind}")]
    return max(found, key=lambda p: p.stat().st_mtime) if found else None


def _download(name: str) -> Path | None:
    from huggingface_hub import hf_hub_download  # timm depends on it

    try:
        return Path(hf_hub_download(f"timm/{name}", "model.safetensors"))
    except Exception as error:
        raise BackboneError(f"the weights of {name!r} could not be downloaded: {type(error).__name__}") from None


@cache
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_name(name: str) -> None:
    """Refuse a name that timm does not have. Imports timm unless the name is one we know."""
    if name in KNOWN:
        return
    from difflib import get_close_matches

    import timm

    if timm.is_model(name.partition(".")[0]):
        return
    hits = get_close_matches(name, [*KNOWN, *timm.list_models()], n=3, cutoff=0.6)
    raise BackboneError(f"timm has no backbone {name!r}" + (f"; did you mean {' or '.join(hits)}?" if hits else ""))


@dataclass
class Backbone:
    """A model without a head, and what its inputs must look like."""

    model: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    weights: Weights


def load(name: str, weights: Weights, drop_path: float = 0.0) -> Backbone:
    """Build the model and load the weights, no head. The global random stream must have been seeded before.

    Raises BackboneError when the file does not fit the model, or holds anything but tensors.
    """
    import timm

    kwargs: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    if name == EMBEDDED:
        from bench.embedded import model as _registers  # noqa: F401
    model = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
    if weights.file is not None:
        _fill(model, weights.file, name)
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return Backbone(model, name, tuple(cfg["mean"]), tuple(cfg["std"]), image_size(name), weights)


def _fill(model: nn.Module, file: Path, name: str) -> None:
    """Load a file of tensors: safetensors, or a torch checkpoint read with weights_only."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from timm.models import vision_transformer

    try:
        state: dict[str, Any]
        if file.suffix == ".safetensors":
            state = dict(load_file(file))
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise BackboneError(f"{file.name} is no file of tensors: {str(error).splitlines()[0][:120]}") from None
    state = state.get("state_dict", state.get("model", state))
    if family(name) == "vit" and hasattr(vision_transformer, "checkpoint_filter_fn"):
        state = vision_transformer.checkpoint_filter_fn(state, model)  # type: ignore[arg-type, assignment]
    state = {k: v for k, v in state.items() if not k.startswith(("head.", "fc.", "head_dist."))}
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    if missing or unexpected:
        odd = [*missing, *unexpected][0]
        raise BackboneError(f"{file.name} does not fit {name!r}: {len(missing)} weights are missing and "
                            f"{len(unexpected)} unknown, first {odd!r}")
