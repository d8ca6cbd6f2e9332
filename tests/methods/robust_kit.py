"""A toy network with every kind of tensor, a tiny ResNet, and a small training loop, for the tests of constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from methods.base import Batch, Fit
from methods.compose import Method, create
from methods.grammar import parse
from methods.vit import head_names

CLASSES = 5


class Toy(nn.Module):
    """Convolution, tokens with class token and positions, linear, LayerNorm, dropout, a scalar, a head. Float64."""

    num_features = 7

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 6))
        self.fc = nn.Linear(6, 7)
        self.norm = nn.LayerNorm(7)
        self.drop = nn.Dropout(0.2)
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.head = nn.Identity()
        self.double()

    def reset_classifier(self, classes: int) -> None:
        self.head = nn.Linear(7, classes).double()

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        t = self.conv(self.bn(x)).flatten(2).mT  # (B, 16, 6)
        t = torch.cat([self.cls_token.expand(len(x), -1, -1), t], dim=1) + self.pos_embed
        return self.drop(self.norm(torch.tanh(self.fc(t)))) * self.scale

    def forward_head(self, t: Tensor, pre_logits: bool = False) -> Tensor:
        return t.mean(1) if pre_logits else self.head(t.mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def tiny_resnet(seed: int = 0) -> ResNet:
    """Bottlenecks (1, 1, 1, 3), 32 x 32 pixels, statistics that are not 0 and 1."""
    torch.manual_seed(seed)
    model = ResNet(Bottleneck, (1, 1, 1, 3), num_classes=0, stem_width=8, channels=(8, 16, 24, 32))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, mean=1.0, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model


def data(count: int, size: int = 8, seed: int = 5, dtype: torch.dtype = torch.float64) -> Batch:
    """Random images, each with a faint pattern of its class, so that there is something to learn."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % CLASSES
    patterns = torch.randn(CLASSES, 3, size, size, generator=torch.Generator().manual_seed(99), dtype=dtype)
    x = torch.randn(count, 3, size, size, generator=g, dtype=dtype) + 0.5 * patterns[y]
    return Batch(x, y, torch.arange(count))


class Endless:
    """An endless iterator with a position that can be stored; it draws from no global generator."""

    def __init__(self, source: Batch, size: int) -> None:
        self.source, self.size, self.position = source, size, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        rows = torch.arange(self.position, self.position + self.size) % len(self.source.y)
        self.position = (self.position + self.size) % len(self.source.y)
        return Batch(*(t[rows] for t in self.source))


def setup(text: str, backbone: nn.Module, size: int = 8, seed: int = 1, **fields: Any) -> tuple[Method, Fit]:
    """The method on the backbone and the Fit that the training loop would lend it; parts are attached."""
    method = create(parse(text))
    dtype = next(backbone.parameters()).dtype
    pretrained = {id(p) for p in backbone.parameters()}
    torch.manual_seed(seed)
    model = method.adapter.build(backbone, CLASSES)
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    head = head_names(model) & trainable.keys()
    anchor = {n: p.detach().clone() for n, p in trainable.items() if id(p) in pretrained and n not in head}
    held = Endless(data(15, size, seed=6, dtype=dtype), 5)
    settings: dict[str, Any] = {"steps": 20, "steps_per_epoch": 4, "warmup_steps": 0, "seed": seed, "classes": CLASSES,
                                "train_size": 40, "mean": torch.zeros(3), "std": torch.ones(3), "lr": 1e-2,
                                "weight_decay": 0.0, "image_size": size}
    fit = Fit(model=model, trainable=trainable, head=head, anchor=anchor | method.adapter.anchors(model), holdout=held,
              adapter=method.adapter, **(settings | fields))
    method.prepare(fit, [data(20, size, seed=7, dtype=dtype)])
    method.attach(fit)
    return method, fit


def optimizer_of(fit: Fit, kind: str = "adamw") -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(fit.trainable.values(), lr=fit.lr, weight_decay=fit.weight_decay)
    return torch.optim.SGD(fit.trainable.values(), lr=fit.lr, momentum=0.9, nesterov=True, foreach=False)


def train(method: Method, fit: Fit, steps: int, optimizer: torch.optim.Optimizer | None = None,
          each: Callable[[], None] | None = None, size: int = 8) -> torch.optim.Optimizer:
    """The loop's step protocol; `each` is called after every step."""
    optimizer = optimizer or optimizer_of(fit)
    source = Endless(data(40, size, dtype=next(fit.model.parameters()).dtype), 10)
    source.position = fit.step * 10 % 40
    fit.model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        method.grads(fit, next(source))
        optimizer.step()
        method.after_step(fit)
        fit.step += 1
        if each is not None:
            each()
    return optimizer


def weights(fit: Fit) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in fit.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def task_loss(fit: Fit, batch: Batch) -> Tensor:
    return F.cross_entropy(fit.forward(batch.x), batch.y)
