"""LDIFS (Mukhoti et al., TMLR 2024, arXiv:2308.13320): states inside the network stay near those of the start.

L = base + weight * mean over taps, images, tokens and channels of (u(h) - u(h_0))^2. Five taps on a ViT: the tokens
that enter its blocks, and those that leave a quarter, a half, three quarters and all of them, before the final norm; on
Swin and ResNet what enters the stages and what leaves each. h_0 is of the weights as they were attached, with the same
draws of DropPath and dropout; prompts are left out. u divides by the L2 norm along axis 1, which in the authors' code
is the axis of tokens (in LPIPS, where the line comes from, it is the channels'); their text speaks of plain distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms
from ..compose import part
from ..grammar import MethodError
from ..moves import isolated, kept_statistics, placed

EPS = 1e-10  # as in the authors' code
Normalise = Literal["official", "channel", "none"]


@part("ldifs")
class LDIFS(Regularizer):
    """LDIFS: a penalty on the distance of states all along the network to those at the start."""

    title = "LDIFS"
    paper = "Mukhoti, Gal, Torr, Dokania, TMLR 2024, arXiv:2308.13320"
    ours = ("our reading: taps at quarters of the depth (the authors': ViTs of 12 blocks), on Swin and ResNet at the "
            "stages, where axis 1 is made the positions'; the start is that of the adapted model")
    needs: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    excludes: ClassVar[frozenset[str]] = frozenset({"pace", "linear", "lst", "unipt", "sherl", "side_tuning"})
    excludes_why = ("ldifs compares the states of plain passes, PACE's are noisy and those below a linear probe or "
                    "beside a side network never move")
    reads_images = True
    search = {"ldifs.weight": (10.0, 1.0, 0.1, 100.0)}

    weight: Annotated[float, ">= 0", "of the penalty; the authors' script has 10"] = 10.0
    normalise: Annotated[Literal["official", "channel", "none"],
                         "states are divided by their norm over the tokens, over the channels, or not"] = "official"

    def attach(self, fit: Fit) -> None:
        self.start = {name: p.detach().clone() for name, p in fit.peft.items()}
        doors(fit.model)

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        with isolated(batch.x.device), tapped(fit.model) as before:
            self.starting(fit, batch.x)
        with tapped(fit.model) as now:
            terms = base(fit, batch)
        gap = distance(now[:len(before)], before, self.normalise)
        return {**terms, "loss": terms["loss"] + self.weight * gap, "ldifs": gap.detach()}

    @torch.no_grad()
    def starting(self, fit: Fit, x: Tensor) -> None:
        """One pass of (B, 3, H, W) at the weights of the start; nothing is moved afterwards."""
        with placed(fit.peft.values(), self.start.values()), kept_statistics(fit.model):
            fit.forward(x)

    def state(self) -> dict[str, Any]:
        return {"start": self.start}

    def restore(self, state: dict[str, Any]) -> None:
        self.start = {name: value.to(self.start[name].device) for name, value in state["start"].items()}


def distance(now: list[Tensor], before: list[Tensor], normalise: Normalise) -> Tensor:
    """Two lists of (B, N, D) -> (): the mean over taps of mean squared differences."""
    axis = {"official": 1, "channel": 2}.get(normalise)
    gaps = []
    for a, b in zip(now, before, strict=True):
        if axis is not None:
            a, b = (t / (t.norm(dim=axis, keepdim=True) + EPS) for t in (a, b))
        gaps.append((a - b).square().mean())
    return torch.stack(gaps).mean()


def doors(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The module whose input is the first tap, and those whose outputs are the others. Raises MethodError."""
    net: Any = model
    if hasattr(net, "blocks") and hasattr(net, "patch_embed"):
        depth = len(net.blocks)
        return net.blocks[0], [net.blocks[i - 1] for i in sorted({-(-k * depth // 4) for k in (1, 2, 3, 4)})]
    if hasattr(net, "layers") and hasattr(net, "patch_embed"):
        return net.layers[0], list(net.layers)
    if hasattr(net, "layer4"):
        return net.layer1, [net.layer1, net.layer2, net.layer3, net.layer4]
    raise MethodError(f"'ldifs' reads the blocks of a ViT or the stages of a Swin or ResNet; this {type(net).__name__} "
                      "has neither")


@contextmanager
def tapped(model: nn.Module) -> Iterator[list[Tensor]]:
    """The list fills with (B, N, D) states, in float32 at least, in the order in which a pass reaches them."""
    seen: list[Tensor] = []
    first, later = doors(model)
    handles = [first.register_forward_pre_hook(lambda _, inputs: seen.append(tokens(model, inputs[0])))]
    handles += [m.register_forward_hook(lambda _, inputs, out: seen.append(tokens(model, out))) for m in later]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def tokens(model: nn.Module, t: Tensor) -> Tensor:
    """A state as (B, N, D): class and patch tokens of a ViT without prompts, or all positions of a map."""
    if t.ndim == 4:  # Swin has (B, H, W, D), ResNet (B, D, H, W)
        t = t.flatten(1, 2) if hasattr(model, "patch_embed") else t.flatten(2).mT
    else:
        prefix, patches = int(model.num_prefix_tokens), int(model.patch_embed.num_patches)  # type: ignore
        t = torch.cat([t[:, :prefix], t[:, t.shape[1] - patches:]], dim=1) if t.shape[1] > prefix + patches else t
    return t if t.dtype == torch.float64 else t.float()
