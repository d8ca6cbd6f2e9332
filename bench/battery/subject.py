"""What the battery tries a part on: a small ViT with random weights, a few images, and the Fit that the loop lends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Adapter, Batch, Fit
from methods.compose import Method, create
from methods.grammar import parse
from methods.vit import head_names

SIZE, WIDTH, DEPTH, CLASSES = 32, 48, 3, 5


def network(seed: int = 0, **settings: Any) -> nn.Module:
    """A plain ViT of 32 x 32 pixels, 17 tokens, width 48, three blocks; biases and norms away from 0 and 1."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(seed)
    plain = {"img_size": SIZE, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 3, "num_classes": 0}
    model = VisionTransformer(**plain | settings)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05)
            if isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight, mean=1.0, std=0.05)
    return model


def batch(count: int = 6, seed: int = 2) -> Batch:
    """Random images; the labels go round."""
    x = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.arange(count) % CLASSES, torch.arange(count))


def adapter_of(text: str) -> Adapter:
    return create(parse(text)).adapter


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def scramble(model: nn.Module, spread: float = 0.1) -> None:
    """Move every trained weight, as if training had."""
    generator = torch.Generator().manual_seed(3)
    for p in trained(model).values():
        p.add_(spread * torch.randn(p.shape, generator=generator))


@torch.no_grad()
def features(model: nn.Module, x: Tensor) -> Tensor:
    """(B, D) what the head reads, in eval mode."""
    seen: list[Tensor] = []
    hook = model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore
    try:
        model.eval()
        model(x)
    finally:
        hook.remove()
    return seen[0]


def _held() -> Iterator[Batch]:
    while True:
        yield batch(5, seed=6)


def lent(text: str, seed: int = 1) -> tuple[Method, Fit]:
    """A method built on the network, prepared and attached, with what the loop would lend it."""
    method, backbone = create(parse(text)), network()
    pretrained = {id(p) for p in backbone.parameters()}
    torch.manual_seed(seed)
    model = method.adapter.build(backbone, CLASSES)
    trains = trained(model)
    head = head_names(model) & trains.keys()
    anchor = {n: p.detach().clone() for n, p in trains.items() if id(p) in pretrained and n not in head}
    fit = Fit(model=model, trainable=trains, head=head, anchor=anchor | method.adapter.anchors(model), holdout=_held(),
              steps=12, steps_per_epoch=4, warmup_steps=0, seed=seed, classes=CLASSES, train_size=24,
              mean=torch.zeros(3), std=torch.ones(3), lr=1e-2, weight_decay=0.0, adapter=method.adapter)
    method.prepare(fit, [batch(20, seed=7)])
    method.attach(fit)
    return method, fit


def optimizer_of(fit: Fit) -> torch.optim.Optimizer:
    return torch.optim.AdamW(fit.trainable.values(), lr=fit.lr, weight_decay=0.0)


def take(method: Method, fit: Fit, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """One step of the loop; the terms of its loss."""
    fit.model.train()
    optimizer.zero_grad()
    terms = method.grads(fit, batch())
    optimizer.step()
    method.after_step(fit)
    fit.step += 1
    return terms
