"""How hard the stand-ins are for the embedded backbone: a linear probe on cached features, pre-trained and random.

    python -m tests.datasets.difficulty [--weights FILE] [--lora] [NAME ...]

Trains on `train` and scores `val` together with the test pictures of another seed, so that the stand-ins are never
tuned on the pictures that the demo reports. Columns in percent: chance, mean colour alone (logistic regression), random
weights, pre-trained weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets import registry
from datasets.images import ImageList
from datasets.standins.task import SIZES
from datasets.standins.writer import has_standin, render

THROWAWAY = 1  # seed of the pictures that gates are judged on
EPOCHS, RATE = 60, 1e-2


def pictures(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """train images and labels, judging images and labels: (N, 3, 48, 48) in -1..1."""
    if has_standin(name):
        ours, other = render(name), render(name, THROWAWAY)
        train, judge = ours["train"], ours["val"] + other["val"] + other["test"]
    else:
        card = registry.get(name)
        train, judge = (
            [(np.asarray(s.image), s.label) for s in ImageList(card.items(Path(), split), as_array=True)]
            for split in ("train", "val")
        )

    def batch(found: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
        x = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in found]).float()
        x = F.interpolate(x, (48, 48), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)
        return x / 127.5 - 1, torch.tensor([label for _, label in found])

    return *batch(train), *batch(judge)


def fit_head(features: Tensor, y: Tensor, classes: int, seed: int = 0) -> nn.Linear:
    """A zero-started linear layer: AdamW, warm-up and cosine, batches of 8, features as they are."""
    head = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    steps = EPOCHS * (len(y) // 8)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y), generator=generator)[: len(y) // 8 * 8].view(-1, 8):
            optimizer.zero_grad()
            F.cross_entropy(head(features[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return head


@torch.no_grad()
def features_of(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(64)])


def probe(train: Tensor, y: Tensor, judge: Tensor, truth: Tensor, classes: int) -> float:
    head = fit_head(train, y, classes)
    return (head(judge).argmax(1) == truth).float().mean().item() * 100


class Low(nn.Module):
    """A fused qkv with a rank-4 update, as the demo's LoRA."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base, self.a, self.b = (
            base,
            nn.Linear(base.in_features, 4, bias=False),
            nn.Linear(4, base.out_features, bias=False),
        )
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def lora(model: Any, x: Tensor, y: Tensor, judge: Tensor, truth: Tensor, classes: int, rate: float = 5e-3) -> float:
    """Ten epochs of LoRA on q, k and v, batches of 8."""
    model.requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv = Low(block.attn.qkv)
    head = nn.Linear(96, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    trained = [p for n, p in model.named_parameters() if ".a." in n or ".b." in n]
    for weight in trained:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": trained, "lr": rate}, {"params": head.parameters(), "lr": 1e-2}], weight_decay=1e-4
    )
    steps = 10 * (len(y) // 8)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [rate, 1e-2], steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for rows in torch.randperm(len(y), generator=generator)[: len(y) // 8 * 8].view(-1, 8):
            optimizer.zero_grad()
            F.cross_entropy(head(model(x[rows])), y[rows]).backward()
            nn.utils.clip_grad_norm_([*trained, *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (head(features_of(model, judge)).argmax(1) == truth).float().mean().item() * 100


def main() -> None:
    from bench.embedded.model import create, load_backbone

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = create(pretrained=False).eval()
    trained = create(pretrained=options.weights is None).eval()
    if options.weights:
        load_backbone(trained, options.weights)
    ahead = 0
    names = options.names or [
        card.name for card in registry.cards("natural", "specialized", "structured", "fgvc", "imagenet", "real")
    ]
    print(f"{'set':22}{'kinds':>6}{'chance':>8}{'colour':>8}{'random':>8}{'linear':>8}{'lora':>8}{'s':>6}")
    for name in names:
        started = time.perf_counter()
        x, y, judge, truth = pictures(name)
        kinds, y = y.unique(return_inverse=True)
        truth = torch.searchsorted(kinds, truth)
        classes = len(kinds)
        chance = truth.bincount().max().item() / len(truth) * 100
        colour = probe(x.mean((2, 3)) * 3, y, judge.mean((2, 3)) * 3, truth, classes)
        scores = [probe(features_of(m, x), y, features_of(m, judge), truth, classes) for m in (random, trained)]
        ahead += scores[1] > scores[0]
        adapted = float("nan")
        if options.lora:
            model = create(pretrained=False).eval()
            model.load_state_dict(trained.state_dict())
            adapted = lora(model, x, y, judge, truth, classes)
        print(f"{name:22}{classes:6}{chance:8.1f}{colour:8.1f}{scores[0]:8.1f}{scores[1]:8.1f}{adapted:8.1f}"
              f"{time.perf_counter() - started:6.1f}", flush=True)  # fmt: skip
    print(f"pre-trained ahead of random on {ahead} of {len(names)}; sizes {SIZES}")


if __name__ == "__main__":
    main()
