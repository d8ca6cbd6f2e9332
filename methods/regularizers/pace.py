"""PACE (Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137): two noisy passes of one adapter must agree.

L = mean_i CE(f1(x_i), y_i) + weight * sum_c (f1(x_i) - f2(x_i))_c^2, with f1 and f2 the logits of two passes whose
adapter outputs carry independent multiplicative noise; stochastic depth and dropout are shared by both. Variants:
`lazy_half` does this with half the images on every `interval`-th step and a noisy cross-entropy in between, `fast`
compares one pass with the image's logits of its last visit. Differs from the authors' code: noise enters through hooks
on any marked branch, not through rewritten layers; dropout inside adapters is shared like stochastic depth.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from ..base import Batch, Feature, Fit, Objective, Regularizer, Terms, cross_entropy
from ..compose import part
from ..droppath import share, sharing
from . import diagnostics
from .noise import Noise


def squared_gap(a: Tensor, b: Tensor) -> Tensor:
    """(B, C), (B, C) -> (B,): squared distance of logits, summed over classes."""
    return (a - b).square().sum(1)


@part("pace")
class Pace(Regularizer):
    """PACE: consistency of two passes with noise on the adapter's output."""

    title = "PACE"
    paper = "Ni, Zhang, Koniusz, NeurIPS 2024, arXiv:2409.17137"
    ours = ("our reading: the untuned weight and sigma, the attachment to adapters other than the paper's, the noise "
            "on VPT's prompt tokens, fast_init='skip' and the noise and schedule controls are ours")
    needs: ClassVar[frozenset[Feature]] = frozenset({"delta"})
    accepts: ClassVar[frozenset[str]] = frozenset({"vpt_deep", "vpt_shallow"})  # no branch: prompt tokens are scaled
    owns_forward = True
    search = {"pace.weight": (0.5, 0.2, 1.0, 0.1, 0.05, 0.02), "pace.sigma": (1.0, 0.5, 1.5, 0.1, 2.0)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 300, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer", "decay": "all"}  # theirs, on VTAB-1k
    recipe_from = "the authors' code for VTAB-1k; certain"

    weight: Annotated[float, ">= 0", "of the consistency term; lambda in the paper"] = 0.5
    sigma: Annotated[float, ">= 0", "noise at the first noisy block; it falls to the head"] = 1.0
    variant: Annotated[Literal["pace", "lazy_half", "fast"], "two passes, half a batch, or stored logits"] = "pace"
    interval: Annotated[int, ">= 1", "lazy_half: steps from one penalty to the next"] = 1
    fast_init: Annotated[Literal["zeros", "skip"], "fast: unseen images compare with zero, or not at all"] = "zeros"
    exclude_first: Annotated[bool | None, "no noise in the first block; None: on ViT yes, on Swin no"] = None
    shape: Annotated[Literal["BC", "BTC"], "noise per image and channel, or per element"] = "BC"
    droppath_norm: Annotated[Literal["batch_mean", "keep_prob"], "scale of DropPath's kept rows"] = "batch_mean"
    noise_head: Annotated[bool, "the logits are noised too, as the last branch"] = True
    noise: Annotated[Literal["scale", "add", "dropout"], "what noise does; the last two are controls"] = "scale"
    schedule: Annotated[Literal["falling", "constant", "rising"], "over depth; the last two are controls"] = "falling"
    checks: ClassVar[dict[str, str]] = {
        "interval == 1 or variant == 'lazy_half'": "interval belongs to variant='lazy_half'",
        "fast_init == 'zeros' or variant == 'fast'": "fast_init belongs to variant='fast'",
    }

    def attach(self, fit: Fit) -> None:
        self.shared = share(fit.model)  # before the hooks: it swaps modules, prompts' dropout among them
        self.noisy = Noise(fit, self.sigma, self.exclude_first, self.shape, self.noise_head, self.noise, self.schedule)
        like = next(iter(fit.trainable.values()))
        rows = fit.train_size if self.variant == "fast" else 0
        self.memory = torch.zeros(rows, fit.classes, device=like.device,
                                  dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)
        self.seen = torch.zeros(rows, dtype=torch.bool, device=like.device)
        self.recalled: tuple[int, Tensor, Tensor] | None = None  # step, logits and seen of that step's first call

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        if self.variant == "fast":
            return self._fast(fit, batch)
        if self.variant == "lazy_half":
            return self._lazy(fit, batch)
        return self._two_passes(fit, batch.x, batch.y)

    def passes(self, fit: Fit, x: Tensor, copies: int) -> Tensor:
        """(n, 3, H, W) -> (copies * n, C): noisy logits, each copy with its own noise and the same DropPath."""
        with self.noisy.noisy(), sharing(self.shared, copies, self.droppath_norm):
            return fit.forward(torch.cat([x] * copies) if copies > 1 else x)

    def _two_passes(self, fit: Fit, x: Tensor, y: Tensor) -> Terms:
        if not self.weight:  # the noise-only control should not pay for a second pass
            return self._terms(cross_entropy(fit, logits := self.passes(fit, x, 1), y), logits, None)
        first, second = self.passes(fit, x, 2).chunk(2)
        return self._terms(cross_entropy(fit, first, y), first, squared_gap(first, second).mean())

    def _lazy(self, fit: Fit, batch: Batch) -> Terms:
        """Terms["logits"] of a penalty step belong to the first half of the batch."""
        if fit.step % self.interval:
            logits = self.passes(fit, batch.x, 1)
            return self._terms(cross_entropy(fit, logits, batch.y), logits, None)
        half = len(batch.x) // 2
        if not half:
            raise ValueError("pace(variant='lazy_half') needs batches of at least two images to take half of one")
        return self._two_passes(fit, batch.x[:half], batch.y[:half])

    def _fast(self, fit: Fit, batch: Batch) -> Terms:
        logits = self.passes(fit, batch.x, 1)
        old, seen = self._recall(fit, batch.index)
        self.memory[batch.index] = logits.detach()
        self.seen[batch.index] = True
        gaps = squared_gap(logits, old)
        if self.fast_init == "skip":
            gaps = gaps * seen
        return self._terms(cross_entropy(fit, logits, batch.y), logits, gaps.mean())

    def _recall(self, fit: Fit, index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the last visit, from an earlier step: a part that takes the loss twice in a step sees the same."""
        if self.recalled is None or self.recalled[0] != fit.step or len(self.recalled[1]) != len(index):
            self.recalled = (fit.step, self.memory[index].clone(), self.seen[index].clone())
        return self.recalled[1:]

    def _terms(self, task: Tensor, logits: Tensor, gap: Tensor | None) -> Terms:
        if gap is None:
            return {"loss": task, "logits": logits, "task": task.detach()}
        return {"loss": task + self.weight * gap, "logits": logits, "task": task.detach(), "consistency": gap.detach()}

    def probe(self, fit: Fit, batch: Batch) -> dict[str, float]:
        """On a validation batch: `fp_dist`, `fp_feat`, `grad_norm_ce`, `grad_norm_out`, `consistency`."""
        return diagnostics.pace(fit, batch, self)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"generator": self.noisy.generator.get_state()}
        return state if self.variant != "fast" else {**state, "memory": self.memory.clone(), "seen": self.seen.clone()}

    def restore(self, state: dict[str, Any]) -> None:
        self.noisy.generator.set_state(state["generator"].cpu())
        if self.variant == "fast":
            self.memory.copy_(state["memory"])
            self.seen.copy_(state["seen"])
