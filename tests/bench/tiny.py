"""A backbone and a data set so small that a run takes a fraction of a second; both live in memory alone.

`use()` registers them; a child process must call it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.models import generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

from bench.engine.where import Where
from datasets import registry
from datasets.card import Card, Item
from methods.grammar import parse
from results.schema import RunSpec

DATASET, MODEL = "tiny_test", "vit_regatta_tiny_test"
CLASSES, SIZE = 4, 16
COUNTS = {"train": 48, "val": 16, "trainval": 64, "test": 40}


@dataclass(frozen=True)
class Picture:
    """Noise of the class's brightness."""

    index: int
    label: int

    @property
    def name(self) -> str:
        return f"tiny/{self.index}"

    def open(self) -> Image.Image:
        noise = np.random.default_rng(self.index).integers(0, 90, (SIZE, SIZE, 3))
        return Image.fromarray((noise + 40 * self.label).astype(np.uint8))


def items(root: Path, split: str) -> list[Item]:
    start, stop = {"train": (0, 48), "val": (48, 64), "trainval": (0, 64), "test": (64, 104)}[split]
    return [Item(Picture(i, i % CLASSES), i % CLASSES) for i in range(start, stop)]


default_cfgs = generate_default_cfgs({MODEL: {
    "input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3, "classifier": "head"}})  # timm looks here


def use() -> None:
    """Register the data set and the backbone, once."""
    torch.set_num_threads(1)
    if DATASET not in registry.names("real"):
        registry.register(Card(DATASET, "Tiny", "real", CLASSES, COUNTS, "none", "none", "none", "", "nothing", items))
    if not timm.is_model(MODEL):
        globals()[MODEL] = _model
        register_model(_model)


def _model(pretrained: bool = False, **options: Any) -> VisionTransformer:
    size = dict(img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0, weight_init="jax")
    options = {k: v for k, v in options.items() if k in ("num_classes", "drop_path_rate")}
    model = VisionTransformer(**size | options)  # type: ignore[arg-type]
    model.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # type: ignore[assignment]
    return model


_model.__name__, _model.__module__ = MODEL, __name__


def spec(method: str = "lora", **changes: Any) -> RunSpec:
    """Four batches per epoch, five epochs."""
    text = parse(method)
    values: dict[str, Any] = dict(
        dataset=DATASET, model=MODEL, method=text.name, options=text.options, seed=0, epochs=5, batch_size=16,
        eval_batch_size=20, lr=3e-3, weight_decay=1e-4, warmup_epochs=1, image_size=SIZE, augment="none",
        normalise="native", precision="fp32", phase="final", select="last", data=f"shipped:{DATASET}",
        weights="random", optimizer="adamw", schedule="cosine", clip=1.0, drop_path=0.1, head_lr_scale=1.0,
        drop_last=False, attention="fused", threads=1, holdout=0.2)
    return RunSpec(**values | changes)


def where(folder: Path, **changes: Any) -> Where:
    """Nothing outside `folder`; a checkpoint after every step."""
    values: dict[str, Any] = dict(data_root=folder, cache_root=None, weights_file=None,
                                  checkpoints=folder / "checkpoints", checkpoint_every_s=0.0)
    return Where(**values | changes)


def forget() -> None:
    """Other tests count the data sets."""
    registry._cards.pop(DATASET, None)
    registry._aliases.pop(DATASET, None)
