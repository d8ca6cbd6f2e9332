"""Five losses that need no label: entropy, reconstruction, rotation, contrast, agreement.

The first two are named in the abstract of UGR (Zhu et al., ECCV 2024 Workshops); the other three and every formula
here are our choice of the standard form (Tent, MAE and SimMIM, rotation prediction, SimCLR, UDA and FixMatch).
An objective may have a head of its own, which is no part of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Fit
from ..insertion import patch_tokens
from ..vit import head_width
from .augment import contrast_view, flip, strong_view
from .reading import features, in_mode

STANDARDISE_EPS = 1e-6
PROJECTION = 128  # width of the contrast head's output


class Look(NamedTuple):
    """A label-free loss (), and the logits (n, C) of the untouched images when the objective made them anyway."""

    loss: Tensor
    logits: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """`head` makes the auxiliary module from torch's random stream, `look` takes the loss of a batch of images."""

    def head(self, fit: Fit) -> nn.Module | None:
        return None

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        raise TypeError(f"{type(self).__name__} has no look")

    def width(self, fit: Fit) -> int:
        """D of the pooled features."""
        return head_width(fit.model)


def entropy(logits: Tensor) -> Tensor:
    """(B, C) -> (B,): -sum_c p_c log p_c."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def mean_entropy(logits: Tensor) -> Tensor:
    """(B, C) -> (): entropy of the batch's mean prediction."""
    return torch.special.entr(logits.softmax(1).mean(0)).sum()


@dataclass(frozen=True)
class Entropy(Objective):
    """`ent`: mean entropy of the predictions; with `im`, minus gamma times the entropy of their mean."""

    im: bool = False
    gamma: float = 1.0
    temperature: float = 1.0

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        if self.im and len(x) == 1:
            raise ValueError("ugr(objective='ent', im=True) is zero on single images: their mean prediction is the "
                             "prediction itself; use batches of two images or more")
        logits = fit.forward(x)
        soft = logits / self.temperature
        loss = entropy(soft).mean()
        return Look(loss - self.gamma * mean_entropy(soft) if self.im else loss, logits.detach())


