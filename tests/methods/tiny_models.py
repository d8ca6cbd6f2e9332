"""Tiny backbones and adapters built on them, shared by the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from methods.base import Adapter
from methods.catalog import catalog
from methods.compose import create
from methods.grammar import parse

CLASSES = 5
ADAPTERS = [info.name for info in catalog().values() if info.kind == "adapter" and "vit" in info.families]
ON_SWIN = [name for name in ADAPTERS if "swin" in catalog()[name].families]


def tiny_vit(seed: int = 0, **settings: Any) -> VisionTransformer:
    """32 x 32 pixels, 16 patches, width 48, three blocks, biases that are not zero."""
    torch.manual_seed(seed)
    model = VisionTransformer(**{"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3,
                                 "num_classes": 0, "weight_init": "jax"} | settings)
    return _with_biases(model)


def tiny_swin(seed: int = 0, **settings: Any) -> SwinTransformer:
    """32 x 32 pixels, 16 x 16 patches, two stages of two blocks, shifted windows of 4."""
    torch.manual_seed(seed)
    model = SwinTransformer(**{"img_size": 32, "patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4),
                               "window_size": 4, "num_classes": 0} | settings)
    return _with_biases(model)


def _with_biases(model: Any) -> Any:
    """Biases and norms away from 0 and 1, so that forgetting one shows; timm starts them there."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.05)
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1.0, std=0.05)
    return model


def adapted(text: str, backbone: nn.Module, seed: int = 1) -> tuple[Adapter, nn.Module]:
    torch.manual_seed(seed)
    adapter = create(parse(text)).adapter
    return adapter, adapter.build(backbone, CLASSES)


def images(count: int = 4, size: int = 32, seed: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def scramble(model: nn.Module, seed: int = 3, spread: float = 0.1) -> None:
    """Move every trained weight, as if training had."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(spread * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def features(model: nn.Module, x: Tensor) -> Tensor:
    """What the head reads, so that models with different heads can be compared."""
    model.eval()
    seen: list[Tensor] = []
    handle = model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def step(model: nn.Module, steps: int = 3, lr: float = 1e-2, decay: float = 0.0) -> list[float]:
    """AdamW on one toy batch; the loss before each step and after the last, in the model's present mode."""
    x, y = images(8), torch.arange(8) % CLASSES
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=lr, weight_decay=decay)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x.to(dtype)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, nn.functional.cross_entropy(model(x.to(dtype)), y).item()]
