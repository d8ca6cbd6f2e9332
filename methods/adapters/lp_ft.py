"""LP-FT (Kumar et al., ICLR 2022, arXiv:2202.10054): fit a linear probe first, then fine-tune everything from it.

Stage 1 is multinomial logistic regression on frozen eval-mode features, standardised by one scalar mean and deviation,
warm-started along a path of penalties whose best value is chosen on held-out training images; the scaling is folded
into the head. Stage 2 is full fine-tuning with the model held in eval mode (running statistics, no dropout). Differs
from the authors' code: torch's L-BFGS and fewer points on the path. The probe's head becomes the head's anchor, so
`lp_ft+tpgm` may constrain it and `lp_ft+wise` interpolates it.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Batch, Feature, Fit
from ..compose import part
from ..two_heads import values_of
from ..vit import replace_head

LOWEST, HIGHEST = -7.0, 2.0  # powers of ten of the inverse penalty, the authors' ends of the path
MAX_ITERATIONS = 200


@part("lp_ft")
class LPFT(Adapter):
    """LP-FT: a linear probe, then full fine-tuning that starts from its head."""

    title = "LP-FT"
    paper = "Kumar et al., ICLR 2022, arXiv:2202.10054"
    ours = ("our reading: the penalty of the probe is chosen on held-out training images; the probe's head is its "
            "own anchor for constraints")
    formula = "all weights of the backbone"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    wants_holdout = True
    search = {"lr": (1e-6, 1e-3, "log")}
    recipe_from = ("the authors choose among ten rates of SGD, from 3e-7 to 1e-2, per data set on validation images; "
                   "no one setting is theirs")

    path: Annotated[int, ">= 2", "values of the inverse penalty that are tried, from 1e-7 to 1e2"] = 20
    C: Annotated[float | None, "> 0", "one inverse penalty, nothing is chosen (a retrained run); None: the path"] = None

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        backbone.requires_grad_(True)
        return hold_eval(replace_head(backbone, classes))

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        x, y = features(fit, train)
        probe = Probe(x, y, fit.classes)
        if self.C is not None:
            self.chosen, best = self.C, probe.fit(self.C)
        else:
            held = features(fit, once(fit.holdout))
            scored = []
            for i in range(self.path):
                c = 10 ** (LOWEST + (HIGHEST - LOWEST) * i / (self.path - 1))
                head = probe.fit(c)
                scored.append((probe.accuracy(head, *held), c, head))
            _, self.chosen, best = max(scored, key=lambda s: s[0])  # the first, most penalised one of a tie
        names = [n for n in fit.trainable if n in fit.head]
        head = fit.model.get_classifier()  # type: ignore[operator]
        for name, value in zip(names, values_of(head, *probe.folded(best)), strict=True):
            fit.trainable[name].data.copy_(value)
            fit.anchor[name] = fit.trainable[name].detach().clone()

    def report(self) -> dict[str, float]:
        return {"C": self.chosen} if hasattr(self, "chosen") else {}


def hold_eval(model: nn.Module) -> nn.Module:
    """A model that stays in eval mode whatever `train()` says: in train mode BatchNorm would drift in stage 2."""
    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return nn.Module.train(self, False)

    model.train = types.MethodType(train, model)  # type: ignore[method-assign]
    return model.train(False)


def once(batches: Iterator[Batch]) -> Iterator[Batch]:
    """One pass over an endless iterator: it ends before the first image that was already seen."""
    seen: set[int] = set()
    for x, y, index in batches:
        fresh = torch.tensor([int(i) not in seen for i in index])
        if fresh.any():
            yield Batch(x[fresh], y[fresh], index[fresh])
        if not fresh.all():
            return
        seen.update(int(i) for i in index)


@torch.no_grad()
def features(fit: Fit, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """-> (N, D) float64 inputs of the head, (N,) labels."""
    model: nn.Module = fit.model
    xs, ys = [], []
    for x, y, _ in batches:
        with fit.precision():
            xs.append(model.forward_head(model.forward_features(x), pre_logits=True))  # type: ignore[operator]
        ys.append(y)
    if not xs:
        raise ValueError("'lp_ft' has no images to fit its probe on; keep some aside with --holdout or give C")
    return torch.cat(xs).double(), torch.cat(ys)


class Probe:
    """Logistic regression on features standardised by one scalar mean and deviation."""

    def __init__(self, x: Tensor, y: Tensor, classes: int) -> None:
        self.mean, self.std = x.mean(), x.std().clamp_min(1e-12)
        self.x, self.y = (x - self.mean) / self.std, y
        self.head = torch.zeros(classes, x.shape[1] + 1, dtype=torch.float64, device=x.device)

    def fit(self, c: float) -> Tensor:
        """Inverse penalty -> (C, D + 1) weight and bias; starts where the last fit ended."""
        head = self.head.clone().requires_grad_()
        solver = torch.optim.LBFGS([head], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe",
                                   tolerance_grad=1e-6, tolerance_change=1e-10)

        def closure() -> Tensor:
            solver.zero_grad()
            loss = self.loss(head, c)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            solver.step(closure)  # type: ignore[no-untyped-call]
        self.head = head.detach()
        return self.head

    def loss(self, head: Tensor, c: float) -> Tensor:
        """() mean cross-entropy + |W|^2 / (2 c N); the bias is not penalised."""
        penalty = head[:, :-1].square().sum() / (2 * c * len(self.y))
        return F.cross_entropy(self.x @ head[:, :-1].mT + head[:, -1], self.y) + penalty

    def folded(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """(C, D + 1) -> weight (C, D) and bias (C,) for features that are not standardised."""
        weight = head[:, :-1] / self.std
        return weight, head[:, -1] - self.mean * weight.sum(1)

    def accuracy(self, head: Tensor, x: Tensor, y: Tensor) -> float:
        weight, bias = self.folded(head)
        return float(((x @ weight.mT + bias).argmax(1) == y).double().mean())
