"""TPGM (Tian et al., CVPR 2023, arXiv:2303.10720): learn how far each tensor may move from its pre-trained value.

After each optimizer step the radii take one Adam step on at most 64 held-out training images, with the weights as
constants, and every tensor is projected into its ball. Differs from the authors' code: no copy of the model, the
projected weights go through `functional_call`; a tensor that has not moved is left alone (theirs raises in current
PyTorch).
`tpgm_c` adds two terms on the radii and is ours: the released code holds no more of it than an unused option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Constraint, Feature, Fit
from ..compose import part
from ..views import Norm, Vectors, View, project, shrink_ratio

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8
FLOOR = 1e-8  # no learned radius is smaller


class Radii:
    """One radius per view (or group of rows): placeholder, first value, clipping, projection, one joint Adam."""

    def __init__(self, views: list[View], norm: Norm, vectors: Vectors, lr: float, live: bool = False) -> None:
        self.views = [v for v in views if vectors != "skip" or v.param.ndim > 1]
        if not self.views:
            raise ValueError("a weight constraint found no trained weight with a pre-trained value to constrain")
        self.norm: Norm = norm
        self.vectors: Vectors = vectors
        self.lr, self.live = lr, live
        one = self.views[0].param
        self.gamma = torch.zeros(sum(v.groups for v in self.views), dtype=one.dtype, device=one.device)
        self.m, self.v, self.t = torch.zeros_like(self.gamma), torch.zeros_like(self.gamma), 0
        self.started = False
        self.norms: list[Tensor] = []

    @torch.no_grad()
    def measure(self) -> None:
        """Row sizes of the present weights; the first time also the first radii, half the smallest row's move."""
        self.norms = [v.norms(self.norm, self.vectors) for v in self.views]
        if not self.started:
            self.gamma.copy_(torch.cat([n.view(v.groups, -1).amin(1) for n, v in self._pairs()]) / 2)
            self.started = True
        self.clip()

    @property
    def cap(self) -> Tensor:
        """(G,): the largest row of each group."""
        return torch.cat([n.view(v.groups, -1).amax(1) for n, v in self._pairs()])

    @torch.no_grad()
    def clip(self) -> None:
        """Radii into [1e-8, largest row]; a tensor that has not moved keeps its radius."""
        cap = self.cap
        bounded = torch.minimum(self.gamma.clamp_min(FLOOR), cap)
        self.gamma.copy_(torch.where(cap < FLOOR, self.gamma, bounded))

    def ratios(self, gamma: Tensor) -> list[Tensor]:
        """Per view (R,), differentiable in gamma (G,)."""
        return [shrink_ratio(v.per_row(g, n.numel()), n, self.live)
                for g, (n, v) in zip(self._per_view(gamma), self._pairs(), strict=True)]

    def projected(self, gamma: Tensor) -> dict[str, Tensor]:
        """The constrained weights as they would be, differentiable in gamma."""
        return {v.name: v.at(a) for v, a in zip(self.views, self.ratios(gamma), strict=True)}

    def learn(self, objective: Callable[[Tensor], Tensor]) -> None:
        """One Adam step on the radii; `objective` takes gamma (G,) to a loss ()."""
        self.clip()
        gamma = self.gamma.detach().clone().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(objective(gamma), gamma)
        self.t += 1
        self.m.lerp_(g, 1 - BETA1)
        self.v.lerp_(g.square(), 1 - BETA2)
        root = (self.v / (1 - BETA2**self.t)).sqrt_() + ADAM_EPS
        self.gamma.sub_(self.lr * (self.m / (1 - BETA1**self.t)) / root)

    @torch.no_grad()
    def apply(self) -> None:
        """Project every view, with the radii clipped to what was measured."""
        self.clip()
        for view, ratio in zip(self.views, self.ratios(self.gamma), strict=True):
            view.write(ratio)

    def rho(self) -> Tensor:
        """(G,): radius over largest row, 1 where the constraint does not bind; 1 for a tensor that has not moved."""
        cap = self.cap
        return torch.where(cap < FLOOR, torch.ones_like(cap), self.gamma / cap.clamp_min(FLOOR))

    def table(self) -> dict[str, dict[str, float]]:
        """Per view: radius, largest row, their ratio, share of rows that bind."""
        found = {}
        for view, g, n in zip(self.views, self._per_view(self.gamma), self.norms, strict=True):
            binding = (n > view.per_row(g, n.numel())).double().mean()
            found[view.name] = {"gamma": float(g.max()), "norm": float(n.max()),
                                "rho": float(g.max() / n.max().clamp_min(FLOOR)), "binding": float(binding)}
        return found

    def state(self) -> dict[str, Any]:
        measured = {f"norms.{i}": n.clone() for i, n in enumerate(self.norms)}  # `report` speaks of the last ones
        return {"gamma": self.gamma.clone(), "m": self.m.clone(), "v": self.v.clone(), "t": self.t,
                "started": self.started, **measured}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("gamma", "m", "v"):
            getattr(self, name).copy_(state[name])
        self.t, self.started = int(state["t"]), bool(state["started"])
        measured = [f"norms.{i}" for i in range(len(self.views))]
        self.norms = [state[name].to(self.gamma.device) for name in measured if name in state]

    def _per_view(self, gamma: Tensor) -> list[Tensor]:
        return list(torch.split(gamma, [v.groups for v in self.views]))

    def _pairs(self) -> Iterator[tuple[Tensor, View]]:
        return zip(self.norms, self.views, strict=True)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode, each one's own flag put back afterwards."""
    training = [m for m in model.modules() if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True


def holdout_loss(fit: Fit, radii: Radii, gamma: Tensor) -> Tensor:
    """Cross-entropy () of the projected weights on the next held-out batch; the model itself is not touched."""
    x, y, _ = next(fit.holdout)
    weights = {name: p.detach() for name, p in fit.trainable.items()} | radii.projected(gamma)
    with eval_mode(fit.model):
        return F.cross_entropy(fit.forward(x, weights), y)


class _Projected(Constraint):
    """What `tpgm` and `tpgm_c` share: when radii are learned and when weights are projected."""

    holdout_batch = 64  # the authors' batch per device
    when: str
    norm: str
    proj_every: int
    proj_steps: int
    posthoc_steps: int
    lr: float
    boundary_grad: str
    vec_mode: str
    qkv: str

    def attach(self, fit: Fit) -> None:
        norm: Norm = ("l2" if self.when == "posthoc" else "mars") if self.norm == "auto" else self.norm  # type: ignore[assignment]
        views = [replace(v, groups=3) if self.qkv == "split" and ".qkv." in f".{v.name}." and v.param.ndim > 1
                 and v.param.shape[0] % 3 == 0 else v for v in fit.views]
        self.radii = Radii(views, norm, self.vec_mode, self.lr, self.boundary_grad == "live")  # type: ignore[arg-type]

    def objective(self, fit: Fit, gamma: Tensor) -> Tensor:
        return holdout_loss(fit, self.radii, gamma)

    def after_step(self, fit: Fit) -> None:
        if self.when == "posthoc":
            return
        self.radii.measure()
        if fit.step % fit.steps_per_epoch % self.proj_every == 0:  # the first step of every epoch is one
            for _ in range(self.proj_steps):
                self.radii.learn(lambda gamma: self.objective(fit, gamma))
        self.radii.apply()

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        if self.when == "online":
            return
        self.radii.measure()
        for _ in range(self.posthoc_steps):
            self.radii.learn(lambda gamma: self.objective(fit, gamma))
        self.radii.apply()

    def report(self) -> dict[str, float]:
        if not self.radii.norms:
            return {}
        rows = self.radii.table().values()
        return {"rho_mean": float(self.radii.rho().mean()), "binding": sum(r["binding"] for r in rows) / len(rows)}

    def state(self) -> dict[str, Any]:
        return self.radii.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.radii.restore(state)


@part("tpgm")
class TPGM(_Projected):
    """TPGM: each tensor stays in a ball around its pre-trained value; the radii are learned on held-out images."""

    title = "TPGM"
    paper = "Tian et al., CVPR 2023, arXiv:2303.10720"
    ours = ("our reading: the held-out images are 10 % of the training list; on LoRA and SSF the constraint acts on "
            "the displacement from the pre-trained function; a new head is not constrained")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    wants_holdout = True
    excludes = frozenset({"tpgm_c", "ftp", "mars_pgm", "l2_pgm"})
    excludes_why = "both set how far the same weights may move"
    search = {"tpgm.lr": (1e-3, 1e-1, "log")}
    recipe = {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 5e-4, "decay": "all", "epochs": 50, "warmup_epochs": 0,
              "batch_size": 256, "drop_last": False, "drop_path": 0.0, "schedule": "cosine_epoch",
              "augment": "resized_crop_flip"}  # on DomainNet
    recipe_from = "the authors' code for DomainNet; certain"

    when: Annotated[Literal["online", "posthoc"], "after every step, or once after training"] = "online"
    norm: Annotated[Literal["auto", "mars", "l2"], "auto: mars online, l2 post-hoc, as published"] = "auto"
    proj_every: Annotated[int, ">= 1", "learn radii at every so many steps, from each epoch's first on"] = 1
    proj_steps: Annotated[int, ">= 1", "radius steps each time"] = 1
    posthoc_steps: Annotated[int, ">= 1", "radius steps after training, when post-hoc"] = 200
    lr: Annotated[float, "> 0", "Adam's rate for the radii, in weight units"] = 1e-2
    boundary_grad: Annotated[Literal["dead", "live"], "derivative of the ratio where it is exactly 0 or 1"] = "dead"
    vec_mode: Annotated[Literal["whole", "element", "skip"], "a 1-d tensor: one row, a row per entry, free"] = "whole"
    qkv: Annotated[Literal["fused", "split"], "one radius for the fused qkv weight, or three"] = "fused"
    gamma: Annotated[float | None, ">= 0", "one fixed radius for all, nothing is learned; None: learn them"] = None

    def after_step(self, fit: Fit) -> None:
        if self.gamma is None:
            super().after_step(fit)
        elif self.when == "online":
            self._fixed()

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        if self.gamma is None:
            super().finish(fit, validate)
        elif self.when == "posthoc":
            self._fixed()

    def _fixed(self) -> None:
        for view in self.radii.views:
            project(view, float(self.gamma or 0), self.radii.norm, self.radii.vectors)


@part("tpgm_c")
class TPGMC(_Projected):
    """TPGM-C, ours: TPGM whose radii also pay for their size and for differing from the layer before."""

    title = "TPGM-C (ours)"
    paper = "after Tian et al., CVPR 2023, arXiv:2303.10720"
    ours = ("our reading: mu_s times the mean of radius over distance, plus mu_tv times the mean step between "
            "neighbouring tensors of one kind; the released code does not define it")
    needs: ClassVar[frozenset[Feature]] = frozenset({"anchor"})
    wants_holdout = True
    excludes = frozenset({"tpgm", "ftp", "mars_pgm", "l2_pgm"})
    excludes_why = "both set how far the same weights may move"
    search = {"tpgm_c.lr": (1e-3, 1e-1, "log"), "tpgm_c.mu_s": (1e-4, 1.0, "log")}

    mu_s: Annotated[float, ">= 0", "price of a radius, relative to the distance moved"] = 1e-2
    mu_tv: Annotated[float, ">= 0", "price of differing from the previous tensor of the same kind"] = 0.0
    when: Annotated[Literal["online", "posthoc"], "after every step, or once after training"] = "online"
    norm: Annotated[Literal["auto", "mars", "l2"], "auto: mars online, l2 post-hoc, as published"] = "auto"
    proj_every: Annotated[int, ">= 1", "learn radii at every so many steps, from each epoch's first on"] = 1
    proj_steps: Annotated[int, ">= 1", "radius steps each time"] = 1
    posthoc_steps: Annotated[int, ">= 1", "radius steps after training, when post-hoc"] = 200
    lr: Annotated[float, "> 0", "Adam's rate for the radii, in weight units"] = 1e-2
    boundary_grad: Annotated[Literal["dead", "live"], "derivative of the ratio where it is exactly 0 or 1"] = "dead"
    vec_mode: Annotated[Literal["whole", "element", "skip"], "a 1-d tensor: one row, a row per entry, free"] = "whole"
    qkv: Annotated[Literal["fused", "split"], "one radius for the fused qkv weight, or three"] = "fused"

    def objective(self, fit: Fit, gamma: Tensor) -> Tensor:
        return super().objective(fit, gamma) + self.price(gamma)

    def price(self, gamma: Tensor) -> Tensor:
        """(G,) -> (): mu_s mean(rho) + mu_tv mean|rho_next - rho| over neighbours of one kind, input to output."""
        rho = gamma / self.radii.cap.clamp_min(FLOOR)
        steps = [(rho[b] - rho[a]).abs() for a, b in neighbours([v for v in self.radii.views for _ in range(v.groups)])]
        varying = torch.stack(steps).mean() if steps else rho.new_zeros(())
        return self.mu_s * rho.mean() + self.mu_tv * varying


def neighbours(views: list[View]) -> list[tuple[int, int]]:
    """Positions of consecutive tensors of the same kind: the name without its block numbers."""
    last: dict[str, int] = {}
    pairs = []
    for i, view in enumerate(views):
        kind = ".".join(word for word in view.name.split(".") if not word.isdigit())
        if kind in last:
            pairs.append((last[kind], i))
        last[kind] = i
    return pairs
