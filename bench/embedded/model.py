"""The small vision transformers that live in the repository, registered with timm: patches of 8, a class token.

`regatta_vit_48`: 48x48 pixels, width 96, six blocks, three heads, 0.7 M weights, pre-trained on drawn scenes.
`regatta_vit_64`: 64x64 pixels, of the same width, distilled from EfficientNet-Lite0 on real pictures.
Weights are stored as fp16 beside this file and used as fp32. Xavier weights and sine-cosine positions replace timm's
defaults, which are made for width 768 and learn visibly slower at width 96.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

NAME = "regatta_vit_48"
IMAGE_SIZE = 48
PATCH_SIZE = 8
WIDTH = 96
POSITION_AMPLITUDE = 0.5


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of a backbone; `file` holds its weights, beside this file."""

    name: str
    file: str
    image_size: int
    width: int
    depth: int
    heads: int

    def build(self, num_classes: int = 0, **settings: Any) -> VisionTransformer:
        """The backbone with fresh weights; settings go to timm's VisionTransformer."""
        for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "in_chans"):
            settings.pop(key, None)
        shape = {"img_size": self.image_size, "patch_size": PATCH_SIZE, "embed_dim": self.width, "depth": self.depth,
                 "num_heads": self.heads}
        model = VisionTransformer(num_classes=num_classes, weight_init="jax", **{**shape, **settings})
        assert model.pos_embed is not None
        model.pos_embed.data.copy_(sine_cosine_positions(model.patch_embed.grid_size[0], self.width))
        if isinstance(model.head, nn.Linear):
            nn.init.zeros_(model.head.weight)
            nn.init.zeros_(model.head.bias)
        size = (3, self.image_size, self.image_size)
        facts = {**PRETRAINED_CFG, "input_size": size, "architecture": self.name}
        vars(model).update(pretrained_cfg=facts, default_cfg=facts)  # where timm's own models keep them
        return model


DRAWN = Shape(NAME, "weights.safetensors", IMAGE_SIZE, WIDTH, 6, 3)
DISTILLED = Shape("regatta_vit_64", "distilled.safetensors", 64, 96, 6, 3)

PRETRAINED_CFG: dict[str, Any] = {
    "url": "",
    "fixed_input_size": True,
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "num_classes": 0,
    "pool_size": None,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}


def weights_path(shape: Shape | None = None) -> Path:
    """Where the shipped weights lie; their facts lie beside them with the suffix `.json`."""
    return Path(__file__).with_name((shape or DRAWN).file)


def sidecar(weights: Path | None = None) -> dict[str, Any]:
    """What is known of a weights file: its sha256, how it was made, what it had learnt."""
    return json.loads((weights or weights_path()).with_suffix(".json").read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sine_cosine_positions(grid: int, width: int) -> Tensor:
    """Fixed 2-d positions as a starting point: () -> (1, 1 + grid * grid, width), zero for the class token."""
    quarter = width // 4
    wavelengths = torch.exp(torch.linspace(0.0, math.log(100.0), quarter))
    phase = torch.arange(grid, dtype=torch.float32)[:, None] * (math.pi / wavelengths)[None, :]  # (grid, quarter)
    wave = torch.cat([phase.sin(), phase.cos()], dim=1)  # (grid, width / 2)
    rows = wave[:, None, :].expand(grid, grid, -1)
    columns = wave[None, :, :].expand(grid, grid, -1)
    patches = torch.cat([rows, columns], dim=2).reshape(1, grid * grid, width)
    return POSITION_AMPLITUDE * torch.cat([torch.zeros(1, 1, width), patches], dim=1)


def load_backbone(model: VisionTransformer, weights: Path) -> None:
    """Put a weights file into the model; a head of the model's own, if it has one, keeps its start values."""
    stored = {name: value.float() for name, value in load_file(weights).items()}
    missing, unexpected = model.load_state_dict(stored, strict=False)
    foreign = [name for name in missing if not name.startswith("head.")]
    if foreign or unexpected:
        raise ValueError(f"{weights.name} does not fit the backbone: missing {foreign}, unexpected {unexpected}")


def _made(shape: Shape, pretrained: bool, num_classes: int, settings: dict[str, Any]) -> VisionTransformer:
    model = shape.build(num_classes, **settings)
    if pretrained:
        load_backbone(model, weights_path(shape))
    return model


@register_model
def regatta_vit_48(pretrained: bool = False, num_classes: int = 0, **settings: Any) -> VisionTransformer:
    """The backbone under the name that `timm.create_model` knows; settings go to timm's VisionTransformer."""
    return _made(DRAWN, pretrained, num_classes, settings)


@register_model
def regatta_vit_64(pretrained: bool = False, num_classes: int = 0, **settings: Any) -> VisionTransformer:
    """The distilled backbone, likewise."""
    return _made(DISTILLED, pretrained, num_classes, settings)


def create(pretrained: bool = True, num_classes: int = 0) -> VisionTransformer:
    """The backbone with (or without) its shipped weights; images (B, 3, 48, 48) scaled to -1..1 -> (B, 96)."""
    return regatta_vit_48(pretrained=pretrained, num_classes=num_classes)