def patchify(x: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, 3 side^2), row by row."""
    return F.unfold(x, side, stride=side).mT


def standardised(patches: Tensor) -> Tensor:
    """Each patch to mean 0 and variance 1, (B, N, q) -> (B, N, q)."""
    var, mean = torch.var_mean(patches, dim=2, correction=0, keepdim=True)
    return (patches - mean) / (var + STANDARDISE_EPS).sqrt()


def random_mask(images: int, patches: int, ratio: float) -> Tensor:
    """(B, N) of bool on the CPU, round(ratio N) of each row true."""
    order = torch.rand(images, patches).argsort(1)
    return order.argsort(1) < max(1, round(ratio * patches))


@dataclass(frozen=True)
class Reconstruction(Objective):
    """`rec`: predict the pixels of patches that were set to zero from their final tokens."""

    ratio: float = 0.5

    def head(self, fit: Fit) -> nn.Module:
        x = next(iter(fit.trainable.values()))
        side, width = self.tokens(fit, self.image_size(fit))
        return nn.Linear(width, 3 * side * side, device=x.device, dtype=x.dtype)

    @staticmethod
    def image_size(fit: Fit) -> int:
        embed = getattr(fit.model, "patch_embed", None)
        size = getattr(embed, "img_size", None)
        if not size and fit.image_size:  # of a convolutional network any size is right
            return fit.image_size
        if not size or size[0] != size[1]:
            raise ValueError("ugr(objective='rec') needs a backbone with a patch embedding for square images of one "
                             "size; use another objective")
        return int(size[0])

    def tokens(self, fit: Fit, pixels: int) -> tuple[int, int]:
        """Pixels along a token (what the last map's stride is, 16 for ViT-B/16 and 32 for Swin), and its width."""
        like = next(iter(fit.trainable.values()))
        with torch.no_grad(), fit.precision(), in_mode(fit.model, False):
            blank = torch.zeros(1, 3, pixels, pixels, device=like.device, dtype=like.dtype)
            _, tokens, width = patch_tokens(fit.model, blank).shape
        side = round(pixels / tokens**0.5)
        if side * round(tokens**0.5) != pixels or round(tokens**0.5) ** 2 != tokens:
            raise ValueError(f"ugr(objective='rec') needs a token for each patch of the image; this model gives "
                             f"{tokens} tokens for {pixels}x{pixels} pixels")
        return side, width

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        assert isinstance(head, nn.Linear)
        side = round((head.out_features / 3) ** 0.5)
        rows, columns = x.shape[2] // side, x.shape[3] // side
        mask = random_mask(len(x), rows * columns, self.ratio).to(x.device)
        hidden = mask.view(-1, 1, rows, columns).repeat_interleave(side, 2).repeat_interleave(side, 3)
        with fit.precision():
            tokens = patch_tokens(fit.model, x.masked_fill(hidden, 0.0))
        return Look(masked_error(head(tokens.to(head.weight.dtype)), x, mask, side))


def masked_error(predicted: Tensor, x: Tensor, mask: Tensor, side: int) -> Tensor:
    """(B, N, q), (B, 3, H, W), (B, N) -> (): mean over masked patches of the mean squared error per pixel."""
    target = standardised(patchify(x, side)).to(predicted.dtype)
    return (predicted - target).square().mean(2)[mask].mean()


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """(B, 3, H, H), (B,) in 0..3 -> each image turned by so many quarters."""
    k = turns.to(x.device).view(-1, 1, 1, 1)
    out = x
    for quarter in (1, 2, 3):
        out = torch.where(k == quarter, torch.rot90(x, quarter, (2, 3)), out)
    return out


@dataclass(frozen=True)
class Rotation(Objective):
    """`rot`: tell by how many quarters an image was turned; `all4` shows every turn of every image."""

    all4: bool = False

    def head(self, fit: Fit) -> nn.Module:
        like = next(iter(fit.trainable.values()))
        return nn.Linear(self.width(fit), 4, device=like.device, dtype=like.dtype)

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        assert head is not None
        if x.shape[2] != x.shape[3]:
            raise ValueError(f"ugr(objective='rot') turns images by quarters and needs square ones, "
                             f"not {x.shape[2]}x{x.shape[3]}")
        if self.all4:
            turns = torch.arange(4).repeat_interleave(len(x))
            x = x.repeat(4, 1, 1, 1)
        else:
            turns = torch.randint(4, (len(x),))
        _, pooled = features(fit, turned(x, turns))
        return Look(F.cross_entropy(head(pooled.to(_dtype(head))), turns.to(x.device)))


def nt_xent(embedded: Tensor, tau: float) -> Tensor:
    """(2n, E), rows i and n + i views of one image -> (): SimCLR's loss over all 2n anchors."""
    e = F.normalize(embedded, dim=1)
    similarity = (e @ e.T / tau).fill_diagonal_(-torch.inf)
    n = len(e) // 2
    return F.cross_entropy(similarity, torch.arange(2 * n, device=e.device).roll(n))


@dataclass(frozen=True)
class Contrast(Objective):
    """`con`: two views of an image are each other's neighbours among all views of the batch."""

    tau: float = 0.2

    def head(self, fit: Fit) -> nn.Module:
        width, like = self.width(fit), next(iter(fit.trainable.values()))
        layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, PROJECTION))
        drawn = next(layers.parameters())
        if (drawn.device, drawn.dtype) == (like.device, like.dtype):  # tensors without numbers cannot be moved
            return layers
        return layers.to(device=like.device, dtype=like.dtype)

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        assert head is not None
        if len(x) == 1:
            raise ValueError("ugr(objective='con') compares an image with the others of its batch and cannot work on "
                             "single images; use batches of two images or more, or ent, rec, rot, agr")
        views = torch.cat([contrast_view(x, fit.mean, fit.std) for _ in range(2)])
        _, pooled = features(fit, views)
        return Look(nt_xent(head(pooled.to(_dtype(head))), self.tau))


def agreement(weak: Tensor, strong: Tensor, threshold: float = 0.0) -> Tensor:
    """(n, C) logits -> (): mean KL(p(weak) || p(strong)) over images whose weak view is confident enough."""
    p = weak.detach().softmax(1)
    kl = (torch.special.xlogy(p, p) - p * strong.log_softmax(1)).sum(1)
    return (kl * (p.amax(1) >= threshold)).mean()


@dataclass(frozen=True)
class Agreement(Objective):
    """`agr`: the prediction on a strongly changed image follows the one on the image or its mirror."""

    threshold: float = 0.0
    im: bool = False
    gamma: float = 1.0
    temperature: float = 1.0

    def look(self, fit: Fit, x: Tensor, head: nn.Module | None) -> Look:
        with torch.no_grad():
            weak = fit.forward(flip(x)) / self.temperature
        strong = fit.forward(strong_view(x, fit.mean, fit.std)) / self.temperature
        loss = agreement(weak, strong, self.threshold)
        return Look(loss - self.gamma * mean_entropy(strong) if self.im else loss)


def _dtype(head: nn.Module) -> torch.dtype:
    return next(head.parameters()).dtype
