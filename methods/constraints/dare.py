"""DARE (Yu et al., ICML 2024, arXiv:2311.03099): drop most of what training changed and rescale the rest.

After training delta' = delta Bernoulli(1 - p) / (1 - p), entry by entry; p = 1 gives the pre-trained weights and is not
rescaled. strategy='magnitude' drops the share p of smallest |delta| of each tensor instead; rescaled as the authors'
code can, it would be biased upwards, so `rescale='auto'` does not. BatchNorm statistics and a new head stay as
fine-tuned. The masks come from the run's seed and leave every random stream alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..moves import derived_seed


@part("dare")
class DARE(Constraint):
    """DARE: after training, most entries of the update are dropped and the others rescaled."""

    title = "DARE"
    paper = "Yu et al., ICML 2024, arXiv:2311.03099"
    ours = ("our reading: p = 0.5; for LoRA the entries of B are dropped, which keeps the product's rank and mean (the "
            "authors drop entries of the dense product); a new head has no pre-trained value and is left alone")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    wants_holdout = True
    search = {"dare.p": (0.5, 0.1, 0.9)}

    p: Annotated[float, ">= 0, <= 1", "share of entries that is dropped"] = 0.5
    strategy: Annotated[Literal["random", "magnitude"], "which: drawn at random, or the smallest"] = "random"
    rescale: Annotated[Literal["auto", "yes", "no"], "divide what stays by 1 - p; auto: where it is random"] = "auto"
    points: Annotated[int, ">= 0", "values of p besides 0, evenly up to 1, scored on held-out images; 0: none"] = 0

    def __post_init__(self) -> None:
        self.wants_holdout = self.points > 0  # type: ignore[misc]  # else nothing is kept from training

    def attach(self, fit: Fit) -> None:
        self.curve: dict[float, float] = {}

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        deltas = [view.moved().detach().clone() for view in fit.views]
        tuned = [view.param.detach().clone() for view in fit.views]
        for p in [i / self.points for i in range(self.points + 1)] if self.points else []:
            self._write(fit, tuned, deltas, p)
            self.curve[p] = validate()
        self._write(fit, tuned, deltas, self.p)

    @torch.no_grad()
    def _write(self, fit: Fit, tuned: list[Tensor], deltas: list[Tensor], p: float) -> None:
        for view, weight, delta in zip(fit.views, tuned, deltas, strict=True):
            thinned = view.anchor + self.thinned(delta, p, derived_seed(fit.seed, view.name, "dare"))
            view.param.copy_(weight if p == 0 else thinned)  # p = 0 changes no bit

    def thinned(self, delta: Tensor, p: float, seed: int) -> Tensor:
        """Like delta, with the share p of its entries at zero."""
        if self.strategy == "random":
            dice = torch.Generator().manual_seed(seed)
            drop = torch.bernoulli(torch.full(delta.shape, p, dtype=delta.dtype), generator=dice).to(delta.device)
        else:
            count = int(delta.numel() * p)
            drop = torch.zeros_like(delta).flatten()
            drop[delta.abs().flatten().argsort(stable=True)[:count]] = 1
            drop = drop.reshape(delta.shape)
        scaled = self.rescale == "yes" or (self.rescale == "auto" and self.strategy == "random")
        kept = delta * (1 - drop)
        return kept / (1 - p) if scaled and p < 1 else kept

    def report(self) -> dict[str, float]:
        """The score of each p on the held-out images: `p_0.50`."""
        return {f"p_{p:.2f}": score for p, score in self.curve.items()}
