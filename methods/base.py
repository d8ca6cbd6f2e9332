"""The core types of a method: what the loop lends (Fit), what a part may override (Adapter, Regularizer, Constraint).

The step protocol is `loss` and `grads` (each receives the inner one and may call it zero, one or more times) plus
`after_step`; `finish` and `predict` are their counterparts after training and at evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .tasks import Classify, Task
from .views import View, plain_views

Feature = Literal["delta", "anchor", "tokens", "head"]
FEATURES: dict[str, str] = {
    "delta": "marked residual branches to perturb",
    "anchor": "a state that is the pre-trained function",
    "tokens": "patch tokens that can be read",
    "head": "a head that fits the classes before training",
}


class Batch:
    """x (B, 3, H, W) normalised, or token numbers (B, L) int64; y (B,) int64, or scores.

    index (B,) int64, position in the split, stable across epochs.

    `x` may be given as a function: the pixels are then made when something first reads them. `input` is what the model
    is handed for `x`: the pixels, or a stand-in without numbers where the engine answers from what it has stored.
    Who changes `x` in place is noticed, unless it goes through `.data` or numpy: change a clone.
    """

    __slots__ = ("_version", "_x", "index", "stand_in", "y")

    def __init__(self, x: Tensor | Callable[[], Tensor], y: Tensor, index: Tensor) -> None:
        self._x, self.y, self.index = x, y, index
        self.stand_in: Tensor | None = None
        self._version = _version(x)

    @property
    def x(self) -> Tensor:
        if callable(self._x):
            self._x = self._x()
            self._version = _version(self._x)
        return self._x

    @property
    def input(self) -> Tensor:
        return self.x if self.stand_in is None else self.stand_in

    def means(self, x: Tensor) -> bool:
        """Whether `x` is this batch's images, or stands for them, and nobody has changed them since they were made."""
        if callable(self._x):
            return x is self.stand_in
        return ((x is self._x or x is self.stand_in)
                and _version(self._x) == self._version and not self._x.requires_grad)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.x, self.y, self.index))

    def replace(self, **changes: Tensor) -> Batch:
        """The same batch with another `x`, `y` or `index`."""
        return Batch(**{"x": self.x, "y": self.y, "index": self.index} | changes)


def _version(x: object) -> int:
    """Grows with every change in place; inference tensors count none."""
    return x._version if isinstance(x, Tensor) and not x.is_inference() else 0


Terms = dict[str, Tensor]  # "loss" () is minimised, "logits" (B, C); everything else is logged
Predictor = Callable[[Tensor], Tensor]  # (B, 3, H, W) -> (B, C)


@dataclass
class Fit:
    """What the loop lends to the parts; it outlives no run."""

    model: nn.Module
    trainable: dict[str, nn.Parameter]  # requires_grad only, in model order, head included
    head: frozenset[str]  # names within `trainable` that belong to the new classification head
    anchor: dict[str, Tensor]  # pre-trained value of each trained weight that has one; of heads LP-FT's, zero-shot ones
    holdout: Iterator[Batch]  # endless, seeded, disjoint from training; empty when no part needs it
    steps: int  # of the whole run
    steps_per_epoch: int
    warmup_steps: int
    seed: int
    classes: int
    train_size: int  # images in the training list
    mean: Tensor  # (3,) what the inputs were normalised with
    std: Tensor  # (3,)
    lr: float
    weight_decay: float
    step: int = 0
    label_smoothing: float = 0.0
    precision: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)  # autocast for every forward
    adapter: Adapter | None = None
    undecayed: set[str] = field(default_factory=set)  # trained weights that a part shrinks in the optimizer's place
    image_size: int = 0  # pixels on a side; 0 where nobody has said it
    task: Task = field(default_factory=Classify)  # what the data set asks

    def forward(self, x: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C) logits in float32 at least, under the run's precision; `weights` stand in by name."""
        with self.precision():
            logits = functional_call(self.model, dict(weights), (x,)) if weights else self.model(x)
        return logits if logits.dtype == torch.float64 else logits.float()

    @property
    def peft(self) -> dict[str, nn.Parameter]:
        """The trainable weights without the head."""
        return {name: p for name, p in self.trainable.items() if name not in self.head}

    @property
    def views(self) -> list[View]:
        """What a weight constraint sees: each trained tensor or product with its pre-trained value."""
        found = self.adapter.views(self) if self.adapter else plain_views(self.trainable, self.anchor)
        seen = {view.name for view in found}  # an adapter that lists its own products does not know of an anchored head
        return found + plain_views({n: p for n, p in self.trainable.items() if n in self.head and n not in seen},
                                   self.anchor)


Objective = Callable[[Fit, Batch], Terms]


