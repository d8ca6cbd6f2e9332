"""UGR, our reading (Zhu et al., ECCV 2024 Workshops, doi 10.1007/978-3-031-92089-9_20): look one label-free step ahead.

    g_u = grad L_u(theta);  theta' = theta - rho s(g_u);  .grad = grad L_t(theta');  the weights return to theta

with s(g) = g (raw) or g / |g| over all perturbed weights (unit). The paper is public as an abstract only: it says that
a label-free and the target objective follow each other within a step, that only the target's gradient updates, and
names entropy and reconstruction. Symbols, defaults, three objectives and the test-time recipe are ours; no number of
the paper is known. Controls: `random` replaces g_u by noise of the same norm, `ascent` turns the sign, `sam` and
`lookahead` take the target loss for L_u (up and down), `joint` adds mu L_u to the loss, `noperturb` pays for the extra
pass and moves nothing. At test time the same step may adapt to each batch before it is predicted.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Batch, Fit, Predictor, Regularizer, Terms, cross_entropy
from ..base import Objective as Loss
from ..compose import part
from ..moves import derived_seed, global_norm, isolated, kept, kept_statistics, move, moved
from . import probing
from .auxiliary import Auxiliary
from .objectives import Agreement, Contrast, Entropy, Look, Objective, Reconstruction, Rotation
from .reading import gradients

FLOOR = 1e-8  # below this norm a gradient is rounding noise (entropy at a uniform prediction): no unit-length move


@part("ugr")
class UGR(Regularizer):
    """UGR (our reading): the target gradient is taken one label-free step ahead."""

    title = "UGR (our reading)"
    paper = "Zhu et al., ECCV 2024 Workshops (Green Foundation Models), doi 10.1007/978-3-031-92089-9_20"
    ours = ("our reading: the paper is public only as an abstract; the step rule, what moves, three of the five "
            "objectives, every default and the test-time recipe are ours")
    reads_images = True
    excludes: ClassVar[frozenset[str]] = frozenset({"linear"})
    excludes_why = "ugr moves the weights below the head, and a linear probe trains none"
    needs_if: ClassVar[dict[str, frozenset[str]]] = {"objective == 'rec'": frozenset({"tokens"})}
    checks: ClassVar[dict[str, str]] = {
        "K >= 1 or tta == 'none'": "K must be at least 1 when tta is 'episodic' or 'online'",
        "not im or objective in ('ent', 'agr')": "im belongs to objective='ent' or 'agr'",
        "not all4 or objective == 'rot'": "all4 belongs to objective='rot'",
        "tta == 'none' or control not in ('sam', 'lookahead')":
            "the controls 'sam' and 'lookahead' train no label-free objective, so tta must be 'none'",
        "tta == 'online' or reset_every == 0": "reset_every belongs to tta='online'",
        "tta != 'none' or rho_tta is None": "rho_tta belongs to tta='episodic' or 'online'",
    }
    search = {"ugr.rho": (0.1, 0.05, 0.2, 0.02, 0.5, 1.0)}

    objective: Annotated[Literal["ent", "rec", "rot", "con", "agr"], "the label-free loss L_u"] = "ent"
    rho: Annotated[float, ">= 0", "length of the look-ahead (unit), or its step size (raw)"] = 0.1
    mode: Annotated[Literal["unit", "raw"], "the step: g_u divided by its norm, or as it is"] = "unit"
    perturb: Annotated[Literal["peft", "all"], "what moves: trained weights without the head, or with it"] = "peft"
    u_batch: Annotated[Literal["same", "disjoint", "unlabelled"],
                       "L_u's images: the batch, the one before, or held-out images"] = "same"
    rho_warmup: Annotated[bool, "rho rises linearly over the warm-up of the learning rate"] = True
    im: Annotated[bool, "ent, agr: minus gamma times the entropy of the mean prediction"] = False
    gamma: Annotated[float, ">= 0", "weight of im"] = 1.0
    temperature: Annotated[float, "> 0", "ent, agr: logits are divided by it"] = 1.0
    ratio: Annotated[float, "> 0, <= 1", "rec: share of masked patches"] = 0.5
    all4: Annotated[bool, "rot: all four turns of every image"] = False
    tau: Annotated[float, "> 0", "con: temperature"] = 0.2
    threshold: Annotated[float, ">= 0, <= 1", "agr: least confidence of the weak view"] = 0.0
    control: Annotated[Literal["none", "random", "ascent", "sam", "lookahead", "joint", "noperturb"],
                       "a control in place of the method"] = "none"
    mu: Annotated[float, ">= 0", "joint: weight of L_u"] = 1.0
    tta: Annotated[Literal["none", "episodic", "online"], "adapt to a test batch: no, afresh, carried on"] = "none"
    K: Annotated[int, ">= 0", "steps at test time"] = 1
    rho_tta: Annotated[float | None, ">= 0", "their length; None: rho"] = None
    reset_every: Annotated[int, ">= 0", "online: back to the trained weights after so many batches; 0: never"] = 0

    def __post_init__(self) -> None:
        self.wants_holdout = self.u_batch == "unlabelled"  # type: ignore[misc]

    def attach(self, fit: Fit) -> None:
        self.chosen = self._objective()
        self.device = next(fit.model.parameters()).device
        self.auxiliary = Auxiliary(fit, self.chosen if self.control not in ("sam", "lookahead") else Objective())
        self.skipped = torch.zeros((), device=self.device)  # moves left out because g_u was not finite
        self.previous: Tensor | None = None
        self.start_split(fit)

    def _objective(self) -> Objective:
        made: dict[str, Objective] = {
            "ent": Entropy(self.im, self.gamma, self.temperature), "rec": Reconstruction(self.ratio),
            "rot": Rotation(self.all4), "con": Contrast(self.tau),
            "agr": Agreement(self.threshold, self.im, self.gamma, self.temperature)}
        return made[self.objective]

    def theta(self, fit: Fit) -> list[nn.Parameter]:
        """The weights that move."""
        return list((fit.trainable if self.perturb == "all" else fit.peft).values())

    def rho_now(self, fit: Fit) -> float:
        """rho at this step, after warm-up."""
        if not self.rho_warmup or not fit.warmup_steps:
            return self.rho
        return self.rho * min(1.0, (fit.step + 1) / fit.warmup_steps)

    def scale(self, rho: float, norm: Tensor) -> Tensor:
        """(): what g_u is multiplied by; zero where it is not finite, or in unit mode too small to have a direction."""
        factor = torch.full_like(norm, rho) if self.mode == "raw" else rho / norm
        usable = norm.isfinite() & ((norm > FLOOR) if self.mode == "unit" else norm.isfinite())
        return torch.where(usable, factor, 0.0)

    def steps(self, rho: float, g: list[Tensor]) -> list[Tensor]:
        """theta' - theta for a gradient: -rho s(g), all zero where g is not finite."""
        norm = global_norm(g)
        scale = self.scale(rho, norm)
        return [torch.where(norm.isfinite(), -scale.to(one.dtype) * one, 0.0) for one in g]

    def images(self, fit: Fit, batch: Batch) -> Tensor:
        """What L_u looks at."""
        if self.u_batch == "unlabelled":
            return next(fit.holdout).x.to(batch.x.device)
        x = self.previous if self.u_batch == "disjoint" and self.previous is not None else batch.x
        self.previous = batch.x if self.u_batch == "disjoint" else None
        return x

    def look(self, fit: Fit, x: Tensor, weights: list[nn.Parameter]) -> tuple[Look, list[Tensor], list[Tensor]]:
        """L_u and its gradients by the weights and by the auxiliary head; .grad and random streams stay untouched."""
        with torch.enable_grad(), kept_statistics(fit.model):
            look = self.chosen.look(fit, x, self.auxiliary.head)
            found = gradients(look.loss, [*weights, *self.auxiliary.weights])
        return look, found[:len(weights)], found[len(weights):]

    def grads(self, fit: Fit, batch: Batch, base: Loss) -> Terms:
        if self.control == "joint":
            return self._joint(fit, batch, base)
        rho = 0.0 if self.control == "noperturb" else self.rho_now(fit)
        if not rho and self.control != "noperturb":  # not even the random streams may differ from plain training
            return base(fit, batch)
        theta = self.theta(fit)
        if self.control in ("sam", "lookahead"):
            g, logs = self._target_gradient(fit, batch, base, theta)
            by_head: list[Tensor] = []
        else:
            with isolated(self.device, derived_seed(fit.seed, fit.step, "ugr")):
                x = self.images(fit, batch)
                look, g, by_head = self.look(fit, x, theta)
                logs = self._logs(fit, batch, look, x)
                if self.control == "random":
                    g = same_norm(g)
        norm = global_norm(g)
        steps = self.steps(-rho if self.control in ("ascent", "sam") else rho, g)
        self.skipped += ~norm.isfinite()
        with moved(theta, steps):
            terms = base(fit, batch)
        self.auxiliary.apply(by_head)
        return {**terms, **logs, "ugr_norm": norm, "ugr_move": global_norm(steps)}

    def _target_gradient(self, fit: Fit, batch: Batch, base: Loss,
                         theta: list[nn.Parameter]) -> tuple[list[Tensor], Terms]:
        """The target's own gradient; the random streams go back, so both passes drop the same paths."""
        with isolated(self.device), kept_statistics(fit.model):
            terms = base(fit, batch)
        g = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in theta]
        for p in fit.trainable.values():
            p.grad = None
        return g, {"loss_at_weights": terms["loss"].detach()}

    def _joint(self, fit: Fit, batch: Batch, base: Loss) -> Terms:
        weights = list(fit.trainable.values())
        with isolated(self.device, derived_seed(fit.seed, fit.step, "ugr")):
            look, g, by_head = self.look(fit, self.images(fit, batch), weights)
        terms = base(fit, batch)
        for p, extra in zip(weights, g, strict=True):
            p.grad = self.mu * extra if p.grad is None else p.grad + self.mu * extra
        self.auxiliary.apply(by_head)
        return {**terms, "ugr_loss": look.loss.detach()}

    def _logs(self, fit: Fit, batch: Batch, look: Look, x: Tensor) -> Terms:
        """The logged `loss` is the one at the moved weights; entropy's pass gives the one at the weights for free."""
        logs = {"ugr_loss": look.loss.detach()}
        if look.logits is not None and x is batch.x:
            logs["loss_at_weights"] = cross_entropy(fit, look.logits, batch.y)
        return logs

    def start_split(self, fit: Fit) -> None:
        """Test-time adaptation begins at these weights."""
        self.batches = 0
        self.trained = [p.detach().clone() for p in self.theta(fit)] if self.reset_every else []

    def predict(self, fit: Fit, x: Tensor, base: Predictor) -> Tensor:
        """Adapt on the batch, then predict it; online leaves its moves to the next batch, the evaluator undoes them."""
        rho = self.rho if self.rho_tta is None else self.rho_tta
        alone = len(x) == 1 and self.batches > 0 and (self.objective == "con" or self.im)  # the rest of a split
        if self.tta == "none" or self.K == 0 or rho == 0 or alone:
            return base(x)
        theta = self.theta(fit)
        if self.reset_every and self.batches and self.batches % self.reset_every == 0:
            with torch.no_grad():
                for p, value in zip(theta, self.trained, strict=True):
                    p.copy_(value)
        self.batches += 1
        with kept(theta) if self.tta == "episodic" else nullcontext():
            for k in range(self.K):
                with isolated(self.device, derived_seed(fit.seed, k, "ugr test time")):
                    _, g, _ = self.look(fit, x, theta)
                move(theta, self.steps(rho, g))
            return base(x)

    def probe(self, fit: Fit, batch: Batch) -> dict[str, float]:
        """On a fixed batch, in eval mode: agreement of the gradients, and the move's effect against its estimate."""
        untrained = self.control in ("sam", "lookahead") and self.objective not in ("ent", "agr")
        return {} if untrained else probing.ugr(fit, batch, self)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"auxiliary": self.auxiliary.state(), "skipped": self.skipped.clone()}
        return state if self.previous is None else {**state, "previous": self.previous}

    def restore(self, state: dict[str, Any]) -> None:
        self.auxiliary.restore(state["auxiliary"])
        self.skipped.copy_(state["skipped"])
        self.previous = state["previous"].to(self.device) if "previous" in state else None


def same_norm(g: list[Tensor]) -> list[Tensor]:
    """Gaussian directions with the norm of g."""
    noise = [torch.randn_like(one) for one in g]
    factor = global_norm(g) / global_norm(noise)
    return [factor.to(one.dtype) * one for one in noise]