def cross_entropy(fit: Fit, logits: Tensor, y: Tensor) -> Tensor:
    """The loss of the run's task, (B, C) and (B,) -> (); where classes are asked, with the run's label smoothing."""
    return fit.task.loss(logits, y, fit.label_smoothing)


class Delta(nn.Module):
    """Marks a residual branch added by an adapter: forward returns what is added, (B, ..., D); depth is its block."""

    depth: int


class Part:
    """An adapter, regularizer or constraint. Its dataclass fields are its options; `attach` makes state."""

    title: ClassVar[str] = ""  # name in the paper
    paper: ClassVar[str] = ""  # authors, venue, arXiv number
    ours: ClassVar[str] = ""  # what is our reading or our own choice, printed wherever the part's results are shown
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {}  # for `tune`: (low, high, "log" or "linear"), or choices
    later: ClassVar[frozenset[str]] = frozenset()  # options that came later: at their default no record names them
    recipe: ClassVar[Mapping[str, Any]] = {}  # the published recipe: settings of the run, taken with --recipe paper
    recipe_from: ClassVar[str] = ""  # whose, "; " and how sure (certain, high, medium, low); or why none is stated

    def state(self) -> dict[str, Any]:
        """What a resumed run needs back: tensors, numbers, nested dicts of them."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take `state()` back after attach."""

    def report(self) -> dict[str, float]:
        """Numbers of this part for the run's record, after `finish` (WiSE's curve, TPGM's mean radius)."""
        return {}


class Adapter(Part):
    """Says which weights train, and weaves new ones into the backbone."""

    offers: ClassVar[frozenset[Feature]] = frozenset()
    families: ClassVar[frozenset[str]] = frozenset({"vit"})  # of backbones: vit, swin, resnet
    mergeable: ClassVar[bool] = False
    at_start: ClassVar[Literal["exact", "near", "never"]] = "exact"  # output against the pre-trained function
    formula: ClassVar[str] = ""  # trained weights without the head, in d (width), L (blocks) and the options
    frozen_backbone: ClassVar[bool] = False  # only read: held in eval mode; else it keeps the model's mode

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        """Freeze, weave, replace the head. What requires a gradient afterwards is what trains."""
        raise TypeError(f"{type(self).__name__} has no build")

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        """Optional data-dependent start (LP-FT's probe, LST's pruning)."""

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """Anchors that pre-training did not leave in the backbone itself (SSF: scale 1, shift 0)."""
        return {}

    def views(self, fit: Fit) -> list[View]:
        """What a weight constraint may shrink; LoRA's product has anchor zero and overrides this."""
        return plain_views(fit.trainable, fit.anchor)

    def rates(self, model: nn.Module) -> dict[str, float]:
        """Trained weights with a learning rate of their own: name -> factor of the run's rate (LoRA+: its B)."""
        return {}

    def frozen_blocks(self, model: nn.Module) -> int:
        """How many leading blocks cannot change during training; all of them and the final norm: depth + 1."""
        return 0

    def merge(self, model: nn.Module) -> nn.Module:
        """Fold the adapter into plain weights, in place; same function, the plain backbone's parameter names."""
        return model


class Regularizer(Part):
    """Changes the loss, the gradient, or the prediction."""

    needs: ClassVar[frozenset[Feature]] = frozenset()
    owns_forward: ClassVar[bool] = False  # runs the model itself and ignores `base` in loss: at most one, innermost
    wants_holdout: ClassVar[bool] = False
    outermost: ClassVar[bool] = False  # works on the gradient that all the others have made
    reads_images: ClassVar[bool] = False  # makes its own views of the images: stored features will not do

    def attach(self, fit: Fit) -> None:
        """Make state, once, after the model is built."""

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        return base(fit, batch)

    def grads(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        """Fill .grad of the trainable weights; the weights themselves must be as they were when it returns."""
        return base(fit, batch)

    def predict(self, fit: Fit, x: Tensor, base: Predictor) -> Tensor:
        return base(x)

    def start_split(self, fit: Fit) -> None:
        """Before the first batch of a split is predicted."""

    def probe(self, fit: Fit, batch: Batch) -> dict[str, float]:
        """Numbers to log at an evaluation, measured on a fixed validation batch; leaves no trace."""
        return {}


class Constraint(Part):
    """Changes the weights after each step, or once at the end."""

    needs: ClassVar[frozenset[Feature]] = frozenset()
    wants_holdout: ClassVar[bool] = False
    averages: ClassVar[bool] = False  # keeps a mean of the weights: the last after each step, the first to finish
    holdout_batch: ClassVar[int | None] = None  # held-out images at a time at most; None: as many as trained on

    def attach(self, fit: Fit) -> None:
        """Make state, once, after the model is built."""

    def after_step(self, fit: Fit) -> None:
        """After the optimizer's step; `.grad` is still that of the step."""

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        """Once, after the last step; `validate()` is the top-1 on the holdout images with the present weights."""
